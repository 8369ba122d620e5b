package sim

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func workstation(t *testing.T, edit ...func(*Config)) *Model {
	t.Helper()
	cfg := Config{
		Units: Workstation(), DefaultTarget: "desktop.target", HoldBoot: "plymouth-quit-wait.service",
		Login: Seat(), Start: time.Unix(1_700_000_000, 0),
	}
	for _, e := range edit {
		e(&cfg)
	}
	m, err := New(cfg)
	require.NoError(t, err)
	return m
}

func pass(m *Model, d time.Duration) { m.RunUntil(m.Now().Add(d)) }

func state(t *testing.T, m *Model, name string) string {
	t.Helper()
	u, err := m.Unit(name)
	require.NoError(t, err)
	return u.ActiveState
}

func refusedAs(t *testing.T, err error, name string) {
	t.Helper()
	var e *Error
	require.True(t, errors.As(err, &e), "%v", err)
	require.Equal(t, name, e.Name, e.Text)
}

// record keeps what happened as one word an event.
func record(m *Model) *[]string {
	var log []string
	m.SetSink(func(e Event) {
		switch e := e.(type) {
		case JobNew:
			log = append(log, fmt.Sprintf("new %s/%s", e.Job.Unit, e.Job.Type))
		case JobRemoved:
			log = append(log, fmt.Sprintf("removed %s/%s %s", e.Job.Unit, e.Job.Type, e.Result))
		case UnitChanged:
			log = append(log, e.Unit.Name+" "+e.Unit.ActiveState)
		case SessionNew:
			log = append(log, "session+ "+e.Session.Class)
		case SessionRemoved:
			log = append(log, "session- "+e.Session.Class)
		}
	})
	return &log
}

func sessionOf(m *Model, class string) *Session {
	for _, s := range m.Sessions() {
		if s.Class == class {
			return &s
		}
	}
	return nil
}

func TestBootsIntoTheDesktopWithAliceLoggedIn(t *testing.T) {
	m := workstation(t)
	require.Equal(t, "running", m.SystemState())
	for _, name := range []string{
		"desktop.target", "graphical.target", "multi-user.target", "greetd.service", "k3s.service",
		"fstrim.timer", "user@1000.service", "session-2.scope", "dubniumd.service", "polkit.service",
	} {
		require.Equal(t, "active", state(t, m, name), name)
	}
	for _, name := range []string{"compute.target", "vllm.service", "studio-local-policy.service"} {
		require.Equal(t, "inactive", state(t, m, name), name)
	}
	require.Empty(t, m.Jobs())
	require.NotNil(t, sessionOf(m, "user"))
	require.Nil(t, sessionOf(m, "greeter"))
	require.True(t, slices.ContainsFunc(m.Processes(), func(p Process) bool {
		return p.Comm == "sway" && p.Cgroup == "/user.slice/user-1000.slice/session-2.scope"
	}))
}

func TestIsolateReturnsWhileUnitsAreStillStopping(t *testing.T) {
	m := workstation(t)
	require.NoError(t, m.Edit("greetd.service", func(u *Unit) { u.StopTakes = time.Second }))
	id, err := m.Enqueue("compute.target", "start", "isolate")
	require.NoError(t, err)
	require.NotZero(t, id)
	pass(m, 0)
	require.Equal(t, "active", state(t, m, "compute.target"))
	require.Equal(t, "deactivating", state(t, m, "greetd.service"))
	pass(m, 2*time.Second)
	for name, want := range map[string]string{
		"greetd.service": "inactive", "graphical.target": "inactive", "desktop.target": "inactive",
		"k3s.service": "active", "vllm.service": "active", "polkit.service": "active", "fstrim.timer": "active",
		"session-2.scope": "active", "user@1000.service": "active", "dubniumd.service": "active", "dbus.service": "active",
	} {
		require.Equal(t, want, state(t, m, name), name)
	}
}

