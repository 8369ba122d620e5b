package observer

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/dubnium/dubnium/policy"
)

// contracted is a policy that requires and forbids units in its modes, and has three profiles of
// vLLM.
func contracted() policy.Policy {
	p := policy.Default()
	p.Studio.Quiesce = nil // has tests of its own
	p.VLLM.Profiles["fast"] = policy.Profile{Unit: "vllm-fast.service"}
	p.VLLM.Profiles["small"] = policy.Profile{Unit: "vllm-small.service"}
	p.Modes.Desktop.Required, p.Modes.Desktop.Forbidden = []string{"cups.service"}, []string{"batch.timer"}
	p.Modes.Desktop.VLLMProfile = "small"
	p.Modes.StudioLocal.Forbidden = []string{"cups.service", "batch.timer"}
	p.Modes.Compute.Required, p.Modes.Compute.Forbidden = []string{"batch.timer"}, []string{"cups.service"}
	p.Modes.Compute.VLLMProfile = "fast"
	return p
}

// unitClaims is what the modes require of units under that policy, written down independently of
// the code.
var unitClaims = map[policy.Mode]map[string]Truth{
	policy.Desktop: {
		"cups.service": True, "batch.timer": False,
		"vllm-small.service": True, "vllm.service": False, "vllm-fast.service": False,
	},
	policy.StudioLocal: {
		"cups.service": False, "batch.timer": False,
		"vllm-small.service": False, "vllm.service": False, "vllm-fast.service": False,
	},
	policy.Compute: {
		"batch.timer": True, "cups.service": False,
		"vllm-fast.service": True, "vllm.service": False, "vllm-small.service": False,
	},
}

var contractUnits = slices.Sorted(maps.Keys(unitClaims[policy.Desktop]))

// stateOf has an ActiveState for each truth.
var stateOf = map[Truth]string{True: "active", False: "inactive", Unknown: "activating"}

// meetsContract reports whether the units are as the mode requires, and its vLLM is healthy.
func meetsContract(mode policy.Mode, units map[string]Truth, healthy Truth) bool {
	for unit, want := range unitClaims[mode] {
		if units[unit] != want {
			return false
		}
	}
	return mode == policy.StudioLocal || healthy == True
}

// TestContractsExhaustive: for every combination of the units that the policy names and of the
// health of vLLM, with all else of the contract met, the mode is observed exactly if every unit is
// as required. Otherwise the mode is degraded or unknown, with a reason that names a unit. Explain
// agrees.
func TestContractsExhaustive(t *testing.T) {
	p := contracted()
	named := 0
	for mode, host := range map[policy.Mode]Snapshot{
		policy.Desktop: desktop(), policy.StudioLocal: studio(), policy.Compute: compute(),
	} {
		for n := range 729 {
			s, units := host, map[string]Truth{}
			s.Systemd.Units = maps.Clone(host.Systemd.Units)
			for i, rest := 0, n; i < len(contractUnits); i, rest = i+1, rest/3 {
				units[contractUnits[i]] = Truth(rest % 3)
				set(&s, contractUnits[i], stateOf[Truth(rest%3)])
			}
			health := Truth(n / 243)
			s.Inference = Inference{Reading: Reading{At: readAt}, Healthy: health == True}
			if health == Unknown {
				s.Inference.Reason = "no answer"
			}
			o := Classify(p, s, Context{Desired: mode}, readAt)
			keeps := meetsContract(mode, units, health)
			require.Equal(t, keeps, o.Is(mode), "%s with %v, health %s: %+v", mode, units, health, o.Reasons)
			require.Equal(t, mode, o.Inferred)
			require.Empty(t, coherent(p, o))
			if keeps {
				named++
				require.Equal(t, High, o.Confidence)
				continue
			}
			require.Contains(t, []State{DegradedOf(mode), StateUnknown}, o.State)
			require.NotEmpty(t, o.Reasons)
			for _, r := range o.Reasons {
				require.True(
					t, strings.Contains(r.Text, ".") || strings.HasPrefix(r.Code, "vllm-healthy") || r.Code == "vllm-not-healthy",
					"%+v", r,
				)
			}
		}
	}
	assert.Equal(t, 1+3+1, named, "the studio does not ask about health")
}

