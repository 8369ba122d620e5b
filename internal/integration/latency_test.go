//go:build integration

package integration

import (
	"slices"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/internal/embedded"
	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/internal/testhost/hosttest"
)

// bareSignal is what a bareClient says of each change.
const bareSignal = "org.dubnium.Test.Changed"

// bareClient does with a unit's signal the least that anybody can who looks before
// they speak: it reads the unit again, and sends a signal of its own. It shows what
// the bus, systemd and the machine cost, whatever the daemon does.
func bareClient(t *testing.T, w *embedded.Workstation, unit string) {
	t.Helper()
	conn := hosttest.Connect(t, w.Host)
	signals := make(chan *dbus.Signal, 100)
	conn.Signal(signals)
	require.NoError(
		t, conn.AddMatchSignal(dbus.WithMatchMember("PropertiesChanged"), dbus.WithMatchObjectPath(testhost.UnitPath(unit))),
	)
	object := conn.Object("org.freedesktop.systemd1", testhost.UnitPath(unit))
	go func() { // ends with the connection
		for range signals {
			var all map[string]dbus.Variant
			if object.Call(busapi.PropertiesInterface+".GetAll", 0, "org.freedesktop.systemd1.Unit").Store(&all) != nil ||
				conn.Emit("/test", bareSignal) != nil {
				return
			}
		}
	}()
}

// quantiles are of what took this long each time.
func quantiles(took []time.Duration) (p50, p99, slowest time.Duration) {
	slices.Sort(took)
	return took[len(took)/2], took[len(took)*99/100], took[len(took)-1]
}

// What the daemon adds to a signal of systemd's: one client hears both the change
// of a unit and, later, the StateChanged that the daemon made of it. In between
// are the daemon's look and two passes through the bus, as they are for a bare
// client, whose unit the daemon does not watch.
func TestAChangeOfTheHostIsToldSoon(t *testing.T) {
	w := start(t, testhost.Options{}, nil)
	const watched, unwatched, changes = "audio-priority.service", "ssh.service", 500
	conn := hosttest.Connect(t, w.Host)
	signals := make(chan *dbus.Signal, 100)
	conn.Signal(signals)
	// The host tells nothing of units as long as nobody asks it to.
	require.NoError(t, conn.Object("org.freedesktop.systemd1", "/org/freedesktop/systemd1").
		Call("org.freedesktop.systemd1.Manager.Subscribe", 0).Err)
	for _, unit := range []string{watched, unwatched} {
		require.NoError(
			t, conn.AddMatchSignal(dbus.WithMatchMember("PropertiesChanged"), dbus.WithMatchObjectPath(testhost.UnitPath(unit))),
		)
	}
	require.NoError(
		t, conn.AddMatchSignal(dbus.WithMatchMember("StateChanged"), dbus.WithMatchInterface(busapi.Interface)),
	)
	require.NoError(t, conn.AddMatchSignal(dbus.WithMatchMember("Changed"), dbus.WithMatchInterface("org.dubnium.Test")))
	bareClient(t, w, unwatched)

	ctx := bounded(t)
	heard := func(name string) time.Time {
		for {
			select {
			case s := <-signals:
				if s.Name == name {
					return time.Now()
				}
			case <-ctx.Done():
				require.FailNow(t, "nobody said "+name)
			}
		}
	}
	until := func(unit, state, reaction string) time.Duration {
		require.NoError(t, w.SetActive(unit, state))
		changed := heard("org.freedesktop.DBus.Properties.PropertiesChanged")
		return heard(reaction).Sub(changed)
	}
	var added, bare []time.Duration
	for i := range changes {
		bare = append(bare, until(unwatched, []string{"inactive", "active"}[i%2], bareSignal))
		added = append(added, until(watched, []string{"active", "inactive"}[i%2], busapi.Interface+".StateChanged"))
	}
	least, least99, _ := quantiles(bare)
	p50, p99, slowest := quantiles(added)
	t.Logf("a bare client adds p50 %s, p99 %s", least, least99)
	t.Logf("the daemon adds p50 %s, p99 %s, slowest %s: %.1f and %.1f times that", p50, p99, slowest,
		float64(p50)/float64(least), float64(p99)/float64(least99))
	t.Logf("beyond the bare client that is p50 %s, p99 %s", p50-least, p99-least99)
	// The marks are 1 ms and 5 ms beyond the bare client, on an idle machine. Here other
	// tests work beside it, and what slows the daemon slows the bare client just as much.
	require.Less(t, p50-least, max(time.Millisecond, 2*least), "half of the changes")
	require.Less(t, p99-least99, max(5*time.Millisecond, 10*least99), "nearly all changes")
}

// A burst of real signals is a few classifications, and one truth at its end.
func TestABurstOfSignalsIsAFewStates(t *testing.T) {
	w := start(t, testhost.Options{}, nil)
	c := watch(t, w)
	const burst = 1000
	for i := range burst {
		require.NoError(t, w.SetActive("audio-priority.service", []string{"active", "inactive"}[i%2]))
	}
	require.NoError(t, w.SetActive("compute.target", "active")) // and the desktop's too: no such mode
	states := 0
	c.await(t, "the last change is seen", func(e status.Event) bool {
		if e.StateChanged != nil {
			states++
		}
		return e.StateChanged != nil && e.StateChanged.New == "unknown"
	})
	t.Logf("%d changes, %d states told", burst, states)
	require.Less(t, states, burst)
}

// What it needs for its start and for whatever comes is bounded.
func TestTheDaemonIsSmall(t *testing.T) {
	const mark = 24 << 10 // KiB
	w := start(t, testhost.Options{}, nil)
	c := watch(t, w)
	small := func(after string) {
		t.Helper()
		now := resident(t, w)
		t.Logf("%s: %d KiB resident", after, now)
		require.Less(t, now, mark, after)
	}
	small("ready")
	for i := range 1000 {
		require.NoError(t, w.SetActive("audio-priority.service", []string{"active", "inactive"}[i%2]))
	}
	require.NoError(t, w.SetActive("compute.target", "active"))
	c.await(t, "the last change is seen", func(e status.Event) bool {
		return e.StateChanged != nil && e.StateChanged.New == "unknown"
	})
	small("1,000 changes")
	require.Equal(t, "unknown\n", modectl(t, w, "current").stdout, "it is alive, and knows what it knew")
}
