//go:build integration

package integration

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/internal/embedded"
	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/internal/testhost/sim"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

const (
	batch = "batch.service"
	cups  = "cups.service"
)

// hasUnits adds what these tests' contracts are about, and a second way to run vLLM.
func hasUnits() testhost.Options {
	return testhost.Options{Units: []testhost.Unit{
		{Name: batch, Program: &testhost.Program{Comm: "batch"}},
		{Name: cups, Program: &testhost.Program{Comm: "cupsd"}},
		{
			Name: "vllm-fast.service", Slice: "ai.slice",
			Program: &testhost.Program{Comm: "vllm", UID: 990, Opens: []string{"renderD128"}},
		},
	}}
}

func active(t *testing.T, w *embedded.Workstation, unit string) bool {
	t.Helper()
	u, err := w.Unit(unit)
	require.NoError(t, err)
	return u.ActiveState == "active"
}

// awaitState waits, by the daemon's signals alone, until the published state is
// this, and returns what is published then.
func (c *watcher) awaitState(t *testing.T, state observer.State) busapi.Properties {
	t.Helper()
	ctx := bounded(t)
	for {
		p := c.properties(t)
		if p.View.Observation.State == state && p.View.Running == nil {
			return p
		}
		c.next(ctx, t, "the state "+string(state))
	}
}

// TestAForbiddenUnitDegradesAndARequestMends: from a unit's start to its name on
// everybody's screen and back.
func TestAForbiddenUnitDegradesAndARequestMends(t *testing.T) {
	t.Parallel()
	w := start(t, hasUnits(), func(p *policy.Policy) {
		p.Modes.Desktop.Forbidden, p.Modes.Desktop.StopForbidden = []string{batch}, true
		p.Modes.Desktop.Required = []string{cups}
	})
	c := watch(t, w)
	c.awaitState(t, "degraded-desktop")
	require.Contains(
		t, modectl(t, w, "status").stdout, "required-unit-not-active: cups.service does not run, which desktop requires",
	)
	require.Contains(
		t, modectl(t, w, "explain", "--why-not", "desktop").stdout, "cups.service must be running",
	)
	require.Zero(t, modectl(t, w, "request", "desktop").code)
	require.True(t, active(t, w, cups))
	c.awaitState(t, "desktop")

	require.NoError(t, w.StartUnit(batch, "replace"))
	p := c.awaitState(t, "degraded-desktop")
	require.Equal(t, "forbidden-unit-active", p.View.Observation.Reasons[0].Code)
	require.Equal(t, observer.True, p.View.Observation.Facts.Is(observer.UnitSignal(batch)))
	require.False(t, p.View.Converged())
	require.Zero(t, modectl(t, w, "request", "desktop").code)
	require.False(t, active(t, w, batch))
	require.True(t, active(t, w, cups))
	c.awaitState(t, "desktop")

	explained := modectl(t, w, "explain", "desktop").stdout
	for _, text := range []string{
		"must run      cups.service", "batch.service", "stops those that the policy forbids", "vLLM          profile off",
	} {
		require.Contains(t, explained, text)
	}
}

// TestWhatTheContractNeedsIsThereAfterIsolating: and a unit that fails to start is
// gone back from.
func TestWhatTheContractNeedsIsThereAfterIsolating(t *testing.T) {
	t.Parallel()
	w := start(t, hasUnits(), func(p *policy.Policy) {
		p.Modes.Desktop.Required, p.Modes.Compute.Required = []string{cups}, []string{cups, batch}
		shorten(slow, &p.Timeouts.Verify)
	})
	require.Zero(t, modectl(t, w, "request", "desktop").code)
	require.NoError(t, w.Fail(batch))
	require.Equal(t, 53, modectl(t, w, "request", "compute").code)
	requireHost(t, w, policy.Desktop)
	require.True(t, active(t, w, cups), "isolating stopped it, and going back started it again")
	require.NoError(t, w.Heal(batch))
	reach(t, w, policy.Compute)
	require.True(t, active(t, w, cups) && active(t, w, batch))
	require.NoError(t, w.Mask(cups))
	require.NoError(t, w.StopUnit(cups, "replace"))
	require.NoError(t, w.WaitUnit(bounded(t), cups, "inactive"))
	require.Equal(t, 18, modectl(t, w, "request", "compute").code, "it is masked")
	require.Equal(t, 50, modectl(t, w, "request", "desktop").code, "the way to desktop is open, and ends degraded")
	requireHost(t, w, policy.Desktop)
}

// TestABootDoesNotHangOnAUnit: the desktop is there, and says what it lacks.
func TestABootDoesNotHangOnAUnit(t *testing.T) {
	t.Parallel()
	host := hasUnits()
	host.DefaultTarget = "graphical.target"
	for i := range host.Units {
		if host.Units[i].Name == cups {
			host.Units[i].LoadError = true
		}
	}
	w := start(t, host, func(p *policy.Policy) {
		p.Modes.Desktop.Required = []string{cups, batch}
		shorten(slow, &p.Timeouts.Verify)
	})
	p := watch(t, w).awaitState(t, "degraded-desktop")
	require.Equal(t, []string{"required-unit-not-active"}, codes(p.View.Observation.Reasons))
	require.Contains(t, p.View.Observation.Reasons[0].Text, cups)
	require.True(t, active(t, w, batch))
	requireHost(t, w, policy.Desktop)
}