// studio is a healthy studio-local.
func studio() Snapshot {
	s := desktop()
	set(&s, "studio-local-policy.service", "active")
	set(&s, "audio-priority.service", "active")
	return s
}

// TestContractsProperty: TestClassifyProperty under a policy that requires and forbids units.
func TestContractsProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := contracted()
		s := genSnapshot(p).Draw(t, "snapshot")
		for _, name := range contractUnits {
			if rapid.IntRange(0, 9).Draw(t, "read "+name) > 0 {
				set(
					&s, name,
					rapid.SampledFrom(
						[]string{"active", "active", "inactive", "inactive", "failed", "activating", "a new word"},
					).Draw(t, name),
				)
			}
		}
		o := Classify(p, s, rapid.SampledFrom(contexts()).Draw(t, "context"), readAt)
		require.Empty(t, coherent(p, o))
		for _, mode := range policy.Modes() {
			for unit, want := range unitClaims[mode] {
				if o.Is(mode) && o.Facts.Is(UnitSignal(unit)) != want {
					t.Fatalf("%s is claimed while %s is %s", mode, unit, o.Facts.Is(UnitSignal(unit)))
				}
			}
		}
	})
}

func TestUnitReasons(t *testing.T) {
	good := func() Snapshot {
		s := desktop()
		for unit, want := range unitClaims[policy.Desktop] {
			set(&s, unit, stateOf[want])
		}
		s.Inference = Inference{Reading: Reading{At: readAt}, Healthy: true}
		return s
	}
	cases := map[string]struct {
		change     func(*Snapshot)
		state      State
		confidence Confidence
		reason     Reason
	}{
		"nothing": {func(*Snapshot) {}, "desktop", High, Reason{}},
		"a required unit is down": {
			func(s *Snapshot) { set(s, "cups.service", "failed") }, "degraded-desktop", High,
			Reason{
				"required-unit-not-active", "cups.service does not run, which desktop requires: cups.service is failed (loaded)",
			},
		},
		"a forbidden unit runs": {
			func(s *Snapshot) { set(s, "batch.timer", "active") }, "degraded-desktop", High,
			Reason{"forbidden-unit-active", "batch.timer runs, which desktop forbids: batch.timer is active"},
		},
		"a required unit is on its way": {
			func(s *Snapshot) { set(s, "cups.service", "activating") }, "degraded-desktop", Medium,
			Reason{"unit-active-unknown", "cups.service is activating"},
		},
		"a forbidden one that was not read": {
			func(s *Snapshot) { delete(s.Systemd.Units, "batch.timer") }, "degraded-desktop", Medium,
			Reason{"unit-active-unknown", "batch.timer has not been read"},
		},
		"vLLM runs in another profile": {
			func(s *Snapshot) {
				set(s, "vllm-small.service", "inactive")
				set(s, "vllm-fast.service", "active")
			}, "degraded-desktop", High,
			Reason{
				"vllm-other-profile",
				"vLLM runs in another profile than small, the profile of desktop: vllm-fast.service is active",
			},
		},
		"vLLM runs in two": {
			func(s *Snapshot) { set(s, "vllm.service", "active") }, "degraded-desktop", High,
			Reason{
				"vllm-other-profile", "vLLM runs in another profile than small, the profile of desktop: vllm.service is active",
			},
		},
		"vLLM does not run": {
			func(s *Snapshot) { set(s, "vllm-small.service", "inactive") }, "degraded-desktop", High,
			Reason{"vllm-not-active", "vLLM does not run: vllm.service is inactive (loaded)"},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := good()
			c.change(&s)
			o := Classify(contracted(), s, Context{}, readAt)
			assert.Equal(t, c.state, o.State, "%+v", o.Reasons)
			assert.Equal(t, c.confidence, o.Confidence)
			if c.reason != (Reason{}) {
				require.NotEmpty(t, o.Reasons)
				assert.Equal(t, c.reason, o.Reasons[0])
			}
		})
	}
}

