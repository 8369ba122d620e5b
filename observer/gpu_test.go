package observer

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/dubnium/dubnium/policy"
)

const (
	displayPCI = "0000:01:00.0"
	aiPCI      = "0000:02:00.0"
)

// described is the policy of a host with a GPU for the display and one for AI.
func described() policy.Policy {
	p := policy.Default()
	p.GPU.Display, p.GPU.AI = []string{displayPCI}, []string{aiPCI}
	p.GPU.Planned = []string{displayPCI, aiPCI}
	return p
}

func measured(n float64) Measure { return Measure{Value: &n} }

func of(uid uint32) *uint32 { return &uid }

// withNVIDIA gives a host both cards of described, with nothing on them.
func withNVIDIA(s Snapshot) Snapshot {
	s.Processes.GPUs = []GPU{{PCI: displayPCI, Display: true, Driver: "nvidia"}, {PCI: aiPCI, Driver: "nvidia"}}
	s.GPU = NVML{Reading: Reading{At: readAt}, Driver: true, Cards: []Card{
		{PCI: displayPCI, UUID: "GPU-1", MemoryUsed: measured(1 << 20)}, {PCI: aiPCI, UUID: "GPU-2"},
	}}
	return s
}

var (
	gpuFactsAll = []Signal{DisplayGraphics, DisplayCompute, DisplayPresent, AIPresent, PlannedPresent}
	// gpuPromises is the test's own reading of what policy's GPUs add to the modes.
	gpuPromises = map[policy.Mode]map[Signal]Truth{
		policy.Desktop:     {DisplayPresent: True, DisplayCompute: False},
		policy.StudioLocal: {DisplayPresent: True, DisplayCompute: False},
		policy.Compute:     {DisplayGraphics: False, AIPresent: True},
	}
)

// TestGPUFactsExhaustive: if the policy names GPUs, every combination of the facts about them, with
// many of the others and every context: a mode is never observed while one of them violates its
// contract; an unknown one only lowers the confidence; Explain agrees.
func TestGPUFactsExhaustive(t *testing.T) {
	p, plain := described(), policy.Default()
	combinations := 1
	for range allFacts {
		combinations *= 3
	}
	named := map[Confidence]int{}
	for n := 0; n < combinations; n += 4999 { // prime to 3
		for g := range 243 {
			f := factsOf(n)
			withGPUFacts(f, g)
			for _, c := range contexts() {
				o := decide(p, f, c, readAt)
				if fault := gpuViolation(o, f, c); fault != "" {
					require.Failf(t, "wrong observation", "%s\nfacts %v\ncontext %+v\nobservation %+v", fault, f, c, o)
				}
				if fault := coherent(p, o); fault != "" {
					require.Failf(t, "incoherent", "%s\n%+v", fault, o)
				}
				if o.Inferred != "" && o.Is(o.Inferred) {
					named[o.Confidence]++
				}
			}
			if g%31 == 0 && decide(plain, f, Context{}, readAt).State != decide(plain, factsOf(n), Context{}, readAt).State {
				require.Fail(t, "a policy that names no GPU asks about them")
			}
		}
	}
	// The stride may miss the few combinations in which a promise holds.
	for _, m := range policy.Modes() {
		for g := range 243 {
			f := requiredBy(m)
			withGPUFacts(f, g)
			o := decide(p, f, Context{Desired: m}, readAt)
			require.Empty(t, gpuViolation(o, f, Context{Desired: m}), "%v", f)
			named[o.Confidence]++
		}
	}
	assert.Positive(t, named[High])
	assert.Positive(t, named[Medium])
}

// factsOf is combination n of the other facts, the audio stack included.
func factsOf(n int) Facts {
	f := Facts{}
	number(f, n)
	f[AudioStack] = numbered(Truth(n / 7 % 3))
	f[MaintenanceQuiet] = Fact{Truth: True, Source: "test", At: readAt}
	return f
}

func withGPUFacts(f Facts, g int) {
	for _, s := range gpuFactsAll {
		f[s] = Fact{Truth: Truth(g % 3), Source: "test", At: readAt, Reason: "as numbered"}
		g /= 3
	}
}

