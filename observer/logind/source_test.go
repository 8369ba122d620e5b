package logind_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/busconn"
	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/internal/testhost/hosttest"
	"github.com/dubnium/dubnium/internal/testhost/sim"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/observer/logind"
)

// watched is a source on a simulated host, with its watch running.
type watched struct {
	t      *testing.T
	host   *testhost.Host
	bus    *busconn.Bus
	source *logind.Source
	pokes  chan struct{}
	ended  chan error
	cancel func()
}

func watch(t *testing.T, opts testhost.Options) *watched {
	t.Helper()
	h := hosttest.Start(t, opts)
	bus, err := busconn.Dial(h.Address())
	require.NoError(t, err)
	t.Cleanup(func() { bus.Close() })
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	w := &watched{
		t: t, host: h, bus: bus, source: logind.New(bus), pokes: make(chan struct{}, 1), ended: make(chan error, 1),
		cancel: cancel,
	}
	go func() {
		w.ended <- w.source.Watch(ctx, func() {
			select {
			case w.pokes <- struct{}{}:
			default:
			}
		})
	}()
	<-w.pokes // it is in place
	return w
}

func (w *watched) look() observer.Logind {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	var s observer.Snapshot
	w.source.Read(ctx).Into(&s)
	return s.Logind
}

// until looks after each poke, and only then, until what it sees is right.
func (w *watched) until(right func(observer.Logind) bool) observer.Logind {
	w.t.Helper()
	timeout := time.After(10 * time.Second)
	for {
		select {
		case <-w.pokes:
			if seen := w.look(); right(seen) {
				return seen
			}
		case <-timeout:
			require.FailNow(w.t, "no poke led to the right look", "%+v", w.look())
		}
	}
}

func TestRead(t *testing.T) {
	w := watch(t, testhost.Options{})
	seen := w.look()
	require.True(t, seen.Known(), seen.Reason)
	graphical := seen.Graphical()
	require.Len(t, graphical, 1)
	alice, _ := w.host.SessionOf("user")
	require.Equal(t, observer.Session{
		ID: alice.ID, UID: 1000, User: "alice", Class: "user", Type: "wayland", State: "active", Seat: "seat0",
		Scope: alice.Scope, Service: "greetd", Leader: uint32(alice.Leader), Since: time.UnixMicro(alice.Since.UnixMicro()),
	}, graphical[0])
	require.Empty(t, seen.Greeters())
}

func TestSessionSignals(t *testing.T) {
	w := watch(t, testhost.Options{})
	alice, _ := w.host.SessionOf("user")
	require.NoError(t, w.host.EditSession(alice.ID, func(s *testhost.Session) { s.Stuck = true }))
	bob := w.host.AddSession(testhost.Session{Class: "user", Type: "tty", User: "bob", UID: 1001, Remote: true})
	has := func(l observer.Logind, id string) bool {
		return slices.ContainsFunc(l.Sessions, func(s observer.Session) bool { return s.ID == id })
	}
	seen := w.until(func(l observer.Logind) bool { return has(l, bob) })
	require.Len(t, seen.Graphical(), 1, "bob came over ssh")
	require.NoError(t, w.host.Logout(alice.ID))
	w.until(func(l observer.Logind) bool { return len(l.Graphical()) == 1 && l.Graphical()[0].State == "closing" })
	require.NoError(t, w.host.Logout(bob))
	w.until(func(l observer.Logind) bool { return !has(l, bob) })
}

func TestNoSessions(t *testing.T) {
	w := watch(t, testhost.Options{DefaultTarget: "compute.target"})
	seen := w.look()
	require.True(t, seen.Known(), seen.Reason)
	require.Empty(t, seen.Graphical())
	require.Empty(t, seen.Greeters())
}

func TestInhibitors(t *testing.T) {
	w := watch(t, testhost.Options{})
	require.Empty(t, w.look().Inhibitors)
	release := w.host.AddInhibitor(sim.Inhibitor{
		What: "shutdown:sleep", Who: "apt", Why: "packages are being installed", Mode: "block", UID: 0, PID: 77,
	})
	seen := w.until(func(l observer.Logind) bool { return len(l.Inhibitors) == 1 })
	require.Equal(t, observer.Inhibitor{
		What: "shutdown:sleep", Who: "apt", Why: "packages are being installed", Mode: "block", PID: 77,
	}, seen.Inhibitors[0])
	release()
	w.until(func(l observer.Logind) bool { return len(l.Inhibitors) == 0 })
}

