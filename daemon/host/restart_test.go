package host_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/daemon/host"
	"github.com/dubnium/dubnium/internal/busconn"
	"github.com/dubnium/dubnium/internal/busconn/bustest"
	"github.com/dubnium/dubnium/plans"
	"github.com/dubnium/dubnium/policy"
)

// logind has one session until it is gone, and restarts.
type logind struct {
	gone  *atomic.Bool
	asked chan string
	// listing runs before sessions are listed, if there is one.
	listing func() *dbus.Error
}

func newLogind() logind { return logind{gone: new(atomic.Bool), asked: make(chan string, 10)} }

type loginRow struct {
	ID   string
	UID  uint32
	User string
	Seat string
	Path dbus.ObjectPath
}

func (l logind) ListSessions() ([]loginRow, *dbus.Error) {
	if l.listing != nil {
		if err := l.listing(); err != nil {
			return nil, err
		}
	}
	if l.gone.Load() {
		return []loginRow{}, nil
	}
	return []loginRow{{"1", 1000, "alice", "seat0", "/org/freedesktop/login1/session/_31"}}, nil
}

func (l logind) TerminateSession(id string) *dbus.Error {
	l.asked <- id
	return nil
}

func (l logind) GetAll(string) (map[string]dbus.Variant, *dbus.Error) {
	reference := func(first any) dbus.Variant {
		if uid, ok := first.(uint32); ok {
			return dbus.MakeVariant(struct {
				UID  uint32
				Path dbus.ObjectPath
			}{uid, "/"})
		}
		return dbus.MakeVariant(struct {
			Name string
			Path dbus.ObjectPath
		}{"seat0", "/"})
	}
	return map[string]dbus.Variant{
		"Id": dbus.MakeVariant("1"), "User": reference(uint32(1000)), "Name": dbus.MakeVariant("alice"),
		"Class": dbus.MakeVariant("user"), "Type": dbus.MakeVariant("wayland"), "State": dbus.MakeVariant("closing"),
		"Seat": reference("seat0"), "Scope": dbus.MakeVariant(""), "Service": dbus.MakeVariant(""),
		"Leader": dbus.MakeVariant(uint32(1)), "Remote": dbus.MakeVariant(false),
		"LockedHint": dbus.MakeVariant(false), "IdleHint": dbus.MakeVariant(false),
		"Timestamp": dbus.MakeVariant(uint64(0)),
	}, nil
}

// run puts logind on the bus.
func (l logind) run(t *testing.T, address string) *dbus.Conn {
	t.Helper()
	conn := bustest.Peer(t, address)
	l.export(t, conn)
	return conn
}

// export makes conn logind's.
func (l logind) export(t *testing.T, conn *dbus.Conn) {
	t.Helper()
	require.NoError(t, conn.Export(l, "/org/freedesktop/login1", "org.freedesktop.login1.Manager"))
	require.NoError(t, conn.ExportSubtree(l, "/org/freedesktop/login1", "org.freedesktop.DBus.Properties"))
	bustest.Own(t, conn, "org.freedesktop.login1")
}

func endSessions(t *testing.T, bus *busconn.Bus) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	ctx, handler := bounded(t), host.StepHandlers(bus, policy.Default(), host.Options{})[plans.EndSessions]
	go func() { done <- handler.Apply(ctx, ends(time.Minute)) }()
	return done
}

func TestLogindRestarts(t *testing.T) {
	address := bustest.Start(t)
	l := newLogind()
	first := l.run(t, address)
	done := endSessions(t, bustest.Connect(t, address))
	require.Equal(t, "1", <-l.asked)
	require.NoError(t, first.Close())
	l.gone.Store(true) // its session ended while it was away, without a signal
	l.run(t, address)
	require.NoError(t, receive(t, done))
}

// The bus may reply that the name has no owner, or that its owner left without a reply,
// and deliver the first signals of the next owner before the listener has noticed.
func TestLogindRestartsUnseen(t *testing.T) {
	for _, reply := range []string{"ServiceUnknown", "NoReply"} {
		t.Run(reply, func(t *testing.T) {
			address := bustest.Start(t)
			l := newLogind()
			var conn *dbus.Conn
			first := true
			l.listing = func() *dbus.Error {
				if !first {
					return nil
				}
				first = false
				l.gone.Store(true)
				require.NoError(t, conn.Emit("/org/freedesktop/login1", "org.freedesktop.login1.Manager.SessionRemoved",
					"1", dbus.ObjectPath("/org/freedesktop/login1/session/_31")))
				return dbus.NewError("org.freedesktop.DBus.Error."+reply, []any{"gone"})
			}
			conn = bustest.Peer(t, address)
			l.export(t, conn)
			require.NoError(t, receive(t, endSessions(t, bustest.Connect(t, address))))
		})
	}
}

func TestLogindAway(t *testing.T) {
	address := bustest.Start(t)
	l := newLogind()
	first := l.run(t, address)
	bus := bustest.Connect(t, address)
	bus.SetAbsence(10 * time.Millisecond)
	done := endSessions(t, bus)
	<-l.asked
	require.NoError(t, first.Close())
	require.ErrorContains(t, receive(t, done), "org.freedesktop.login1 has left the bus")
}
