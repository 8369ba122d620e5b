//go:build integration

package integration

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/internal/embedded"
	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/internal/testhost/sim"
	"github.com/dubnium/dubnium/internal/vllmstandin"
	"github.com/dubnium/dubnium/policy"
)

// asking is a policy with a hook; what it does is up to the unit of the simulation.
func asking(p *policy.Policy) {
	p.Sessions.EndHook = []string{"true"}
	shorten(hopeless, &p.Sessions.EndTimeout, &p.Sessions.TerminateTimeout)
}

// stepOf is how a step of the last transition went.
func stepOf(t *testing.T, w *embedded.Workstation, c *watcher, id string) status.Step {
	t.Helper()
	for _, s := range c.settled(t).View.Last.Steps {
		if s.ID == id {
			return s
		}
	}
	require.Fail(t, "the last transition has no such step", "%s: %s", id, modectl(t, w, "last-transition").stdout)
	return status.Step{}
}

// TestAHookIsRunAndTheSessionIsEndedAllTheSame: one that works, that fails, that hangs
// and that is not there, before a session that ignores what it is asked.
func TestAHookIsRunAndTheSessionIsEndedAllTheSame(t *testing.T) {
	t.Parallel()
	const unit = "dubnium-session-end@1000.service"
	for name, c := range map[string]struct {
		fault testhost.Fault
		masks bool
		says  string
	}{
		"that works": {}, "that fails": {fault: testhost.Fault{FailStart: true}, says: "job failed (exit-code)"},
		"that hangs":        {fault: testhost.Fault{HangStart: true}, says: "it took longer than 800ms"},
		"that is not there": {masks: true, says: "masked"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			graphical := make(chan bool, 1)
			var w *embedded.Workstation
			host := testhost.Options{Units: []testhost.Unit{{Name: "dubnium-session-end@.service", Oneshot: true, OnActive: func(m *sim.Model) {
				dm, err := m.Unit("greetd.service")
				graphical <- err == nil && dm.ActiveState == "active"
			}}}}
			w = start(t, host, asking)
			watcher := watch(t, w)
			editSession(t, w, func(s *testhost.Session) { s.IgnoresTerm = true })
			if c.masks {
				require.NoError(t, w.Mask(unit))
			} else {
				require.NoError(t, w.SetFault(unit, c.fault))
			}
			a := modectl(t, w, "request", "compute")
			require.Zero(t, a.code, a.stderr)
			requireHost(t, w, policy.Compute)
			step := stepOf(t, w, watcher, "ask-sessions")
			if c.says == "" {
				require.Equal(t, status.StepDone, step.Status)
				require.True(t, soon(t, "the hook", graphical), "the display manager would take the session along")
				return
			}
			require.Equal(t, status.StepFailed, step.Status)
			require.Contains(t, step.Error, c.says)
			require.Contains(t, a.stdout, "step ask-sessions, failed", "whoever asked is told")
			u, err := w.Unit(unit)
			require.NoError(t, err)
			require.Contains(t, []string{"inactive", "failed"}, u.ActiveState, "nothing of it runs on")
		})
	}
}

// TestTheHookGetsThePolicyInForceAndTheSession: the program, as alice, by what the
// daemon wrote down.
func TestTheHookGetsThePolicyInForceAndTheSession(t *testing.T) {
	t.Parallel()
	runtime, err := os.MkdirTemp("/tmp", "run")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(runtime)) })
	require.NoError(t, os.Chmod(runtime, 0o777))
	for _, name := range []string{"bus", "wayland-1"} {
		l, err := net.Listen("unix", filepath.Join(runtime, name))
		require.NoError(t, err)
		t.Cleanup(func() { _ = l.Close() })
		require.NoError(t, os.Chmod(filepath.Join(runtime, name), 0o777))
	}
	w := start(t, testhost.Options{}, func(p *policy.Policy) {
		p.Sessions.EndHook = []string{"sh", "-c", "id -u; echo $WAYLAND_DISPLAY $DBUS_SESSION_BUS_ADDRESS; exit 3"}
	})
	inForce := filepath.Join(w.Policy.Paths.Runtime, "policy.toml")
	require.NoError(t, os.Chmod(filepath.Dir(w.Policy.Paths.Runtime), 0o755))
	out, errs, code, err := embedded.Run(
		as(alice, w.Program(bounded(t), "dubniumd", "session-end", "--policy", inForce, "--runtime", runtime)),
	)
	require.NoError(t, err)
	require.Equal(t, 3, code, errs)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if os.Geteuid() == 0 {
		require.Equal(t, "1000", lines[0])
	}
	require.Equal(t, "wayland-1 unix:path="+filepath.Join(runtime, "bus"), lines[1])

	reload(t, w, func(p *policy.Policy) { p.Sessions.EndHook = []string{} })
	_, errs, code, err = embedded.Run(
		w.Program(bounded(t), "dubniumd", "session-end", "--policy", inForce, "--runtime", runtime),
	)
	require.NoError(t, err)
	require.NotZero(t, code)
	require.Contains(t, errs, "the policy has no sessions.end_hook")
}