func TestIsolateReachesWhatRequiresACasualtyEvenIfItIgnoresIsolate(t *testing.T) {
	m := workstation(t)
	m.AddUnit(Unit{Name: "loose.service"})
	m.AddUnit(Unit{Name: "tied.service", IgnoreOnIsolate: true, Requires: []string{"loose.service"}})
	m.AddUnit(Unit{Name: "free.service", IgnoreOnIsolate: true})
	m.AddUnit(Unit{Name: "kept.socket", IgnoreOnIsolate: true, Triggers: []string{"kept.service"}})
	m.AddUnit(Unit{Name: "kept.service"})
	names := []string{"loose.service", "tied.service", "free.service", "kept.socket", "kept.service"}
	for _, name := range names {
		require.NoError(t, m.SetActive(name, "active"))
	}
	_, err := m.Enqueue("compute.target", "start", "isolate")
	require.NoError(t, err)
	pass(m, 0)
	got := make([]string, len(names))
	for i, name := range names {
		got[i] = state(t, m, name)
	}
	require.Equal(t, []string{"inactive", "inactive", "active", "active", "active"}, got)
}

func TestRequestsAreRefusedUnderSystemdsNames(t *testing.T) {
	m := workstation(t)
	m.AddUnit(Unit{Name: "needs-missing.target", AllowIsolate: true, Requires: []string{"missing.service"}})
	m.AddUnit(Unit{Name: "wants-missing.target", Wants: []string{"missing.service"}})
	m.AddUnit(Unit{Name: "manual.service", RefuseManualStart: true})
	require.NoError(t, m.Mask("compute.target", true))
	for name, c := range map[string]struct{ unit, job, mode, want string }{
		"no file":                 {"missing.service", "start", "replace", ErrNoSuchUnit},
		"requires no file":        {"needs-missing.target", "start", "replace", ErrNoSuchUnit},
		"masked":                  {"compute.target", "start", "isolate", ErrUnitMasked},
		"no isolation":            {"basic.target", "start", "isolate", ErrNoIsolation},
		"isolate to stop":         {"greetd.service", "stop", "isolate", ErrInvalidArgs},
		"unknown mode":            {"greetd.service", "stop", "quickly", ErrInvalidArgs},
		"only by dependency":      {"manual.service", "start", "replace", ErrOnlyByDependency},
		"cannot reload":           {"greetd.service", "reload", "replace", ErrNotApplicable},
		"scopes cannot start":     {"session-2.scope", "start", "replace", ErrNotApplicable},
		"not a unit name":         {"greetd", "start", "replace", ErrInvalidArgs},
		"two needs that conflict": {"torn.target", "start", "replace", ErrConflicting},
	} {
		t.Run(name, func(t *testing.T) {
			m.AddUnit(Unit{Name: "torn.target", Requires: []string{"a.service", "b.service"}})
			m.AddUnit(Unit{Name: "a.service", Conflicts: []string{"b.service"}})
			m.AddUnit(Unit{Name: "b.service"})
			before := len(m.Jobs())
			_, err := m.Enqueue(c.unit, c.job, c.mode)
			refusedAs(t, err, c.want)
			require.Len(t, m.Jobs(), before, "a refusal changes nothing")
		})
	}
	_, err := m.Enqueue("wants-missing.target", "start", "replace")
	require.NoError(t, err)
}

func TestModeFailRefusesToReverseAQueuedJob(t *testing.T) {
	m := workstation(t)
	require.NoError(t, m.SetFault("greetd.service", Fault{HangStop: true}))
	_, err := m.Enqueue("greetd.service", "stop", "replace")
	require.NoError(t, err)
	pass(m, time.Second)
	_, err = m.Enqueue("graphical.target", "start", "fail")
	refusedAs(t, err, ErrDestructive)
	require.Contains(t, err.Error(), "greetd.service has 'stop' job queued")

	_, err = m.Enqueue("greetd.service", "start", "replace")
	require.NoError(t, err)
	pass(m, time.Second)
	require.Equal(t, "deactivating", state(t, m, "greetd.service"), "a canceled stop has still begun")
	require.NoError(t, m.SetFault("greetd.service", Fault{}))
	pass(m, time.Second)
	require.Equal(t, "active", state(t, m, "greetd.service"))
}

func TestAUnitHasChangedBeforeItsJobIsRemoved(t *testing.T) {
	m := workstation(t)
	log := record(m)
	_, err := m.Enqueue("greetd.service", "stop", "replace")
	require.NoError(t, err)
	require.Equal(t, []string{"new greetd.service/stop", "greetd.service active"}, *log, "nothing is done in the call")
	pass(m, 0)
	require.Equal(t, []string{
		"new greetd.service/stop", "greetd.service active", "greetd.service deactivating",
		"greetd.service inactive", "greetd.service inactive", "removed greetd.service/stop done",
	}, *log)
}

