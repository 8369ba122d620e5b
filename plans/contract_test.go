package plans

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// contracted is a policy whose modes ask for units of their own, with three ways
// to run vLLM.
func contracted() policy.Policy {
	p := policy.Default()
	p.Slices = policy.Slices{} // have tests of their own
	p.MustSurvive = []string{"sshd.service"}
	p.VLLM.Profiles["fast"] = policy.Profile{Unit: "vllm-fast.service"}
	p.VLLM.Profiles["small"] = policy.Profile{Unit: "vllm-small.service"}
	p.Modes.Desktop.Required, p.Modes.Desktop.Forbidden = []string{"cups.service", "backup.timer"},
		[]string{"batch.timer"}
	p.Modes.StudioLocal.Forbidden = []string{"cups.service", "batch.timer"}
	p.Modes.Compute.Required, p.Modes.Compute.Forbidden = []string{"batch.timer"}, []string{"cups.service"}
	p.Modes.Desktop.StopForbidden, p.Modes.StudioLocal.StopForbidden, p.Modes.Compute.StopForbidden = true, true, true
	p.Modes.Compute.VLLMProfile = "fast"
	return p
}

// of is a host under contracted, with these further units active.
func of(h host, more ...string) observer.Snapshot {
	s := h.snapshot()
	for _, name := range Watched(contracted()) {
		if _, seen := s.Systemd.Units[name]; !seen {
			s.Systemd.Units[name] = observer.Unit{ID: name, LoadState: "loaded", ActiveState: "inactive"}
		}
	}
	for _, name := range more {
		s.Systemd.Units[name] = observer.Unit{ID: name, LoadState: "loaded", ActiveState: "active"}
	}
	return s
}

var bareCompute = host{active: []string{"compute.target"}}

func TestPlansKeepTheContract(t *testing.T) {
	cases := map[string]struct {
		from   observer.Snapshot
		change func(*policy.Policy)
		to     policy.Mode
		want   []string
	}{
		"a desktop that keeps it needs nothing": {
			from: of(onDesktop, "cups.service", "backup.timer"), to: policy.Desktop, want: []string{},
		},
		"what is required is started, what is forbidden stopped": {
			from: of(onDesktop, "batch.timer", "backup.timer"), to: policy.Desktop, want: []string{
				"stop-batch.timer", "start-cups.service",
			},
		},
		"what is forbidden stays where the policy does not let it be stopped": {
			from: of(onDesktop, "batch.timer", "cups.service", "backup.timer"), to: policy.Desktop, want: []string{},
			change: func(p *policy.Policy) { p.Modes.Desktop.StopForbidden = false },
		},
		"the studio is quiet before it is the studio": {
			from: of(onDesktop, "cups.service"), to: policy.StudioLocal,
			want: []string{"stop-cups.service", "start-audio-priority", "start-studio-local-policy"},
		},
		"compute is isolated, and then asked for what it requires": {
			from: of(onDesktop, "cups.service", "batch.timer"), to: policy.Compute,
			want: []string{
				"stop-display-manager", "end-sessions", "check-graphical-session-absent", "check-gpu-display-released",
				"isolate-compute",
				"stop-cups.service", "start-batch.timer", "stop-another-vllm", "stop-another-vllm-small",
				"start-vllm-fast", "await-vllm-healthy",
			},
		},
		"compute that keeps it needs nothing": {
			from: of(bareCompute, "vllm-fast.service", "batch.timer"), to: policy.Compute, want: []string{},
		},
		"another profile is drained and stopped for the right one": {
			from: of(bareCompute, "vllm.service", "batch.timer"), to: policy.Compute,
			want: []string{"drain-vllm", "stop-vllm", "start-vllm-fast", "await-vllm-healthy"},
		},
		"another beside the right one is stopped": {
			from: of(
				bareCompute, "vllm-fast.service", "vllm-small.service", "batch.timer",
			), to: policy.Compute, want: []string{"drain-vllm", "stop-vllm-small"},
		},
		"all of vLLM is stopped for a desktop": {
			from: of(bareCompute, "vllm-fast.service", "vllm-small.service"), to: policy.Desktop,
			want: []string{
				"drain-vllm", "stop-vllm-fast", "stop-vllm-small", "check-gpu-display-released", "isolate-desktop",
				"start-cups.service", "start-backup.timer",
			},
		},
		"a desktop with a profile of its own has it started, and does not wait for it": {
			from: of(bareCompute, "vllm-fast.service"), to: policy.Desktop,
			change: func(p *policy.Policy) { p.Modes.Desktop.VLLMProfile = "small" },
			want: []string{
				"drain-vllm", "stop-vllm-fast", "check-gpu-display-released", "isolate-desktop",
				"start-cups.service", "start-backup.timer", "start-vllm-small",
			},
		},
		"the desktop's own is drained on the way to compute, before anything is taken": {
			from: of(onDesktop, "vllm-small.service"), to: policy.Compute,
			change: func(p *policy.Policy) { p.Modes.Desktop.VLLMProfile = "small" },
			want: []string{
				"drain-vllm", "stop-vllm-small",
				"stop-display-manager", "end-sessions", "check-graphical-session-absent", "check-gpu-display-released",
				"isolate-compute",
				"start-batch.timer", "stop-another-vllm", "stop-another-vllm-small", "start-vllm-fast",
				"await-vllm-healthy",
			},
		},
		"compute without inference stops what runs": {
			from: of(bareCompute, "vllm.service", "batch.timer"), to: policy.Compute,
			want:   []string{"drain-vllm", "stop-vllm"},
			change: func(p *policy.Policy) { p.Modes.Compute.VLLMProfile = policy.ProfileOff },
		},
		"a host without inference leaves it alone": {
			from: of(bareCompute, "vllm.service", "batch.timer"), to: policy.Compute, want: []string{},
			change: func(p *policy.Policy) { p.VLLM.Enabled = false },
		},
		"what is in must_survive under another name stays": {
			from: alias(
				of(onDesktop, "ssh.service", "sshd.service", "cups.service", "backup.timer"), "ssh.service",
				"sshd.service",
			), to: policy.Desktop, want: []string{},
			change: func(p *policy.Policy) { p.Modes.Desktop.Forbidden = []string{"ssh.service"} },
		},
		"what cannot be started is left out": {
			from: missing(of(onDesktop, "backup.timer"), "cups.service"), to: policy.Desktop, want: []string{},
		},
		"what is the mode's own and the policy's is there once": {
			from: of(onStudio, "cups.service", "backup.timer"), to: policy.Desktop, want: []string{
				"stop-audio-priority.service", "stop-studio-local-policy", "set-slices-desktop",
			},
			change: func(p *policy.Policy) { p.Modes.Desktop.Forbidden = []string{"audio-priority.service"} },
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			p := contracted()
			if c.change != nil {
				c.change(&p)
			}
			assert.Equal(t, c.want, ids(Build(p, c.from, c.to)))
		})
	}
}

