package plans

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// host describes a workstation: its active units, its sessions.
type host struct {
	active   []string
	session  bool
	greeter  bool
	holder   bool
	starting bool
	ill      bool // vLLM is not healthy
	prepares []policy.Mode
	has      policy.Mode // whose slice properties are set
	quiesced []string
}

var (
	onDesktop = host{
		active: []string{"graphical.target", "desktop.target", "display-manager.service"}, session: true, holder: true,
	}
	onStudio = host{
		active:  append([]string{"studio-local-policy.service", "audio-priority.service"}, onDesktop.active...),
		session: true,
		holder:  true, has: policy.StudioLocal,
	}
	onCompute = host{active: []string{"compute.target", "vllm.service"}, has: policy.Compute}
)

func (h host) snapshot() observer.Snapshot {
	at := observer.Reading{At: time.Unix(1, 0)}
	s := observer.Snapshot{
		Systemd:   observer.Systemd{Reading: at, State: "running", Units: map[string]observer.Unit{}},
		Logind:    observer.Logind{Reading: at},
		Processes: observer.ProcessScan{Reading: at, GPUs: []observer.GPU{{PCI: "0000:01:00.0", Display: true}}},
		Inference: observer.Inference{Reading: at, Healthy: !h.ill},
	}
	if h.starting {
		s.Systemd.State = "starting"
	}
	for _, name := range Watched(policy.Default()) {
		s.Systemd.Units[name] = observer.Unit{LoadState: "loaded", ActiveState: "inactive"}
	}
	for _, m := range policy.Modes() {
		if !slices.Contains(h.prepares, m) {
			s.Systemd.Units[policy.PrepareUnit(m)] = observer.Unit{LoadState: "not-found", ActiveState: "inactive"}
		}
	}
	for _, name := range h.active {
		s.Systemd.Units[name] = observer.Unit{LoadState: "loaded", ActiveState: "active"}
	}
	// Only the mode has set properties.
	s.Saved = observer.SavedState{Reading: at, Slices: map[string]policy.Properties{}, Quiesced: h.quiesced}
	for _, name := range policy.Default().Slices.Names() {
		s.Systemd.Units[name] = observer.Unit{LoadState: "loaded", ActiveState: "active", Properties: unset()}
	}
	if h.has != "" {
		set := slicesOf(s)
		set.apply(set.changes(policy.Default().Slices.Of(h.has)))
		for name, properties := range set.now {
			s.Systemd.Units[name] = observer.Unit{LoadState: "loaded", ActiveState: "active", Properties: properties}
		}
		s.Saved.Slices = set.saved
	}
	if h.session {
		s.Logind.Sessions = append(
			s.Logind.Sessions, observer.Session{ID: "2", Class: "user", Type: "wayland", Seat: "seat0"},
		)
	}
	if h.greeter {
		s.Logind.Sessions = append(s.Logind.Sessions, observer.Session{ID: "c1", Class: "greeter", Type: "tty"})
	}
	if h.holder {
		s.Processes.Holders = []observer.Holder{{GPU: "0000:01:00.0", PID: 900, Unit: "session-2.scope"}}
	}
	return s
}

// unset are the properties of a slice without settings.
func unset() policy.Properties {
	return policy.Properties{
		policy.CPUWeight: "", policy.IOWeight: "", policy.MemoryHigh: policy.Infinity, policy.MemoryLow: "0",
		policy.AllowedCPUs: "",
	}
}

func ids(p Plan) []string {
	list := []string{}
	for _, s := range p.Steps {
		list = append(list, s.ID)
	}
	return list
}