// TestWhatWasStoppedForTheStudioComesBackWithIt: a way that fails leaves what it
// found.
func TestWhatWasStoppedForTheStudioComesBackWithIt(t *testing.T) {
	t.Parallel()
	w := start(t, hasUnits(), func(p *policy.Policy) {
		p.Modes.StudioLocal.Forbidden, p.Modes.StudioLocal.StopForbidden = []string{batch}, true
		p.Modes.StudioLocal.Required = []string{cups}
	})
	require.NoError(t, w.StartUnit(batch, "replace"))
	require.NoError(t, w.WaitUnit(bounded(t), batch, "active"))
	require.NoError(t, w.Fail("audio-priority.service"))
	require.Equal(t, 53, modectl(t, w, "request", "studio-local").code)
	requireHost(t, w, policy.Desktop)
	require.True(t, active(t, w, batch) && !active(t, w, cups))
	require.NoError(t, w.Heal("audio-priority.service"))
	reach(t, w, policy.StudioLocal)
	require.True(t, !active(t, w, batch) && active(t, w, cups))
}

// TestComputeRunsInThePolicysProfile: although its target brings the default along,
// and from another one that serves, once it is drained.
func TestComputeRunsInThePolicysProfile(t *testing.T) {
	t.Parallel()
	w := start(t, hasUnits(), func(p *policy.Policy) {
		p.VLLM.Profiles = map[string]policy.Profile{"default": {Unit: "vllm.service"}, "fast": {Unit: "vllm-fast.service"}}
		p.Modes.Compute.VLLMProfile = "fast"
	})
	c := watch(t, w)
	require.Zero(t, modectl(t, w, "request", "compute").code)
	require.True(t, active(t, w, "vllm-fast.service"))
	require.False(t, active(t, w, "vllm.service"))
	require.Contains(t, modectl(t, w, "current", "--json").stdout, `"ai_profile": "fast"`)

	reload(t, w, func(p *policy.Policy) { p.Modes.Compute.VLLMProfile = policy.ProfileDefault })
	p := c.awaitState(t, "degraded-compute")
	require.Equal(t, "vllm-other-profile", p.View.Observation.Reasons[0].Code)
	w.VLLM().SetLoad(1, 0)
	asked := background(t, w.ModectlCommand(bounded(t), "request", "compute"))
	c.awaitStep(t, "drain-vllm", "doing")
	require.True(t, active(t, w, "vllm-fast.service"), "it serves")
	w.VLLM().SetLoad(0, 0)
	require.Zero(t, soon(t, "an answer", asked).code)
	require.False(t, active(t, w, "vllm-fast.service"))
	requireHost(t, w, policy.Compute)
	reach(t, w, policy.Desktop)
}

// TestAStudioThatIsPlacedElsewhere: a reload degrades it while it is on, and only
// the way to desktop is open.
func TestAStudioThatIsPlacedElsewhere(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{}, nil)
	c := watch(t, w)
	reach(t, w, policy.StudioLocal)
	reload(t, w, func(p *policy.Policy) { p.Placement.Studio = policy.Remote })
	p := c.awaitState(t, "degraded-studio-local")
	require.Equal(t, "studio-externalized", p.View.Observation.Reasons[0].Code)
	require.Equal(t, policy.Remote, p.View.Placement["studio"])
	before := hostOf(w)
	for _, mode := range []string{"studio-local", "compute"} {
		require.Equal(t, 19, modectl(t, w, "request", mode).code)
	}
	require.Equal(t, before, hostOf(w))
	require.Contains(t, modectl(t, w, "status").stdout, "elsewhere   studio is remote")
	require.Contains(t, modectl(t, w, "explain", "studio-local").stdout, "placement.studio is remote and must be local")
	reach(t, w, policy.Desktop)
	placement := filepath.Join(w.Policy.Paths.Runtime, "capability-placement.json")
	require.JSONEq(t, `{"studio":"remote","ai":"local"}`, readFile(t, placement))
	reach(t, w, policy.Compute)
}

// TestTheTopologyIsTold: on disk, as a property, with a signal when it changes, and
// by modectl.
func TestTheTopologyIsTold(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{SecondGPU: true}, nil)
	c := watch(t, w)
	file := filepath.Join(w.Policy.Paths.Runtime, "hardware-topology.json")
	topology := decode[observer.Topology](t, readFile(t, file))
	require.Equal(t, []string{"0000:01:00.0", "0000:41:00.0"}, topology.Present)
	require.Equal(t, topology.Present, c.properties(t).View.Topology.Present)

	reload(t, w, func(p *policy.Policy) {
		p.GPU.Display, p.GPU.AI = []string{"0000:01:00.0"}, []string{"0000:41:00.0", "0000:81:00.0"}
		p.GPU.Planned = []string{"0000:81:00.0"}
	})
	announced := c.announced(t, "Topology")
	require.Equal(t, []string{"0000:81:00.0"}, announced.Missing)
	require.Equal(t, []string{"0000:41:00.0", "0000:81:00.0"}, announced.AI[policy.Compute])
	require.Contains(t, modectl(t, w, "status").stdout, "missing GPU 0000:81:00.0")
	status := decode[struct{ Topology observer.Topology }](t, modectl(t, w, "status", "--json").stdout)
	require.Equal(t, decode[observer.Topology](t, readFile(t, file)), status.Topology)
	requireHost(t, w, policy.Desktop)
}