// alias makes name another name of a unit.
func alias(s observer.Snapshot, name, real string) observer.Snapshot {
	s.Systemd.Units[name] = s.Systemd.Units[real]
	return s
}

func missing(s observer.Snapshot, unit string) observer.Snapshot {
	s.Systemd.Units[unit] = observer.Unit{ID: unit, LoadState: "not-found", ActiveState: "inactive"}
	return s
}

// The units that the policy requires are optional steps on the way to desktop, and
// strict on the others.
func TestTheWayToADesktopDoesNotHangOnThePolicysUnits(t *testing.T) {
	optional := func(p policy.Policy, from observer.Snapshot, to policy.Mode) (list []string) {
		for _, s := range Build(p, from, to).Steps {
			if s.Optional {
				list = append(list, s.ID)
			}
		}
		return list
	}
	p := contracted()
	p.Modes.Desktop.VLLMProfile = "small"
	assert.Equal(t, []string{"stop-batch.timer", "start-cups.service", "start-backup.timer", "start-vllm-small"},
		optional(p, of(bareCompute, "vllm-fast.service", "batch.timer"), policy.Desktop))
	assert.Empty(t, optional(p, of(onDesktop, "cups.service"), policy.StudioLocal))
	assert.Empty(t, optional(p, of(onDesktop, "cups.service"), policy.Compute))
}

func TestADrainIsGuardedOnEveryWay(t *testing.T) {
	for _, c := range []struct {
		from observer.Snapshot
		to   policy.Mode
		want bool
	}{
		{of(bareCompute, "vllm.service"), policy.Compute, true},
		{of(bareCompute, "vllm-fast.service"), policy.Compute, false},
		{of(onDesktop, "vllm-small.service"), policy.Desktop, true},
		{of(onDesktop), policy.Desktop, false},
		{of(onDesktop, "vllm-small.service"), policy.Compute, true},
	} {
		plan := Build(contracted(), c.from, c.to)
		assert.Equal(t, c.want, slices.Contains(plan.Guards, policy.CheckVLLMDrainable), "%v", ids(plan))
	}
}