func TestPlansHoldWhatIsMissingAndNothingElse(t *testing.T) {
	toCompute := []string{
		"stop-display-manager", "end-sessions", "check-graphical-session-absent", "check-gpu-display-released",
		"set-slices-compute", "isolate-compute", "start-vllm", "await-vllm-healthy",
	}
	cases := map[string]struct {
		from host
		to   policy.Mode
		want []string
	}{
		"desktop to desktop is nothing":           {onDesktop, policy.Desktop, []string{}},
		"studio-local to studio-local is nothing": {onStudio, policy.StudioLocal, []string{}},
		"compute to compute is nothing":           {onCompute, policy.Compute, []string{}},
		"desktop to studio-local adds the overlay": {
			onDesktop, policy.StudioLocal,
			[]string{"set-slices-studio-local", "start-audio-priority", "start-studio-local-policy"},
		},
		"desktop to studio-local quiets what is up": {
			host{active: append([]string{"fstrim.timer"}, onDesktop.active...), session: true, holder: true},
			policy.StudioLocal,
			[]string{
				"quiesce-maintenance", "set-slices-studio-local", "start-audio-priority",
				"start-studio-local-policy",
			},
		},
		"what runs again in studio-local is stopped again": {
			host{
				active: append([]string{"nix-gc.service"}, onStudio.active...), session: true, holder: true,
				has: policy.StudioLocal,
			},
			policy.StudioLocal,
			[]string{"quiesce-maintenance"},
		},
		"studio-local to desktop takes it off, without isolating": {
			onStudio, policy.Desktop,
			[]string{"stop-audio-priority", "stop-studio-local-policy", "set-slices-desktop"},
		},
		"studio-local to desktop brings back what was quiesced": {
			host{
				active: onStudio.active, session: true, holder: true, has: policy.StudioLocal,
				quiesced: []string{"fstrim.timer"},
			},
			policy.Desktop,
			[]string{"stop-audio-priority", "stop-studio-local-policy", "resume-maintenance", "set-slices-desktop"},
		},
		"a desktop whose timers never came back gets them": {
			host{active: onDesktop.active, session: true, holder: true, quiesced: []string{"fstrim.timer"}},
			policy.Desktop,
			[]string{"resume-maintenance"},
		},
		"desktop to compute": {onDesktop, policy.Compute, toCompute},
		"studio-local to compute gives the overlay up only after the sessions are gone": {
			onStudio, policy.Compute,
			slices.Insert(slices.Clone(toCompute), 4, "stop-audio-priority", "stop-studio-local-policy"),
		},
		"studio-local to compute brings timers back only after the sessions are gone": {
			host{
				active: onStudio.active, session: true, holder: true, has: policy.StudioLocal,
				quiesced: []string{"fstrim.timer"},
			},
			policy.Compute,
			slices.Insert(slices.Clone(toCompute), 4, "stop-audio-priority", "stop-studio-local-policy",
				"resume-maintenance"),
		},
		"a desktop whose target brings timers is quieted after that": {
			host{active: []string{"graphical.target", "display-manager.service"}, session: true},
			policy.StudioLocal,
			[]string{
				"start-desktop", "quiesce-maintenance", "set-slices-studio-local", "start-audio-priority",
				"start-studio-local-policy",
			},
		},
		"compute to desktop drains, and does not start what isolate brings": {
			onCompute, policy.Desktop,
			[]string{"drain-vllm", "stop-vllm", "check-gpu-display-released", "set-slices-desktop", "isolate-desktop"},
		},
		"compute to studio-local": {
			onCompute, policy.StudioLocal,
			[]string{
				"drain-vllm", "stop-vllm", "check-gpu-display-released", "set-slices-desktop", "isolate-desktop",
				"quiesce-maintenance", "set-slices-studio-local", "start-audio-priority", "start-studio-local-policy",
			},
		},
		"a booted machine without a mode gets the target started": {
			host{
				active: []string{"graphical.target", "display-manager.service"}, session: true,
			}, policy.Desktop, []string{"start-desktop"},
		},
		"a desktop without greeter gets its display manager": {
			host{active: []string{"graphical.target", "desktop.target"}},
			policy.Desktop,
			[]string{"start-display-manager"},
		},
		"a greeter alone has to go for compute": {
			host{
				active: []string{"graphical.target", "desktop.target", "display-manager.service"}, greeter: true,
			}, policy.Compute, toCompute,
		},
		"compute whose vLLM failed gets it started": {
			host{
				active: []string{"compute.target"}, has: policy.Compute,
			}, policy.Compute, []string{"start-vllm", "await-vllm-healthy"},
		},
		"compute whose vLLM loads is waited for": {
			host{active: onCompute.active, ill: true, has: policy.Compute},
			policy.Compute,
			[]string{"await-vllm-healthy"},
		},
		"compute with a session that slipped in": {
			host{active: onCompute.active, session: true, holder: true, has: policy.Compute},
			policy.Compute,
			[]string{"end-sessions", "check-graphical-session-absent", "check-gpu-display-released"},
		},
		"no isolate while the manager starts": {
			host{active: onDesktop.active, session: true, holder: true, starting: true},
			policy.Compute,
			[]string{
				"stop-display-manager", "end-sessions", "check-graphical-session-absent", "check-gpu-display-released",
				"set-slices-compute", "start-compute", "start-vllm", "await-vllm-healthy",
			},
		},
		"the host's own preparation comes first": {
			host{active: onDesktop.active, session: true, holder: true, prepares: []policy.Mode{policy.Compute}},
			policy.Compute,
			append([]string{"start-mode-prepare-compute"}, toCompute...),
		},
		"preparing for a mode that is there already is nothing": {
			host{
				active: onCompute.active, prepares: []policy.Mode{policy.Compute}, has: policy.Compute,
			}, policy.Compute, []string{},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, c.want, ids(Build(policy.Default(), c.from.snapshot(), c.to)))
		})
	}
}