func TestJobFaultsEndAsTheRealOnes(t *testing.T) {
	for name, c := range map[string]struct {
		fault               Fault
		result, unit, state string
	}{
		"fails":     {Fault{FailStart: true}, "failed", "exit-code", "failed"},
		"times out": {Fault{TimeoutStart: true}, "timeout", "timeout", "failed"},
	} {
		t.Run(name, func(t *testing.T) {
			m := workstation(t)
			m.AddUnit(Unit{Name: "user.service", Requires: []string{"vllm.service"}, After: []string{"vllm.service"}})
			require.NoError(t, m.SetFault("vllm.service", c.fault))
			log := record(m)
			_, err := m.Enqueue("user.service", "start", "replace")
			require.NoError(t, err)
			pass(m, time.Second)
			u, err := m.Unit("vllm.service")
			require.NoError(t, err)
			require.Equal(t, c.state, u.ActiveState)
			require.Equal(t, c.unit, u.Result)
			require.Contains(t, *log, "removed vllm.service/start "+c.result)
			require.Contains(t, *log, "removed user.service/start dependency")
			require.Equal(t, "degraded", m.SystemState())
			require.NoError(t, m.ResetFailed("vllm.service"))
			require.Equal(t, "running", m.SystemState())
		})
	}
}

func TestBootIsStartingUntilItsJobsAreDone(t *testing.T) {
	m := workstation(t, func(c *Config) { c.Booting, c.DefaultTarget = true, "graphical.target" })
	require.Equal(t, "starting", m.SystemState())
	require.Equal(t, "inactive", state(t, m, "graphical.target"))
	require.Equal(t, "active", state(t, m, "k3s.service"))
	require.NotEmpty(t, m.Jobs())
	require.NoError(t, m.SetFault("plymouth-quit-wait.service", Fault{}))
	pass(m, time.Second)
	require.Equal(t, "running", m.SystemState())
	require.Equal(t, "active", state(t, m, "graphical.target"))
	require.Equal(t, "inactive", state(t, m, "desktop.target"))
}

func TestAGreeterComesBackUnlessTheDisplayManagerWasStopped(t *testing.T) {
	t.Run("session ends", func(t *testing.T) {
		m := workstation(t)
		require.NoError(t, m.TerminateSession("2"))
		pass(m, time.Second)
		require.NotNil(t, sessionOf(m, "greeter"))
		require.Nil(t, sessionOf(m, "user"))
		require.Equal(t, "inactive", state(t, m, "user@1000.service"))
	})
	t.Run("greetd stopped first", func(t *testing.T) {
		m := workstation(t)
		_, err := m.Enqueue("greetd.service", "stop", "replace")
		require.NoError(t, err)
		pass(m, time.Second)
		require.NotNil(t, sessionOf(m, "user"), "a user's session outlives the display manager")
		require.NoError(t, m.TerminateSession("2"))
		pass(m, time.Second)
		require.Empty(t, m.Sessions())
		require.Empty(t, m.Users())
	})
	t.Run("greeter goes with greetd", func(t *testing.T) {
		m := workstation(t, func(c *Config) { c.Login.AutoLogin = "" })
		require.NotNil(t, sessionOf(m, "greeter"))
		_, err := m.Enqueue("greetd.service", "stop", "replace")
		require.NoError(t, err)
		pass(m, time.Second)
		require.Empty(t, m.Sessions())
	})
	t.Run("restart logs alice in again", func(t *testing.T) {
		m := workstation(t)
		require.NoError(t, m.TerminateSession("2"))
		pass(m, time.Second)
		_, err := m.Enqueue("greetd.service", "restart", "replace")
		require.NoError(t, err)
		pass(m, time.Second)
		require.NotNil(t, sessionOf(m, "user"))
		require.Nil(t, sessionOf(m, "greeter"))
	})
}

func holders(m *Model, device string) string {
	var comms []string
	for _, p := range m.Processes() {
		if slices.Contains(p.Opens, device) {
			comms = append(comms, p.Comm)
		}
	}
	return strings.Join(comms, " ")
}

