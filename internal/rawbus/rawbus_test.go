package rawbus_test

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/busconn/bustest"
	"github.com/dubnium/dubnium/internal/rawbus"
)

func dial(t *testing.T, address string, uid int) *rawbus.Conn {
	t.Helper()
	conn, err := rawbus.Dial(address, uid)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, conn.Close()) })
	return conn
}

// listen returns what waits for the next signal a.b.C. The bus itself sends others.
func listen(receiver *dbus.Conn) (next func() *dbus.Signal) {
	signals := make(chan *dbus.Signal, 8)
	receiver.Signal(signals)
	return func() *dbus.Signal {
		for s := range signals {
			if s.Name == "a.b.C" {
				return s
			}
		}
		return nil // the connection has ended
	}
}

// What is encoded here is what another implementation reads.
func TestValuesAreReadAsTheyWereMeant(t *testing.T) {
	address := bustest.Start(t)
	receiver := bustest.Peer(t, address)
	next := listen(receiver)
	sender := dial(t, address, rawbus.Self)
	for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
		m := rawbus.NewSignal(receiver.Names()[0], "/a", "a.b", "C")
		m.Order = order
		require.NoError(t, sender.Send(m.With(
			rawbus.Value{Type: "y", Bits: 7}, rawbus.Value{Type: "n", Bits: math.MaxUint64}, rawbus.Uint32(70_000), rawbus.Uint64(1<<40),
			rawbus.Bool(true), rawbus.Double(-0.5), rawbus.String("é"), rawbus.Path("/x"), rawbus.Signature("a{sv}"),
			rawbus.Dict(rawbus.Option("k", rawbus.Array("s", rawbus.String("v")))), rawbus.Array("t"),
			rawbus.Struct(rawbus.Uint32(1), rawbus.Uint64(2)), rawbus.Variant(rawbus.Array("ai")),
		)))
		require.Equal(t, []any{
			byte(7), int16(-1), uint32(70_000), uint64(1 << 40), true, -0.5, "é", dbus.ObjectPath("/x"), dbus.ParseSignatureMust("a{sv}"),
			map[string]dbus.Variant{"k": dbus.MakeVariant([]string{"v"})},
			[]uint64{},
			[]any{uint32(1), uint64(2)},
			dbus.MakeVariant([][]int32{}),
		}, next().Body)
	}
}

func TestDescriptorsArrive(t *testing.T) {
	address := bustest.Start(t)
	receiver := bustest.Peer(t, address)
	next := listen(receiver)
	theirs, ours, err := os.Pipe()
	require.NoError(t, err)
	defer theirs.Close()
	signal := rawbus.NewSignal(receiver.Names()[0], "/a", "a.b", "C").With(rawbus.Value{Type: "h"})
	require.NoError(t, dial(t, address, rawbus.Self).SendDescriptors(signal, int(ours.Fd())))
	require.NoError(t, ours.Close())
	arrived := os.NewFile(uintptr(next().Body[0].(dbus.UnixFD)), "the other end")
	_, err = arrived.WriteString("x")
	require.NoError(t, err)
	require.NoError(t, arrived.Close())
	n, err := theirs.Read(make([]byte, 2))
	require.NoError(t, err)
	require.Equal(t, 1, n)
}

func TestAnErrorIsReadWithItsNameAndText(t *testing.T) {
	conn := dial(t, bustest.Start(t), rawbus.Self)
	r, err := conn.Ask(rawbus.NewCall("org.example.Nobody", "/", "a.b", "C"))
	require.NoError(t, err)
	require.Equal(t, rawbus.Error, r.Type)
	require.Equal(t, "org.freedesktop.DBus.Error.ServiceUnknown", r.ErrorName)
	require.Contains(t, r.Text, "org.example.Nobody")
	require.Equal(t, rawbus.BusName, r.Sender)
}

func TestTheBusTakesTheConnectionForThatUsers(t *testing.T) {
	uid := os.Geteuid()
	address := bustest.Start(t)
	if uid == 0 { // only root can connect as somebody else
		uid = 65534
		openToAll(t, address)
	}
	conn := dial(t, address, uid)
	r, err := conn.Ask(
		rawbus.NewCall(
			rawbus.BusName, rawbus.BusPath, rawbus.BusName, "GetConnectionUnixUser",
		).With(rawbus.String(conn.Name())),
	)
	require.NoError(t, err)
	require.Equal(t, "u", r.Signature, r.Text)
	require.EqualValues(t, uid, r.Order.Uint32(r.Body))
}

// openToAll lets other users reach the bus's socket.
func openToAll(t *testing.T, address string) {
	t.Helper()
	path, _, _ := strings.Cut(strings.TrimPrefix(address, "unix:path="), ",")
	require.NoError(t, os.Chmod(filepath.Dir(path), 0o755))
}

func TestWhoCannotConnectIsToldWhy(t *testing.T) {
	_, err := rawbus.Dial("tcp:host=localhost", rawbus.Self)
	require.ErrorContains(t, err, "it is no path of a socket")
	_, err = rawbus.Dial("unix:path=/nowhere", rawbus.Self)
	require.ErrorContains(t, err, "cannot connect to /nowhere")
}