func TestEveryWayHasItsGuards(t *testing.T) {
	long := []policy.GuardID{
		policy.CheckTargetReachable, policy.CheckNoInhibitor, policy.CheckComputeCapabilityLocal,
		policy.CheckPersistencePathsReady,
		policy.CheckAudioIdle, policy.CheckCPULoadSafe, policy.CheckUserJobsSafe, policy.CheckMemoryHeadroom,
		policy.CheckGraphicalSessionTerminable,
	}
	short := long[:2]
	with := func(ids ...policy.GuardID) []policy.GuardID { return append(slices.Clone(short), ids...) }
	servingDesktop := host{active: append([]string{"vllm.service"}, onDesktop.active...), session: true, holder: true}
	cases := map[string]struct {
		from host
		to   policy.Mode
		want []policy.GuardID
	}{
		"desktop to studio-local": {onDesktop, policy.StudioLocal, with(policy.CheckStudioCapabilityLocal,
			policy.CheckGraphicalSessionPresent, policy.CheckMemoryHeadroom)},
		"desktop that serves to studio-local": {
			servingDesktop, policy.StudioLocal,
			with(policy.CheckStudioCapabilityLocal,
				policy.CheckGraphicalSessionPresent, policy.CheckVLLMDrainable, policy.CheckMemoryHeadroom),
		},
		"desktop that serves is mended": {servingDesktop, policy.Desktop, with(policy.CheckVLLMDrainable)},
		"a boot to studio-local": {
			host{active: []string{"graphical.target"}}, policy.StudioLocal, with(policy.CheckStudioCapabilityLocal),
		},
		"studio-local to desktop": {onStudio, policy.Desktop, short},
		"desktop to compute":      {onDesktop, policy.Compute, long},
		"studio-local to compute": {onStudio, policy.Compute, long},
		"compute with somebody who slipped in": {
			host{active: onCompute.active, session: true, holder: true}, policy.Compute, long,
		},
		"compute is mended": {
			host{active: []string{"compute.target"}},
			policy.Compute,
			with(policy.CheckComputeCapabilityLocal,
				policy.CheckPersistencePathsReady, policy.CheckMemoryHeadroom),
		},
		"compute to desktop": {onCompute, policy.Desktop, with(policy.CheckVLLMDrainable, policy.CheckMemoryHeadroom)},
		"compute to studio-local": {onCompute, policy.StudioLocal, with(policy.CheckStudioCapabilityLocal,
			policy.CheckVLLMDrainable, policy.CheckMemoryHeadroom)},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, c.want, Build(policy.Default(), c.from.snapshot(), c.to).Guards)
		})
	}
	p := policy.Default()
	p.Guards.StudioLocal = []policy.GuardID{policy.CheckUserJobsSafe}
	assert.Equal(
		t, with(policy.CheckStudioCapabilityLocal, policy.CheckUserJobsSafe),
		Build(p, onDesktop.snapshot(), policy.StudioLocal).Guards,
	)
}

func TestAHostWithoutInferenceIsComputeWithoutIt(t *testing.T) {
	p := policy.Default()
	p.VLLM.Enabled = false
	plan := Build(p, onDesktop.snapshot(), policy.Compute)
	assert.NotContains(t, ids(plan), "start-vllm")
	assert.NotContains(t, ids(plan), "await-vllm-healthy")
}

