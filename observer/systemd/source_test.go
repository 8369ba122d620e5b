package systemd_test

import (
	"context"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/busconn"
	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/internal/testhost/hosttest"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/observer/systemd"
	"github.com/dubnium/dubnium/plans"
	"github.com/dubnium/dubnium/policy"
)

// watched is a source on a simulated host, with its watch running.
type watched struct {
	t      *testing.T
	host   *testhost.Host
	bus    *busconn.Bus
	source *systemd.Source
	pokes  chan struct{}
	ended  chan error
}

func watch(t *testing.T, opts testhost.Options) *watched {
	t.Helper()
	h := hosttest.Start(t, opts)
	bus, err := busconn.Dial(h.Address())
	require.NoError(t, err)
	t.Cleanup(func() { bus.Close() })
	w := &watched{
		t: t, host: h, bus: bus, source: systemd.New(bus, plans.Watched, policy.Default()),
		pokes: make(chan struct{}, 1), ended: make(chan error, 1),
	}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
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

func (w *watched) look() observer.Systemd {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	var s observer.Snapshot
	w.source.Read(ctx).Into(&s)
	return s.Systemd
}

func (w *watched) glance() observer.Systemd {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	var s observer.Snapshot
	w.source.ReadChanged(ctx).Into(&s)
	return s.Systemd
}

// until glances after each poke, and only then, until what it sees is right.
func (w *watched) until(right func(observer.Systemd) bool) observer.Systemd {
	w.t.Helper()
	timeout := time.After(10 * time.Second)
	for {
		select {
		case <-w.pokes:
			if seen := w.glance(); right(seen) {
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
	require.Equal(t, "running", seen.State)

	desktop := seen.Units["desktop.target"]
	require.True(t, desktop.Loaded() && desktop.Active() && desktop.AllowIsolate, "%+v", desktop)
	require.Len(t, desktop.InvocationID, 32)

	manager := seen.Units["display-manager.service"]
	require.Equal(t, "greetd.service", manager.ID, "an alias keeps the name it was asked by")
	require.True(t, manager.Active())

	require.True(t, seen.Units["vllm.service"].Down())
	require.Empty(t, seen.Units["vllm.service"].InvocationID, "it never ran")

	none := seen.Units["mode-prepare-compute.service"]
	require.Equal(t, "not-found", none.LoadState)
	require.True(t, none.Down())
}

func TestUnitResult(t *testing.T) {
	w := watch(t, testhost.Options{})
	require.NoError(t, w.host.SetFault("vllm.service", testhost.Fault{FailStart: true}))
	require.NoError(t, w.host.StartUnit("vllm.service", "replace"))
	seen := w.until(func(s observer.Systemd) bool { return s.Units["vllm.service"].ActiveState == "failed" })
	require.Equal(t, "exit-code", seen.Units["vllm.service"].Result)
	require.Empty(t, seen.Units["desktop.target"].Result)
}

// readByAGlance lists the objects of systemd that a glance asks after vllm.service
// has signalled.
func (w *watched) readByAGlance() map[dbus.ObjectPath]bool {
	w.t.Helper()
	w.look()
	require.NoError(w.t, w.host.SetActive("vllm.service", "active"))
	<-w.pokes

	monitor := hosttest.Connect(w.t, w.host)
	calls := make(chan *dbus.Message, 1000)
	require.NoError(w.t, monitor.BusObject().Call("org.freedesktop.DBus.Monitoring.BecomeMonitor", 0,
		[]string{"type='method_call',sender='" + w.bus.UniqueName() + "'"}, uint32(0)).Err)
	monitor.Eavesdrop(calls)
	defer monitor.Eavesdrop(nil) // closing the connection would close the channel under its sender
	require.True(w.t, w.glance().Units["vllm.service"].Active())
	_, err := w.bus.Call(w.t.Context(), "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus.GetId")
	require.NoError(w.t, err)
	read := map[dbus.ObjectPath]bool{}
	for call := range calls {
		if call.Headers[dbus.FieldMember].Value() == "GetId" {
			break
		}
		if path, _ := call.Headers[dbus.FieldPath].Value().(dbus.ObjectPath); path != "/org/freedesktop/DBus" {
			read[path] = true
		}
	}
	return read
}

func TestReadChanged(t *testing.T) {
	w := watch(t, testhost.Options{})
	require.Equal(t, map[dbus.ObjectPath]bool{testhost.UnitPath("vllm.service"): true}, w.readByAGlance())
	require.Equal(t, "running", w.glance().State)
}

// Until the manager has started, what it says is what everything waits for.
func TestReadChangedBoot(t *testing.T) {
	w := watch(t, testhost.Options{Booting: true})
	require.Equal(
		t, map[dbus.ObjectPath]bool{"/org/freedesktop/systemd1": true, testhost.UnitPath("vllm.service"): true},
		w.readByAGlance(),
	)
	require.NoError(t, w.host.FinishBoot())
	w.until(func(s observer.Systemd) bool { return s.State == "running" })
}

func TestReadChangedEqualsRead(t *testing.T) {
	w := watch(t, testhost.Options{})
	units := plans.Watched(policy.Default())
	seen := w.glance()
	changes := 0
	for i := range 3 * len(units) {
		unit, state := units[i%len(units)], []string{"active", "inactive", "failed"}[(i+i/len(units))%3]
		if seen.Units[unit].ActiveState == state || w.host.SetActive(unit, state) != nil { // some have no file
			continue
		}
		changes++
		seen = w.until(func(s observer.Systemd) bool { return s.Units[unit].ActiveState == state })
	}
	require.Greater(t, changes, 30)
	require.Equal(t, states(w.look()), states(seen))
}

// states is what does not differ from one run of the same units to the next.
func states(s observer.Systemd) map[string]string {
	of := map[string]string{}
	for name, u := range s.Units {
		of[name] = u.LoadState + " " + u.ActiveState + " " + u.UnitFile
	}
	return of
}

func TestUnitChangeSignals(t *testing.T) {
	w := watch(t, testhost.Options{})
	require.NoError(t, w.host.SetFault("vllm.service", testhost.Fault{HangStart: true}))
	require.NoError(t, w.host.StartUnit("vllm.service", "replace"))
	starting := w.until(func(s observer.Systemd) bool {
		return s.Units["vllm.service"].ActiveState == "activating" && s.Units["vllm.service"].Job != 0
	})
	require.NotZero(t, starting.Units["vllm.service"].Job, "the queued job is a fact")
	require.NoError(t, w.host.Heal("vllm.service"))
	w.until(func(s observer.Systemd) bool { u := s.Units["vllm.service"]; return u.Active() && u.Job == 0 })
	require.NoError(t, w.host.Crash("vllm.service", "oom-kill"))
	w.until(func(s observer.Systemd) bool { return s.Units["vllm.service"].ActiveState == "failed" })
}

func TestOtherUnitSilent(t *testing.T) {
	w := watch(t, testhost.Options{})
	for range 20 {
		require.NoError(t, w.host.SetActive("ssh.service", "inactive"))
		require.NoError(t, w.host.SetActive("ssh.service", "active"))
	}
	require.NoError(t, w.host.SetActive("vllm.service", "active"))
	w.until(func(s observer.Systemd) bool { return s.Units["vllm.service"].Active() })
	require.Empty(t, w.pokes)
}

func TestUnitAfterReload(t *testing.T) {
	w := watch(t, testhost.Options{})
	w.host.AddUnit(testhost.Unit{Name: "mode-prepare-compute.service", Oneshot: true, RemainAfterExit: true})
	require.NoError(t, w.host.EditUnit("mode-prepare-compute.service", func(*testhost.Unit) {}))
	w.until(func(s observer.Systemd) bool { return s.Units["mode-prepare-compute.service"].Loaded() })
	require.NoError(t, w.host.SetActive("mode-prepare-compute.service", "active"))
	w.until(func(s observer.Systemd) bool { return s.Units["mode-prepare-compute.service"].Active() })
}

func TestSetPolicy(t *testing.T) {
	w := watch(t, testhost.Options{Units: []testhost.Unit{{Name: "llm.service"}}})
	require.NotContains(t, w.look().Units, "llm.service")
	p := policy.Default()
	p.VLLM.Profiles = map[string]policy.Profile{policy.ProfileDefault: {Unit: "llm.service"}}
	w.source.SetPolicy(p)
	units := w.look().Units
	require.True(t, units["llm.service"].Loaded())
	require.NotContains(t, units, "vllm.service")
	<-w.pokes // the watch has moved
	require.NoError(t, w.host.SetActive("llm.service", "active"))
	for !w.glance().Units["llm.service"].Active() {
		<-w.pokes
	}
}

func TestBootEndSignals(t *testing.T) {
	w := watch(t, testhost.Options{Booting: true})
	require.Equal(t, "starting", w.look().State)
	require.NoError(t, w.host.FinishBoot())
	w.until(func(s observer.Systemd) bool { return s.State == "running" })
}

func TestMaskSignals(t *testing.T) {
	w := watch(t, testhost.Options{})
	require.NoError(t, w.host.Mask("compute.target"))
	w.until(func(s observer.Systemd) bool { return s.Units["compute.target"].LoadState == "masked" })
}

// The manager refuses to keep a masked unit loaded; all are followed all the same.
func TestMaskedUnitWatched(t *testing.T) {
	w := watch(t, testhost.Options{Units: []testhost.Unit{{Name: "mode-prepare-compute.service", Masked: true}}})
	require.Equal(t, "masked", w.look().Units["mode-prepare-compute.service"].LoadState)
	require.NoError(t, w.host.SetActive("vllm.service", "active"))
	w.until(func(s observer.Systemd) bool { return s.Units["vllm.service"].Active() })
}

// Anybody may send signals that look like systemd's.
func TestForgedSignals(t *testing.T) {
	w := watch(t, testhost.Options{})
	before := w.look()
	forger := hosttest.Connect(t, w.host)
	path, manager := dbus.ObjectPath("/org/freedesktop/systemd1"), "org.freedesktop.systemd1.Manager."
	for _, destination := range []string{"", w.bus.UniqueName()} {
		for _, s := range []struct {
			path dbus.ObjectPath
			name string
			body []any
		}{
			{testhost.UnitPath("compute.target"), "org.freedesktop.DBus.Properties.PropertiesChanged", []any{
				"org.freedesktop.systemd1.Unit", map[string]dbus.Variant{"ActiveState": dbus.MakeVariant("active")}, []string{},
			}},
			{
				testhost.UnitPath("compute.target"), "org.freedesktop.DBus.Properties.PropertiesChanged",
				[]any{"org.freedesktop.systemd1.Unit"},
			},
			{path, manager + "JobRemoved", []any{uint32(1), dbus.ObjectPath("/"), "vllm.service", "done"}},
			{path, manager + "Reloading", []any{}},
			{path, manager + "StartupFinished", []any{"what"}},
			{path, manager + "UnitFilesChanged", []any{}},
		} {
			send(forger, destination, s.path, s.name, s.body...)
		}
	}
	require.NoError(t, forger.BusObject().Call("org.freedesktop.DBus.GetId", 0).Err)
	// What systemd itself says next arrives behind them all.
	require.NoError(t, w.host.SetActive("vllm.service", "active"))
	after := w.until(func(s observer.Systemd) bool { return s.Units["vllm.service"].Active() })
	require.Empty(t, w.pokes)
	require.Equal(t, before.Units["compute.target"], after.Units["compute.target"])
}

// send sends a signal to one connection or, with no destination, to all.
func send(from *dbus.Conn, destination string, path dbus.ObjectPath, name string, body ...any) {
	dot := len(name) - 1
	for name[dot] != '.' {
		dot--
	}
	headers := map[dbus.HeaderField]dbus.Variant{
		dbus.FieldPath: dbus.MakeVariant(path), dbus.FieldInterface: dbus.MakeVariant(name[:dot]),
		dbus.FieldMember: dbus.MakeVariant(name[dot+1:]),
	}
	if destination != "" {
		headers[dbus.FieldDestination] = dbus.MakeVariant(destination)
	}
	if len(body) > 0 {
		headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(body...))
	}
	from.Send(&dbus.Message{Type: dbus.TypeSignal, Headers: headers, Body: body}, nil)
}

func TestLostBus(t *testing.T) {
	w := watch(t, testhost.Options{})
	require.NoError(t, w.bus.Close())
	require.ErrorIs(t, <-w.ended, busconn.ErrDisconnected)
	seen := w.look()
	require.True(t, seen.WasRead())
	require.False(t, seen.Known())
	require.Contains(t, seen.Reason, "systemd cannot be read: ")
	require.Contains(t, seen.Reason, "the connection to the bus is gone")
	require.Empty(t, seen.Units)
}

func TestReadTimeout(t *testing.T) {
	w := watch(t, testhost.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var s observer.Snapshot
	w.source.Read(ctx).Into(&s)
	require.False(t, s.Systemd.Known())
	require.Contains(t, s.Systemd.Reason, "no reply from org.freedesktop.systemd1")
}

// An instance of the template that no policy names is found, and heard of when it is
// started: its name is not known before.
func TestTemplateInstances(t *testing.T) {
	p := policy.Default()
	w := watch(t, testhost.Options{Units: []testhost.Unit{{Name: "vllm@.service"}, {Name: "other@.service"}}})
	w.source.SetPolicy(p)
	require.NotContains(t, w.look().Units, "vllm@stray.service")
	p.VLLM.Profiles = map[string]policy.Profile{"fast": {Unit: "vllm@fast.service"}}
	w.source.SetPolicy(p)
	<-w.pokes // the watch is another
	require.NoError(t, w.host.StartUnit("vllm@stray.service", "replace"))
	require.NoError(t, w.host.StartUnit("other@stray.service", "replace"))
	w.glances(func(s observer.Systemd) bool { return s.Units["vllm@stray.service"].Active() })
	require.NotContains(t, w.look().Units, "other@stray.service")
	require.NoError(t, w.host.StopUnit("vllm@stray.service", "replace"))
	w.glances(func(s observer.Systemd) bool { return s.Units["vllm@stray.service"].Down() })
}

// glances until it sees it: a look would find what no signal told of.
func (w *watched) glances(seen func(observer.Systemd) bool) {
	w.t.Helper()
	for {
		var s observer.Snapshot
		w.source.ReadChanged(w.t.Context()).Into(&s)
		require.Empty(w.t, s.Systemd.Reason)
		if seen(s.Systemd) {
			return
		}
		select {
		case <-w.pokes:
		case <-time.After(10 * time.Second):
			require.FailNow(w.t, "it was not signalled")
		}
	}
}