// TestNoUnitFacts: units that the policy does not name have no fact.
func TestNoUnitFacts(t *testing.T) {
	assert.Equal(t, Signals(), Derive(policy.Default(), desktop()).Names())
	more := Derive(contracted(), desktop()).Names()
	assert.Equal(
		t,
		append(
			Signals(), "unit:batch.timer", "unit:cups.service", "unit:vllm-fast.service", "unit:vllm-small.service",
			"unit:vllm.service",
		),
		more,
	)
}

func TestSameOtherPolicy(t *testing.T) {
	before, after := Classify(policy.Default(), desktop(), Context{}, readAt), Classify(
		policy.Default(), desktop(), Context{}, readAt,
	)
	require.True(t, after.Same(before))
	after.Facts = maps.Clone(after.Facts)
	after.Facts[UnitSignal("cups.service")] = Fact{Truth: True}
	assert.False(t, after.Same(before))
	assert.False(t, before.Same(after))
}

func TestRunningVLLM(t *testing.T) {
	p, s := contracted(), desktop().Systemd
	for _, unit := range p.VLLMUnits() {
		s.Units[unit] = Unit{LoadState: "loaded", ActiveState: "inactive"}
	}
	name, _ := RunningVLLM(p, s)
	assert.Empty(t, name)
	assert.Equal(t, False, vllmActive(p, s).Truth)

	s.Units["vllm-fast.service"] = Unit{ActiveState: "activating"}
	name, _ = RunningVLLM(p, s)
	assert.Equal(t, "vllm-fast.service", name)
	assert.Equal(t, Unknown, vllmActive(p, s).Truth)

	s.Units["vllm.service"] = Unit{ActiveState: "active", ActiveSince: readAt}
	name, _ = RunningVLLM(p, s)
	assert.Equal(t, "vllm.service", name)
	assert.Equal(t, True, vllmActive(p, s).Truth)

	s.Units["vllm-fast.service"] = Unit{ActiveState: "active", ActiveSince: readAt.Add(time.Second)}
	name, _ = RunningVLLM(p, s)
	assert.Equal(t, "vllm-fast.service", name)
	asked := Snapshot{Systemd: s, Inference: Inference{Reading: Reading{At: readAt}, Healthy: true}}
	asked.Systemd.Reading = Reading{At: readAt}
	assert.Equal(t, Unknown, Derive(p, asked).Is(VLLMHealthy), "the answer is the other one's")
}

// TestWrongHost: a mode that is placed on another machine is never observed here.
func TestWrongHost(t *testing.T) {
	p := policy.Default()
	p.Placement.Studio, p.Placement.AI = policy.Remote, policy.Remote
	for _, c := range []struct {
		host  Snapshot
		state State
		code  string
	}{
		{desktop(), "desktop", ""}, {
			studio(), "degraded-studio-local", "studio-externalized",
		}, {compute(), "degraded-compute", "ai-externalized"},
	} {
		o := Classify(p, c.host, Context{}, readAt)
		assert.Equal(t, c.state, o.State)
		assert.Empty(t, coherent(p, o))
		if c.code != "" {
			require.Len(t, o.Reasons, 1)
			assert.Equal(t, c.code, o.Reasons[0].Code)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		o := Classify(p, genSnapshot(p).Draw(t, "snapshot"), rapid.SampledFrom(contexts()).Draw(t, "context"), readAt)
		require.False(t, o.Is(policy.StudioLocal) || o.Is(policy.Compute))
		require.Empty(t, coherent(p, o))
	})
}