// announced waits until a property is announced with a value that was not there
// before.
func (c *watcher) announced(t *testing.T, name string) (topology observer.Topology) {
	t.Helper()
	ctx := bounded(t)
	for {
		select {
		case s := <-c.signals:
			if s.Name != busapi.PropertiesInterface+".PropertiesChanged" {
				continue
			}
			if _, there := s.Body[1].(map[string]dbus.Variant)[name]; there {
				return c.properties(t).View.Topology
			}
		case <-ctx.Done():
			require.FailNow(t, "it was not announced: "+name)
		}
	}
}

// TestAGPUThatIsOnlyPlannedBreaksNothing: compute is entered and degraded without
// it, and whole where policy says that one is enough.
func TestAGPUThatIsOnlyPlannedBreaksNothing(t *testing.T) {
	t.Parallel()
	planned := func(p *policy.Policy) {
		p.GPU.Display, p.GPU.AI = []string{"0000:01:00.0"}, []string{"0000:01:00.0", "0000:41:00.0"}
		p.GPU.Planned = []string{"0000:41:00.0"}
	}
	w := start(t, testhost.Options{}, func(p *policy.Policy) { planned(p); shorten(slow, &p.Timeouts.Verify) })
	c := watch(t, w)
	require.Equal(t, 50, modectl(t, w, "request", "compute").code)
	requireHost(t, w, policy.Compute)
	p := c.awaitState(t, "degraded-compute")
	require.Equal(t, []string{"ai-gpu-missing"}, codes(p.View.Observation.Reasons))
	require.Contains(t, p.View.Observation.Reasons[0].Text, "0000:41:00.0")

	reload(t, w, func(p *policy.Policy) { planned(p); p.GPU.MinAI = 1 })
	p = c.awaitState(t, "compute")
	require.Equal(t, []string{"planned-gpu-missing"}, codes(p.View.Observation.Conflicts), "it is told all the same")
	reload(t, w, func(p *policy.Policy) { planned(p); p.GPU.Planned = []string{} })
	c.awaitState(t, "degraded-compute")
	reach(t, w, policy.Desktop)
	require.Equal(t, 19, modectl(t, w, "request", "compute").code, "one that is not planned has to be there")
}

func codes(reasons []observer.Reason) []string {
	var list []string
	for _, r := range reasons {
		list = append(list, r.Code)
	}
	return list
}

// TestVLLMRunsOnceAfterACrash: whatever the moment at which the daemon dies between
// two profiles, the next one leaves at most one of them running, and says truly
// which.
func TestVLLMRunsOnceAfterACrash(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"drain-vllm", "stop-vllm", "start-vllm-fast"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			w := start(t, hasUnits(), func(p *policy.Policy) {
				p.VLLM.Profiles = map[string]policy.Profile{"default": {Unit: "vllm.service"}, "fast": {Unit: "vllm-fast.service"}}
			})
			c := watch(t, w)
			reach(t, w, policy.Compute)
			reload(t, w, func(p *policy.Policy) { p.Modes.Compute.VLLMProfile = "fast" })
			c.awaitState(t, "degraded-compute")
			w.VLLM().SetLoad(1, 0)
			hangs := map[string]string{"stop-vllm": "vllm.service", "start-vllm-fast": "vllm-fast.service"}
			if unit := hangs[step]; unit != "" {
				w.VLLM().SetLoad(0, 0)
				require.NoError(t, w.Hang(unit))
			}
			background(t, w.ModectlCommand(bounded(t), "request", "compute"))
			c.awaitStep(t, step, "doing")
			require.NoError(t, w.KillDaemon())
			for _, unit := range hangs {
				require.NoError(t, w.Heal(unit))
			}
			w.VLLM().SetLoad(0, 0)
			require.NoError(t, w.StartDaemon(bounded(t)))
			last := c.settled(t).View.Last
			require.NotNil(t, last)
			require.Equal(t, "interrupted", string(last.Result))
			require.NoError(t, w.Wait(bounded(t), "one vLLM is left", func(m *sim.Model) bool {
				return len(slices.DeleteFunc([]string{"vllm.service", "vllm-fast.service"}, func(unit string) bool {
					u, err := m.Unit(unit)
					return err != nil || u.ActiveState == "inactive"
				})) <= 1
			}))
			require.Zero(t, modectl(t, w, "request", "compute").code)
			require.True(t, active(t, w, "vllm-fast.service"))
			require.False(t, active(t, w, "vllm.service"))
		})
	}
}