func TestWhatTheContractNamesIsWatched(t *testing.T) {
	watched := Watched(contracted())
	assert.Subset(t, watched, []string{
		"cups.service", "batch.timer", "backup.timer", "sshd.service", "vllm.service", "vllm-fast.service",
		"vllm-small.service",
	})
	slices.Sort(watched)
	assert.Equal(t, slices.Compact(slices.Clone(watched)), watched, "each once")
}

// From any facts, no step is duplicated or without a timeout, nothing of must_survive
// and nothing that the policy does not allow is stopped, no running unit of vLLM is
// stopped without a drain before it, and the plan leads to the contract.
func TestEveryPlanWithAContractIsSafe(t *testing.T) {
	named := append(contracted().ContractUnits(), contracted().VLLMUnits()...)
	units := append(slices.Clone(named), "graphical.target", "desktop.target", "compute.target",
		"display-manager.service",
		"studio-local-policy.service", "audio-priority.service", "sshd.service")
	rapid.Check(t, func(t *rapid.T) {
		p := contracted()
		for _, c := range []*policy.Contract{&p.Modes.Desktop, &p.Modes.StudioLocal, &p.Modes.Compute} {
			c.StopForbidden = rapid.Bool().Draw(t, "stop forbidden")
		}
		p.VLLM.Enabled = rapid.IntRange(0, 4).Draw(t, "enabled") > 0
		p.Modes.Desktop.VLLMProfile = rapid.SampledFrom([]string{"off", "default", "small", "fast"}).Draw(t,
			"desktop's")
		p.Modes.Compute.VLLMProfile = rapid.SampledFrom([]string{"off", "default", "small", "fast"}).Draw(t,
			"compute's")
		h := host{
			session: rapid.Bool().Draw(t, "session"), greeter: rapid.Bool().Draw(t, "greeter"),
			holder: rapid.Bool().Draw(t, "holder"), starting: rapid.Bool().Draw(t, "starting"),
			ill: rapid.Bool().Draw(t, "ill"),
		}
		s := of(h, rapid.SliceOfDistinct(rapid.SampledFrom(units), rapid.ID).Draw(t, "active")...)
		for _, name := range rapid.SliceOfDistinct(rapid.SampledFrom(units), rapid.ID).Draw(t, "on the way") {
			s.Systemd.Units[name] = observer.Unit{LoadState: "loaded", ActiveState: "deactivating"}
		}
		to := rapid.SampledFrom(policy.Modes()).Draw(t, "to")
		plan := Build(p, s, to)
		checkSafe(t, plan)
		checkGuards(t, p, plan)
		checkContract(t, p, s, plan)
	})
}

func checkContract(t *rapid.T, p policy.Policy, s observer.Snapshot, plan Plan) {
	c, after := p.Contract(plan.To), map[string]bool{}
	for unit := range s.Systemd.Units {
		after[unit] = s.Systemd.Runs(unit) == observer.True
	}
	drained, isolated := false, false
	for _, step := range plan.Steps {
		switch {
		case step.Kind == Drain:
			drained = true
		case step.Kind == Isolate:
			isolated = true
			for unit := range after { // at worst
				after[unit] = false
			}
		case step.Kind == StartUnit:
			after[step.Unit] = true
		case step.Kind != StopUnit && step.Kind != StopVLLM:
		case slices.Contains(p.MustSurvive, step.Unit):
			t.Fatalf("%s is stopped", step.Unit)
		case slices.Contains(p.VLLMUnits(), step.Unit) && s.Systemd.Runs(step.Unit) != observer.False && !drained:
			t.Fatalf("%s is stopped without a drain", step.Unit)
		case slices.Contains(c.Forbidden, step.Unit) && !c.StopForbidden && strings.HasSuffix(step.ID, step.Unit):
			t.Fatalf("%s is stopped though the policy does not say so", step.Unit)
		default:
			after[step.Unit] = false
		}
	}
	for _, unit := range c.Required {
		if !after[unit] {
			t.Fatalf("%s requires %s, which the plan %v does not start", plan.To, unit, ids(plan))
		}
	}
	for _, unit := range c.Forbidden {
		if after[unit] && c.StopForbidden {
			t.Fatalf("%s forbids %s, which the plan %v leaves", plan.To, unit, ids(plan))
		}
	}
	if unit := p.VLLMUnit(plan.To); unit != "" && !after[unit] {
		t.Fatalf("%s is served by %s, which the plan %v does not start", plan.To, unit, ids(plan))
	}
	for _, unit := range p.OtherVLLMUnits(plan.To) {
		if after[unit] && p.VLLM.Enabled {
			t.Fatalf("the plan %v leaves %s, isolated %v", ids(plan), unit, isolated)
		}
	}
}