func TestAStubbornSessionHoldsTheDisplayUntilItIsKilled(t *testing.T) {
	m := workstation(t)
	require.Equal(t, "systemd systemd-logind sway", holders(m, "card0"))
	require.NoError(t, m.EditSession("2", func(s *Session) { s.IgnoresTerm = true }))
	require.NoError(t, m.TerminateSession("2"))
	pass(m, time.Minute)
	require.Equal(t, "closing", sessionOf(m, "user").State)
	require.Equal(t, "systemd systemd-logind sway", holders(m, "card0"))
	require.NoError(t, m.KillSession("2", "all", sigKill))
	pass(m, time.Second)
	require.Nil(t, sessionOf(m, "user"))
	require.Empty(t, holders(m, "card0"))
}

func TestAStuckSessionStaysClosing(t *testing.T) {
	m := workstation(t)
	require.NoError(t, m.EditSession("2", func(s *Session) { s.Stuck = true }))
	require.NoError(t, m.TerminateSession("2"))
	require.NoError(t, m.KillSession("2", "all", sigKill))
	pass(m, time.Hour)
	require.Equal(t, "closing", sessionOf(m, "user").State)
}

func TestSlicePropertiesAddUpAndReset(t *testing.T) {
	m := workstation(t)
	set := func(name string, value any) Setting { return Setting{name, value} }
	cpus := func() any {
		u, err := m.Unit("ai.slice")
		require.NoError(t, err)
		return u.Settings["AllowedCPUs"]
	}
	require.NoError(t, m.SetProperties("ai.slice", set("CPUWeight", uint64(50)), set("AllowedCPUs", []byte{0x0f})))
	u, err := m.Unit("ai.slice")
	require.NoError(t, err)
	require.Equal(t, uint64(50), u.Settings["CPUWeight"])
	require.NoError(t, m.SetProperties("ai.slice", set("AllowedCPUs", []byte{0xf0, 1})))
	require.Equal(t, []byte{0xff, 1}, cpus())
	require.NoError(t, m.SetProperties("ai.slice", set("AllowedCPUs", []byte{}), set("AllowedCPUs", []byte{2})))
	require.Equal(t, []byte{2}, cpus())
	refusedAs(t, m.SetProperties("ai.slice", set("AllowedCPUs", []byte{}), set("Slice", "x")), ErrPropertyReadOnly)
	require.Equal(t, []byte{2}, cpus(), "all or nothing")
	refusedAs(t, m.SetProperties("ai.slice", set("CPUWeight", "50")), ErrInvalidArgs)
	refusedAs(t, m.SetProperties("ai.slice", set("CPUWeight", uint64(10001))), ErrInvalidArgs)
}

func TestUnitsThatNothingRefersToAreNotInMemory(t *testing.T) {
	m := workstation(t)
	_, err := m.GetUnit("compute.target")
	require.NoError(t, err, "desktop.target conflicts with it")
	_, err = m.GetUnit("studio-local-policy.service")
	refusedAs(t, err, ErrNoSuchUnit)
	_, err = m.LoadUnit("studio-local-policy.service")
	require.NoError(t, err)
	_, err = m.GetUnit("studio-local-policy.service")
	require.NoError(t, err)
	require.NoError(t, m.RefUnit("desktop.target"))
	refusedAs(t, m.RefUnit("none.service"), ErrNoSuchUnit)
}

func TestSlicePathsNest(t *testing.T) {
	require.Equal(t, "/user.slice/user-1000.slice", slicePath("user-1000.slice"))
	require.Empty(t, slicePath("-.slice"))
}

// What a unit leaves in its control group when it stops can still be killed there
// (unit_kill, src/core/unit.c).
func TestAWorkerOutlivesItsUnitUntilItIsKilled(t *testing.T) {
	m := workstation(t)
	workers := func() (n int) {
		for _, p := range m.Processes() {
			if p.Comm == "vllm" {
				n++
			}
		}
		return n
	}
	require.NoError(t, m.SetActive("vllm.service", "active"))
	require.NoError(t, m.SetFault("vllm.service", Fault{LeavesWorker: true}))
	require.NoError(t, m.SetActive("vllm.service", "inactive"))
	require.Equal(t, 1, workers())
	require.NoError(t, m.Kill("vllm.service", sigTerm))
	require.Equal(t, 1, workers(), "it does not listen to that")
	require.NoError(t, m.Kill("vllm.service", sigKill))
	require.Zero(t, workers())
	require.Error(t, m.Kill("vllm.service", sigKill), "there is nothing left")
}