// TestNoInference: compute with profile off requires that vLLM does not run; without vLLM on the
// host it has no such clause.
func TestNoInference(t *testing.T) {
	p := policy.Default()
	p.Modes.Compute.VLLMProfile = policy.ProfileOff
	o := Classify(p, compute(), Context{}, readAt)
	assert.Equal(t, State("degraded-compute"), o.State)
	assert.Equal(t, []string{"vllm-active"}, codesOf(o.Reasons))
	silent := compute()
	set(&silent, "vllm.service", "inactive")
	assert.Equal(t, State("compute"), Classify(p, silent, Context{}, readAt).State)

	p = policy.Default()
	p.VLLM.Enabled = false
	assert.Equal(t, State("compute"), Classify(p, compute(), Context{}, readAt).State)
	assert.Equal(t, State("compute"), Classify(p, silent, Context{}, readAt).State)
}

// TestMinAI: every state of three cards, of which the middle one is planned, against each value of
// gpu.min_ai.
func TestMinAI(t *testing.T) {
	cards := []string{"0000:01:00.0", "0000:02:00.0", "0000:03:00.0"}
	for n := range 27 {
		s, truths, count := compute(), []Truth{}, map[Truth]int{}
		s.Processes.GPUs = nil
		s.GPU = NVML{Reading: Reading{At: readAt}, Driver: true}
		for i, rest := 0, n; i < len(cards); i, rest = i+1, rest/3 {
			truth := Truth(rest % 3)
			truths = append(truths, truth)
			count[truth]++
			if truth != False {
				s.Processes.GPUs = append(s.Processes.GPUs, GPU{PCI: cards[i], Driver: "nvidia"})
			}
			card := Card{PCI: cards[i]}
			if truth == Unknown {
				card.Reason = "GPU is lost"
			}
			s.GPU.Cards = append(s.GPU.Cards, card)
		}
		atLeast := func(need int) Truth {
			switch {
			case count[True] >= need:
				return True
			case count[True]+count[Unknown] < need:
				return False
			}
			return Unknown
		}
		p := policy.Default()
		p.GPU.AI, p.GPU.Planned = cards, cards[1:2]
		for need := range 4 {
			p.GPU.MinAI = need
			whole, enterable := atLeast(need), atLeast(min(need, 2))
			if need == 0 {
				whole, enterable = atLeast(3), strongestOf(truths[0], truths[2])
			}
			what := fmt.Sprintf("%v, %d needed", truths, need)
			require.Equal(t, whole, Derive(p, s).Is(AIPresent), what)
			require.Equal(t, enterable, AIEnterable(p, s).Truth, what)
			require.NotEmpty(t, AIEnterable(p, s).Reason, what)
			o := Classify(p, s, Context{}, readAt)
			require.Equal(t, whole == False, slices.Contains(codesOf(o.Reasons), "ai-gpu-missing"), what)
			require.Equal(t, whole != False, o.Is(policy.Compute), what)
			require.Equal(t, truths[1] == False, slices.Contains(codesOf(o.Conflicts), "planned-gpu-missing"), what)
		}
		s.Processes.Reason = "no probe"
		require.Equal(t, Unknown, AIEnterable(p, s).Truth)
		require.Equal(t, Unknown, Derive(p, s).Is(AIPresent))
	}
}

// strongestOf is the conjunction of two truths.
func strongestOf(a, b Truth) Truth {
	if a == False || b == False {
		return False
	}
	return min(a, b)
}

func TestAIGPUsByMode(t *testing.T) {
	p := described()
	p.GPU.AI = []string{displayPCI, aiPCI}
	p.Modes.Compute.AIGPUs = []string{aiPCI}
	assert.Equal(t, []string{aiPCI}, p.AIGPUs(policy.Compute))
	assert.Empty(t, p.AIGPUs(policy.Desktop))
	s := withNVIDIA(compute())
	s.Processes.GPUs = s.Processes.GPUs[:1]
	assert.Equal(t, False, Derive(p, s).Is(AIPresent))
	p.Modes.Compute.AIGPUs = []string{displayPCI}
	assert.Equal(t, True, Derive(p, s).Is(AIPresent), "the other is none of compute's")
}