// TestACompositorUnderTheUserManagerIsEnded: logind keeps her user manager for longer
// than anybody waits.
func TestACompositorUnderTheUserManagerIsEnded(t *testing.T) {
	t.Parallel()
	w := start(
		t, testhost.Options{UserStopTakes: time.Hour},
		func(p *policy.Policy) { shorten(hopeless, &p.Sessions.ManagerTimeout) },
	)
	c := watch(t, w)
	w.AddProcess(testhost.Process{
		Comm: "Hyprland", UID: alice, Opens: []string{"card0", "renderD128"},
		Cgroup: "/user.slice/user-1000.slice/user@1000.service/session.slice/wayland-wm@hyprland.service",
	})
	reach(t, w, policy.Compute)
	step := stepOf(t, w, c, "end-user-managers")
	require.Len(t, step.Notes, 1)
	require.Contains(t, step.Notes[0], "user@1000.service was stopped")
	require.NotContains(t, step.Notes[0], "Hyprland", "what everybody may read tells of nobody's processes")
	require.Contains(t, modectl(t, w, "last-transition").stdout, "user@1000.service was stopped")
}

// TestAWorkerThatOutlivesVLLM: it is found, named and ended, or the transition goes
// back, since vLLM would have to share its GPU.
func TestAWorkerThatOutlivesVLLM(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{}, func(p *policy.Policy) { shorten(slow, &p.Timeouts.Unit, &p.Timeouts.GPURelease) })
	c := watch(t, w)
	reach(t, w, policy.Compute)
	require.NoError(t, w.SetFault("vllm.service", testhost.Fault{Unkillable: true}))
	a := modectl(t, w, "request", "desktop")
	require.Equal(t, 53, a.code, a.stdout)
	require.Contains(t, a.stdout, "vllm.service has stopped, but vllm (pid ")
	requireHost(t, w, policy.Compute)

	require.NoError(t, w.SetFault("vllm.service", testhost.Fault{LeavesWorker: true}))
	a = modectl(t, w, "request", "desktop")
	require.Zero(t, a.code, a.stdout)
	require.Contains(t, a.stdout, "outlived vllm.service with 0000:01:00.0, and vllm.service was killed")
	requireHost(t, w, policy.Desktop)
	require.Equal(t, status.StepDone, stepOf(t, w, c, "stop-vllm").Status)
	for _, p := range w.Processes() {
		require.NotEqual(t, "vllm", p.Comm)
	}
}

// TestVLLMAsInstancesOfATemplate: one that nobody named is seen, told and stopped.
func TestVLLMAsInstancesOfATemplate(t *testing.T) {
	t.Parallel()
	program := testhost.Program{Comm: "vllm", UID: 990, Opens: []string{"renderD128"}}
	w := start(t, testhost.Options{
		Units: []testhost.Unit{{Name: "vllm@.service", Slice: "ai.slice", Program: &program}},
	}, func(p *policy.Policy) {
		p.VLLM.Profiles["fast"] = policy.Profile{Unit: "vllm@fast.service"}
		p.Modes.Compute.VLLMProfile = "fast"
	})
	c := watch(t, w)
	require.Zero(t, modectl(t, w, "request", "compute").code)
	c.awaitState(t, "compute")
	require.True(t, active(t, w, "vllm@fast.service"))
	require.False(t, active(t, w, "vllm.service"))
	require.NoError(t, w.StartUnit("vllm@stray.service", "replace"))
	p := c.awaitState(t, "degraded-compute")
	require.Contains(t, codes(p.View.Observation.Reasons), "vllm-other-profile")
	require.Contains(t, modectl(t, w, "current", "--json").stdout, `"ai_profile": "fast+stray"`)
	require.Zero(t, modectl(t, w, "request", "compute").code)
	require.True(t, active(t, w, "vllm@fast.service"))
	require.False(t, active(t, w, "vllm@stray.service"))
	c.awaitState(t, "compute")
	reach(t, w, policy.Desktop)
	require.False(t, active(t, w, "vllm@fast.service"))
}

// TestHowFarAModelIsLoadedIsTold: to whoever follows, and to whoever asks.
func TestHowFarAModelIsLoadedIsTold(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{VLLM: vllmstandin.Options{HealthyAfter: time.Second}}, nil)
	c := watch(t, w)
	asked := background(t, w.ModectlCommand(bounded(t), "request", "compute"))
	told := c.await(
		t, "progress",
		func(e status.Event) bool { return e.Progress != nil && strings.HasPrefix(e.Progress.Text, "loading") },
	)
	require.Equal(t, "await-vllm-healthy", told.Progress.Step)
	require.Equal(t, "loading, 0 s of 30 s", told.Progress.Text)
	if running := c.properties(t).View.Running; running != nil && running.Step == "await-vllm-healthy" {
		require.Contains(t, running.Progress, "s of 30 s")
	}
	require.Zero(t, soon(t, "an answer", asked).code)
}
