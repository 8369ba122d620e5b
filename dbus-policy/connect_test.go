package dbuspolicy_test

import (
	"strconv"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/rawbus"
	"github.com/dubnium/dubnium/internal/testhost"
)

// connectAs makes a connection as another user, which only root can.
func connectAs(t *testing.T, bus *testhost.Host, uid int) *dbus.Conn {
	socket, err := rawbus.DialSocket(bus.Address(), uid)
	require.NoError(t, err)
	conn, err := dbus.NewConn(socket)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(uid))}))
	require.NoError(t, conn.Hello())
	return conn
}