func TestTopology(t *testing.T) {
	p := policy.Default()
	p.GPU = policy.GPU{
		Display: []string{displayPCI}, AI: []string{"0000:09:00.0", displayPCI, aiPCI},
		Planned: []string{"0000:09:00.0", "0000:08:00.0"}, MinAI: 2,
	}
	p.Modes.Desktop.AIGPUs = []string{aiPCI}
	h := ProcessScan{
		Reading: Reading{At: readAt},
		GPUs:    []GPU{{PCI: aiPCI, Driver: "vfio-pci", Hidden: true}, {PCI: displayPCI, Display: true}},
	}
	want := Topology{
		Known: true, Planned: []string{"0000:08:00.0", "0000:09:00.0"},
		Present: []string{displayPCI, aiPCI}, Unusable: []string{aiPCI}, Missing: []string{"0000:08:00.0", "0000:09:00.0"},
		Display: []string{displayPCI}, MinAI: 2,
		AI: map[policy.Mode][]string{
			policy.Desktop: {aiPCI}, policy.StudioLocal: {}, policy.Compute: {displayPCI, aiPCI, "0000:09:00.0"},
		},
	}
	assert.Equal(t, want, TopologyOf(p, h))
	slices.Reverse(h.GPUs)
	assert.Equal(t, want, TopologyOf(p, h), "whatever the order of the read")

	want.Known, want.Reason = false, "no probe"
	want.Present, want.Unusable, want.Missing = []string{}, []string{}, []string{}
	assert.Equal(t, want, TopologyOf(p, ProcessScan{Reading: Reading{At: readAt, Reason: "no probe"}}))
	assert.Equal(t, "not read yet", TopologyOf(p, ProcessScan{}).Reason)

	plain := TopologyOf(policy.Default(), h)
	assert.Equal(t, []string{displayPCI}, plain.Display, "every one that could drive a display")
	assert.Zero(t, plain.MinAI)
	p.GPU.MinAI = 0
	assert.Equal(t, 3, TopologyOf(p, h).MinAI, "all of compute's")
}

// TestContractUnits: the contract lists the units of the policy, and a host that meets it is
// observed in the mode.
func TestContractUnits(t *testing.T) {
	p := contracted()
	p.Modes.Compute.StopForbidden = true
	c := ContractOf(p, policy.Compute)
	assert.Equal(t, []string{"vllm-fast.service", "batch.timer"}, c.Expected)
	assert.Subset(t, c.Forbidden, []string{"vllm.service", "vllm-small.service", "cups.service"})
	assert.Equal(t, "throughput: there is no interactive user", c.Latency)
	assert.Equal(t, "headless: neither a graphical session nor a greeter", c.Security)
	assert.True(t, c.StopForbidden && c.Isolates && c.EndsSessions)
	assert.False(t, c.Trusted)
	assert.Equal(t, "fast", c.VLLMProfile)
	assert.Contains(t, c.Guards, policy.CheckVLLMDrainable)

	c = ContractOf(p, policy.StudioLocal)
	assert.Equal(t, "studio-local-policy.service", c.Overlay)
	assert.Equal(t, policy.ProfileOff, c.VLLMProfile)
	var owned []string
	for _, o := range c.Ownership {
		owned = append(owned, o.Resource)
	}
	assert.Equal(t, []string{"gpu", "cpu", "memory", "storage", "audio"}, owned)

	p.VLLM.Enabled, p.Transitions = false, policy.TrustOverlay
	assert.Equal(t, policy.ProfileOff, ContractOf(p, policy.Compute).VLLMProfile)
	assert.True(t, ContractOf(p, policy.StudioLocal).Trusted)
}