// requiredBy returns facts that meet the contract of a mode.
func requiredBy(m policy.Mode) Facts {
	f := factsOf(0)
	for s, want := range claims[m] {
		f[s] = Fact{Truth: want, Source: "test", At: readAt}
	}
	return f
}

func gpuViolation(o Observation, f Facts, c Context) string {
	for m, promise := range gpuPromises {
		contradicted, unknown := false, false
		for s, want := range promise {
			contradicted = contradicted || f.Is(s) != want && f.Is(s) != Unknown
			unknown = unknown || f.Is(s) == Unknown
		}
		switch clear := !c.InFlight && (!c.LastFailed || c.Desired == m); {
		case o.Is(m) && contradicted:
			return string(m) + " is claimed while a GPU speaks against it"
		case o.Is(m) && unknown && o.Confidence == High:
			return string(m) + " is claimed with confidence while a GPU is unknown"
		case o.Is(m) && !unknown && o.Confidence != High:
			return string(m) + " is claimed without confidence"
		case !o.Is(m) && kept(m, f) && !contradicted && clear:
			return string(m) + " is not observed though its contract holds"
		}
	}
	return ""
}

// TestNoGPUNamed: if the policy names no GPU, the state does not depend on NVML and the topology.
func TestNoGPUNamed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := policy.Default()
		s := genSnapshot(p).Draw(t, "snapshot")
		c := rapid.SampledFrom(contexts()).Draw(t, "context")
		with := s
		with.GPU = genNVML(t)
		before, after := Classify(p, s, c, readAt), Classify(p, with, c, readAt)
		require.Equal(t, before.State, after.State)
		require.Equal(t, before.Confidence, after.Confidence)
		require.Equal(t, before.Reasons, after.Reasons)
		require.Equal(t, before.Conflicts, after.Conflicts)
	})
}

// TestClassifyPropertyWithGPUs: TestClassifyProperty under a policy that names GPUs.
func TestClassifyPropertyWithGPUs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := described()
		s := genSnapshot(p).Draw(t, "snapshot")
		s.GPU = genNVML(t)
		c := rapid.SampledFrom(contexts()).Draw(t, "context")
		o, f := Classify(p, s, c, readAt), Derive(p, s)
		for _, m := range policy.Modes() {
			require.False(t, o.Is(m) && !kept(m, f), "%s is claimed while its contract does not hold", m)
		}
		require.Empty(t, coherent(p, o))
	})
}

func genNVML(t *rapid.T) NVML {
	n := NVML{Reading: genReading(t, "nvml"), Driver: rapid.Bool().Draw(t, "driver")}
	for _, pci := range rapid.SliceOfNDistinct(
		rapid.SampledFrom([]string{displayPCI, aiPCI, ""}), 0, 3, rapid.ID,
	).Draw(t, "cards") {
		c := Card{PCI: pci, Reason: rapid.SampledFrom([]string{"", "", "lost"}).Draw(t, "card")}
		for _, list := range []*CardProcesses{&c.Compute, &c.Graphics} {
			list.Reason = rapid.SampledFrom([]string{"", "", "denied"}).Draw(t, "list")
			if rapid.Bool().Draw(t, "used") {
				list.Processes = []CardProcess{
					{PID: 7, Unit: rapid.SampledFrom([]string{"", "vllm.service", "nvidia-persistenced.service"}).Draw(t, "unit")},
				}
			}
		}
		n.Cards = append(n.Cards, c)
	}
	return n
}

func trainer() CardProcess {
	return CardProcess{PID: 4242, Command: "python3", UID: of(1001), Unit: "session-9.scope", Memory: measured(8 << 30)}
}

