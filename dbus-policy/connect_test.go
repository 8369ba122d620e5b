package dbuspolicy_test

import (
	"fmt"
	"net"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dubnium/dubnium/internal/testhost"
)

// connectAs makes a connection as another user, which only root can. The bus
// takes the user from the socket, so it is enough that one thread is that user
// while it connects.
func connectAs(t *testing.T, bus *testhost.Host, uid int) *dbus.Conn {
	_, path, found := strings.Cut(bus.Address(), "unix:path=")
	require.True(t, found)
	path, _, _ = strings.Cut(path, ",")
	socket, err := dialAs(path, uid)
	require.NoError(t, err)
	conn, err := dbus.NewConn(socket)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(uid))}))
	require.NoError(t, conn.Hello())
	return conn
}

func dialAs(path string, uid int) (conn net.Conn, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Never unlocked: the thread ends with the goroutine, so that nobody else
		// runs as that user. The raw call changes this thread only.
		runtime.LockOSThread()
		keep := ^uintptr(0)
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, keep, uintptr(uid), keep); errno != 0 {
			err = fmt.Errorf("cannot become uid %d: %w", uid, errno)
			return
		}
		conn, err = net.Dial("unix", path)
	}()
	<-done
	return conn, err
}