// TestEveryPlanIsSafe holds for any facts.
func TestEveryPlanIsSafe(t *testing.T) {
	units := []string{
		"graphical.target", "desktop.target", "compute.target", "display-manager.service",
		"vllm.service", "studio-local-policy.service", "audio-priority.service",
	}
	rapid.Check(t, func(t *rapid.T) {
		h := host{
			active:  rapid.SliceOfDistinct(rapid.SampledFrom(units), rapid.ID).Draw(t, "active"),
			session: rapid.Bool().Draw(t, "session"), greeter: rapid.Bool().Draw(t, "greeter"),
			holder: rapid.Bool().Draw(t, "holder"), starting: rapid.Bool().Draw(t, "starting"),
			has: rapid.SampledFrom(append(policy.Modes(), "")).Draw(t, "has"),
			quiesced: rapid.SliceOfDistinct(
				rapid.SampledFrom([]string{"fstrim.timer", "nix-gc.service"}), rapid.ID,
			).Draw(t, "quiesced"),
		}
		s := h.snapshot()
		for _, name := range rapid.SliceOfDistinct(rapid.SampledFrom(units), rapid.ID).Draw(t, "on the way") {
			s.Systemd.Units[name] = observer.Unit{LoadState: "loaded", ActiveState: "deactivating"}
		}
		p := policy.Default()
		p.Guards.StudioLocal = []policy.GuardID{
			policy.CheckUserJobsSafe, policy.CheckMemoryHeadroom, policy.CheckGraphicalSessionPresent,
		}
		plan := Build(p, s, rapid.SampledFrom(policy.Modes()).Draw(t, "to"))
		checkSafe(t, plan)
		checkGuards(t, p, plan)
	})
}

// checkGuards requires that the guards are among those of the mode's contract, in that
// order.
func checkGuards(t *rapid.T, p policy.Policy, plan Plan) {
	named, gates := p.GuardsTo(plan.To)
	var judged []policy.GuardID
	for _, s := range plan.Steps {
		if s.Kind == Gate {
			judged = append(judged, s.Guard)
		}
	}
	for _, c := range []struct{ has, of []policy.GuardID }{{plan.Guards, named}, {judged, gates}} {
		kept := slices.DeleteFunc(slices.Clone(c.of),
			func(id policy.GuardID) bool { return !slices.Contains(c.has, id) })
		if !slices.Equal(kept, c.has) {
			t.Fatalf("a plan to %s has the guards %v, of %v", plan.To, c.has, c.of)
		}
	}
}

func checkSafe(t *rapid.T, plan Plan) {
	at := func(kind Kind) int {
		return slices.IndexFunc(plan.Steps, func(s Step) bool { return s.Kind == kind })
	}
	seen := map[string]bool{}
	for _, s := range plan.Steps {
		if s.Timeout <= 0 {
			t.Fatalf("step %s has no bound", s.ID)
		}
		if seen[s.ID] {
			t.Fatalf("step %s is there twice", s.ID)
		}
		seen[s.ID] = true
	}
	end, isolate := at(EndSessions), at(Isolate)
	if end >= 0 && plan.To != policy.Compute {
		t.Fatalf("a plan to %s ends sessions", plan.To)
	}
	if end >= 0 && !slices.Contains(plan.Guards, policy.CheckGraphicalSessionTerminable) {
		t.Fatal("sessions are ended without asking whether they may be")
	}
	if end >= 0 && isolate >= 0 && end > isolate {
		t.Fatal("a compositor survives isolate: sessions have to end before it")
	}
	if resume := at(Resume); resume >= 0 && (end > resume || at(Gate) > resume) {
		t.Fatal("the studio's protection is given up before the point of no return")
	}
	if isolate >= 0 && at(Gate) < 0 || at(Gate) > isolate && isolate >= 0 {
		t.Fatal("isolate without a gate before it")
	}
	if stop := slices.IndexFunc(plan.Steps, func(s Step) bool { return s.ID == "stop-vllm" }); stop >= 0 &&
		(at(Drain) < 0 || at(Drain) > stop) {
		t.Fatal("vLLM is stopped without a drain")
	}
}