// TestGPUStates has an example of each rule under a policy that names GPUs.
func TestGPUStates(t *testing.T) {
	cases := map[string]struct {
		host       func() Snapshot
		change     func(*Snapshot)
		state      State
		confidence Confidence
		reasons    []string
		conflicts  []string
	}{
		"a desktop with its cards idle is desktop": {host: desktop, state: "desktop", confidence: High},
		"a compute process on the display GPU is a conflict": {
			host: desktop, state: "degraded-desktop", confidence: High,
			change:  func(s *Snapshot) { s.GPU.Cards[0].Compute.Processes = []CardProcess{trainer()} },
			reasons: []string{"compute-on-display-gpu"}, conflicts: []string{"compute-on-display-gpu"},
		},
		"a compute process on the other GPU is ignored": {
			host: desktop, state: "desktop", confidence: High,
			change: func(s *Snapshot) { s.GPU.Cards[1].Compute.Processes = []CardProcess{trainer()} },
		},
		"a permitted unit may compute": {
			host: desktop, state: "desktop", confidence: High,
			change: func(s *Snapshot) {
				s.GPU.Cards[0].Compute.Processes = []CardProcess{{PID: 9, Unit: "nvidia-persistenced.service"}}
			},
		},
		"graphics on the display GPU is what a desktop is for": {
			host: desktop, state: "desktop", confidence: High,
			change: func(s *Snapshot) { s.GPU.Cards[0].Graphics.Processes = []CardProcess{{PID: 900}} },
		},
		"in compute it is a contradiction": {
			host: compute, state: StateUnknown, confidence: High,
			change:  func(s *Snapshot) { s.GPU.Cards[0].Graphics.Processes = []CardProcess{{PID: 900}} },
			reasons: []string{"compute-with-display-graphics"}, conflicts: []string{"compute-with-display-graphics"},
		},
		"computing in compute is not": {
			host: compute, state: "compute", confidence: High,
			change: func(s *Snapshot) { s.GPU.Cards[0].Compute.Processes = []CardProcess{trainer()} },
		},
		"NVML that fails costs confidence": {
			host: compute, state: "compute", confidence: Medium,
			change: func(s *Snapshot) { s.GPU = NVML{Reading: Reading{At: readAt, Reason: "Unknown Error"}} },
		},
		"and on the desktop as well": {
			host: desktop, state: "desktop", confidence: Medium,
			change: func(s *Snapshot) { s.GPU = NVML{Reading: Reading{At: readAt, Reason: "Unknown Error"}} },
		},
		"a lost display GPU is unknown, the mode stands": {
			host: compute, state: "compute", confidence: Medium,
			change: func(s *Snapshot) { s.GPU.Cards[0] = Card{PCI: displayPCI, Reason: "GPU is lost"} },
		},
		"a lost GPU without an address may be any": {
			host: compute, state: "compute", confidence: Medium,
			change: func(s *Snapshot) { s.GPU.Cards[0] = Card{Reason: "GPU is lost"} },
		},
		"a missing AI GPU degrades compute": {
			host: compute, state: "degraded-compute", confidence: High,
			change:  func(s *Snapshot) { s.Processes.GPUs = s.Processes.GPUs[:1] },
			reasons: []string{"ai-gpu-missing"}, conflicts: []string{"ai-gpu-missing", "planned-gpu-missing"},
		},
		"and is a conflict on the desktop, which is not degraded": {
			host: desktop, state: "desktop", confidence: High,
			change:    func(s *Snapshot) { s.Processes.GPUs = s.Processes.GPUs[:1] },
			conflicts: []string{"ai-gpu-missing", "planned-gpu-missing"},
		},
		"an AI GPU given to a guest is no AI GPU": {
			host: compute, state: "degraded-compute", confidence: High,
			change:  func(s *Snapshot) { s.Processes.GPUs[1] = GPU{PCI: aiPCI, Driver: "vfio-pci", Hidden: true} },
			reasons: []string{"ai-gpu-missing"}, conflicts: []string{"ai-gpu-missing"},
		},
		"a missing display GPU degrades the desktop": {
			host: desktop, state: "degraded-desktop", confidence: Medium, // what computes on it cannot be told
			change:  func(s *Snapshot) { s.Processes.GPUs, s.GPU.Cards = s.Processes.GPUs[1:], s.GPU.Cards[1:] },
			reasons: []string{"display-gpu-missing"}, conflicts: []string{"display-gpu-missing", "planned-gpu-missing"},
		},
		"a display of another make needs no NVML": {
			host: compute, state: "compute", confidence: High,
			change: func(s *Snapshot) {
				s.Processes.GPUs[0].Driver = "amdgpu"
				s.GPU = NVML{Reading: Reading{At: readAt, Reason: "the gpu probe is not there"}}
			},
		},
		"a kernel driver without its library is unknown": {
			host: compute, state: "compute", confidence: Medium,
			change: func(s *Snapshot) { s.GPU = NVML{Reading: Reading{At: readAt}} },
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := withNVIDIA(c.host())
			if c.change != nil {
				c.change(&s)
			}
			o := Classify(described(), s, Context{}, readAt)
			assert.Equal(t, c.state, o.State, "%+v", o.Reasons)
			assert.Equal(t, c.confidence, o.Confidence)
			assert.Equal(t, c.reasons, codesOf(o.Reasons))
			assert.Equal(t, c.conflicts, codesOf(o.Conflicts))
		})
	}
}