func TestSleepAndShutdown(t *testing.T) {
	w := watch(t, testhost.Options{})
	w.host.PrepareForSleep(true)
	seen := w.until(func(l observer.Logind) bool { return l.Sleeping })
	require.Zero(t, seen.WokenAt)
	before := time.Now()
	w.host.PrepareForSleep(false)
	seen = w.until(func(l observer.Logind) bool { return !l.Sleeping && !l.WokenAt.IsZero() })
	require.False(t, seen.WokenAt.Before(before))
	w.host.PrepareForShutdown(true)
	w.until(func(l observer.Logind) bool { return l.ShuttingDown })
	w.host.PrepareForShutdown(false)
	w.until(func(l observer.Logind) bool { return !l.ShuttingDown })
}

func TestLockedSession(t *testing.T) {
	w := watch(t, testhost.Options{})
	alice, _ := w.host.SessionOf("user")
	require.NoError(t, w.host.EditSession(alice.ID, func(s *testhost.Session) { s.LockedHint, s.IdleHint = true, true }))
	w.until(func(l observer.Logind) bool {
		g := l.Graphical()
		return len(g) == 1 && g[0].Locked && g[0].Idle
	})
}

// Anybody may send signals that look like logind's.
func TestForgedSignals(t *testing.T) {
	w := watch(t, testhost.Options{})
	alice, _ := w.host.SessionOf("user")
	forger := hosttest.Connect(t, w.host)
	manager := "org.freedesktop.login1.Manager"
	for _, s := range []struct {
		path          dbus.ObjectPath
		iface, member string
		body          []any
	}{
		{"/org/freedesktop/login1", manager, "SessionRemoved", []any{alice.ID, testhost.SessionPath(alice.ID)}},
		{"/org/freedesktop/login1", manager, "SessionRemoved", []any{}},
		{testhost.SessionPath(alice.ID), "org.freedesktop.DBus.Properties", "PropertiesChanged", []any{
			"org.freedesktop.login1.Session", map[string]dbus.Variant{"State": dbus.MakeVariant("closing")}, []string{},
		}},
	} {
		headers := map[dbus.HeaderField]dbus.Variant{
			dbus.FieldPath: dbus.MakeVariant(s.path), dbus.FieldInterface: dbus.MakeVariant(s.iface),
			dbus.FieldMember: dbus.MakeVariant(s.member), dbus.FieldDestination: dbus.MakeVariant(w.bus.UniqueName()),
		}
		if len(s.body) > 0 {
			headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(s.body...))
		}
		forger.Send(&dbus.Message{Type: dbus.TypeSignal, Headers: headers, Body: s.body}, nil)
	}
	require.NoError(t, forger.BusObject().Call("org.freedesktop.DBus.GetId", 0).Err)
	w.look() // its replies arrive behind the forged signals
	require.Empty(t, w.pokes)
	require.Len(t, w.look().Graphical(), 1)
}

func TestSessionEndsDuringRead(t *testing.T) {
	w := watch(t, testhost.Options{})
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			id := w.host.AddSession(testhost.Session{Class: "user", Type: "tty", User: "bob", UID: 1001})
			_ = w.host.Logout(id)
		}
	}()
	for range 50 {
		seen := w.look()
		require.True(t, seen.Known(), seen.Reason)
		require.Len(t, seen.Graphical(), 1)
	}
	close(stop)
	<-done
}

func TestWatchEnds(t *testing.T) {
	w := watch(t, testhost.Options{})
	w.cancel()
	require.NoError(t, <-w.ended)

	w = watch(t, testhost.Options{})
	require.NoError(t, w.bus.Close())
	require.ErrorIs(t, <-w.ended, busconn.ErrDisconnected)
	seen := w.look()
	require.False(t, seen.Known())
	require.Contains(t, seen.Reason, "logind cannot be read: cannot list sessions: the connection to the bus is gone")
}