func codesOf(reasons []Reason) []string {
	var codes []string
	for _, r := range reasons {
		codes = append(codes, r.Code)
	}
	return codes
}

// TestNoNVIDIA: a host without an NVIDIA GPU has known facts, with or without the GPU probe.
func TestNoNVIDIA(t *testing.T) {
	for name, n := range map[string]NVML{
		"no probe": {
			Reading: Reading{At: readAt, Reason: "the gpu probe is not there"},
		}, "no driver": {Reading: Reading{At: readAt}},
	} {
		s := desktop()
		s.Processes.GPUs[0].Driver, s.GPU = "amdgpu", n
		f := Derive(policy.Default(), s)
		assert.Equal(t, False, f.Is(DisplayCompute), name)
		assert.Equal(t, False, f.Is(DisplayGraphics), name)
		assert.Equal(t, True, f.Is(PlannedPresent), name)
		assert.Equal(t, State("desktop"), Classify(policy.Default(), s, Context{}, readAt).State)
	}
}

func TestGPUPace(t *testing.T) {
	p, plain := described(), policy.Default()
	assert.Zero(t, GPUPace(plain, desktop()), "an idle desktop costs nothing")
	assert.Equal(t, 5*time.Minute, GPUPace(p, desktop()))
	assert.Equal(t, 30*time.Second, GPUPace(p, compute()))
	assert.Equal(t, 30*time.Second, GPUPace(plain, compute()))
	assert.Zero(t, GPUPace(p, Snapshot{}))

	// What the pace promises, the bound allows.
	for _, host := range []Snapshot{desktop(), compute()} {
		assert.Equal(t, GPUPace(p, host)+2*p.Timeouts.Look.D(), Derive(p, withNVIDIA(host))[DisplayCompute].Bound)
	}
}

func TestGPURedaction(t *testing.T) {
	s := withNVIDIA(desktop())
	ended := CardProcess{PID: 77}
	s.GPU.Cards[0].Compute.Processes = []CardProcess{trainer(), ended}
	o := Classify(described(), s, Context{}, readAt)
	require.Contains(t, o.Reasons[0].Text, "python3 (pid 4242, session-9.scope)")

	redacted, words := Redact(s, 1000)
	list := redacted.GPU.Cards[0].Compute.Processes
	assert.Equal(t, CardProcess{UID: of(1001), Memory: measured(8 << 30), Redacted: true}, list[0])
	assert.Equal(t, CardProcess{Redacted: true}, list[1], "a process of an unknown user is redacted for everybody")
	assert.NotContains(t, words.Observation(o).Reasons[0].Text, "python3")
	assert.NotContains(t, words.Observation(o).Conflicts[0].Text, "4242")
	own, _ := Redact(s, 1001)
	assert.Equal(t, trainer(), own.GPU.Cards[0].Compute.Processes[0])
	assert.Equal(t, trainer(), s.GPU.Cards[0].Compute.Processes[0], "what was handed out stays")

	later := s
	later.GPU.Cards = slices.Clone(s.GPU.Cards)
	later.GPU.Cards[0].MemoryUsed = measured(5 << 30)
	assert.Equal(t, s.Fingerprint(), later.Fingerprint(), "memory is a measure")
	later.GPU.Cards[0].Compute.Processes = nil
	assert.NotEqual(t, s.Fingerprint(), later.Fingerprint())
}

func TestGPUProbePermitted(t *testing.T) {
	h := ProcessScan{Reading: Reading{At: readAt}, GPUs: []GPU{{PCI: displayPCI, Display: true}}, Holders: []Holder{
		{GPU: displayPCI, PID: 5, Unit: "dubnium-probe-gpu.service"},
	}}
	assert.Empty(t, ForeignHolders(policy.Default(), h))
}
