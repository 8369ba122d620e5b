package observer

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/dubnium/dubnium/policy"
)

// coherent returns what is wrong with the explanation of an observation.
func coherent(p policy.Policy, o Observation) string {
	e := Explain(p, o)
	for _, w := range e.Modes {
		if clear := len(w.Against) == 0 && len(w.Because) == 0; clear != o.Is(w.Mode) || w.Observed != o.Is(w.Mode) {
			return fmt.Sprintf("%s: observed %v, against it %v and %v", w.Mode, o.Is(w.Mode), w.Against, w.Because)
		}
	}
	if len(e.Modes) != len(policy.Modes()) {
		return "not every mode is explained"
	}
	if len(e.Decided) == 0 && e.Rule != RuleTransition {
		return "no fact decided " + string(e.Rule)
	}
	return ""
}

// TestExplainExhaustive: a mode is observed if and only if its explanation lists nothing against it,
// for every third combination of the facts and every context.
func TestExplainExhaustive(t *testing.T) {
	p := policy.Default()
	combinations := 1
	for range allFacts {
		combinations *= 3
	}
	f := Facts{}
	for n := 0; n < combinations; n += 31 { // prime to 3: every truth of every fact
		number(f, n)
		for _, audio := range audioStacks(f, n) {
			f[AudioStack] = audio
			for _, c := range contexts() {
				o := decide(p, f, c, readAt)
				if fault := coherent(p, o); fault != "" {
					require.Failf(t, "incoherent", "%s\n%+v", fault, o)
				}
			}
		}
	}
}

func TestExplainProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := policy.Default()
		o := Classify(p, genSnapshot(p).Draw(t, "snapshot"), rapid.SampledFrom(contexts()).Draw(t, "context"), readAt)
		if fault := coherent(p, o); fault != "" {
			t.Fatalf("%s: %+v", fault, o)
		}
	})
}

func signals(findings []Finding) []Signal {
	var names []Signal
	for _, f := range findings {
		names = append(names, f.Signal)
	}
	return names
}

func TestExplainAgainst(t *testing.T) {
	p := policy.Default()
	e := Explain(p, Classify(p, desktop(), Context{Desired: policy.Desktop}, readAt))
	assert.Equal(t, RuleContract, e.Rule)
	assert.Equal(
		t,
		[]Signal{
			ManagerStarted, DesktopTarget, ComputeTarget, StudioPolicy, DesktopPresence, VLLMActive, AudioPriority, AudioStack,
		},
		signals(e.Decided),
	)
	compute := e.Of(p, policy.Compute).Modes
	require.Len(t, compute, 1)
	assert.Equal(t, []Signal{
		DesktopTarget, ComputeTarget, GraphicalSession, DisplayReleased, DisplayManager, VLLMActive, VLLMHealthy,
	}, signals(compute[0].Against))
	held := compute[0].Against[3]
	assert.Equal(t, True, held.Want)
	assert.Equal(t, False, held.Truth)
	assert.Equal(t, "sway (pid 900, session-2.scope) holds 0000:01:00.0", held.Reason)
}

func TestExplainAudioStack(t *testing.T) {
	p, s := policy.Default(), desktop()
	s.Audio.Servers[0].Running = false
	against := Explain(p, Classify(p, s, Context{}, readAt)).Of(p, policy.Desktop).Modes[0].Against
	require.Equal(t, []Signal{AudioStack}, signals(against))
	assert.Equal(t, "no audio server listens for uid 1000", against[0].Reason)
}

func TestExplainBecause(t *testing.T) {
	p := policy.Default()
	for want, c := range map[string]Context{
		"transition-runs": {InFlight: true}, "not-where-asked": {LastFailed: true, Desired: policy.Compute},
	} {
		w := Explain(p, Classify(p, desktop(), c, readAt)).Of(p, policy.Desktop).Modes[0]
		assert.Empty(t, w.Against)
		require.Len(t, w.Because, 1)
		assert.Equal(t, want, w.Because[0].Code)
	}
}

// TestConfidenceByAge: a stale deciding fact makes the confidence low. The age of other facts does
// not matter.
func TestConfidenceByAge(t *testing.T) {
	p := policy.Default()
	bound := p.Timeouts.Recheck.D() + 2*p.Timeouts.Look.D()
	audioBound := AudioRecheck(p) + 2*p.Timeouts.Look.D()
	greeting := desktop()
	greeting.Logind.Sessions = []Session{{ID: "c1", Class: "greeter", Type: "wayland"}}
	cases := map[string]struct {
		host       Snapshot
		age        time.Duration
		confidence Confidence
	}{
		"compute, just read":                  {compute(), 0, High},
		"compute, read a bound ago":           {compute(), bound, High},
		"compute, read before that":           {compute(), bound + time.Nanosecond, Low},
		"a greeter rests on what signals":     {greeting, 24 * time.Hour, High},
		"desktop, audio heard a bound ago":    {desktop(), audioBound, High},
		"desktop, audio heard before that":    {desktop(), audioBound + time.Nanosecond, Low},
		"a clock that went back is no reason": {compute(), -time.Hour, High},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			o := Classify(p, c.host, Context{}, readAt.Add(c.age))
			assert.Equal(t, c.confidence, o.Confidence)
			stale := slices.ContainsFunc(Explain(p, o).Decided, func(f Finding) bool { return f.Stale })
			assert.Equal(t, c.confidence == Low, stale)
			switch {
			case c.confidence == Low || len(c.host.Logind.Graphical()) == 0 && o.Inferred == policy.Desktop:
				assert.Zero(t, o.Expires, "nothing is to be awaited")
			case o.Inferred == policy.Compute:
				assert.Equal(t, readAt.Add(bound), o.Expires)
			default:
				assert.Equal(t, readAt.Add(audioBound), o.Expires)
			}
		})
	}
}

// TestFreshnessProperty: age changes only the confidence, which is low if a deciding fact is stale.
func TestFreshnessProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := policy.Default()
		s, c := genSnapshot(p).Draw(t, "snapshot"), rapid.SampledFrom(contexts()).Draw(t, "context")
		later := readAt.Add(time.Duration(rapid.Int64Range(0, int64(5*time.Minute)).Draw(t, "age")))
		young, old := Classify(p, s, c, readAt), Classify(p, s, c, later)
		if young.State != old.State || !slices.Equal(young.Reasons, old.Reasons) {
			t.Fatalf("%s became %s by age alone", young.State, old.State)
		}
		if slices.ContainsFunc(Explain(p, old).Decided, func(f Finding) bool { return f.Stale }) != (old.Confidence == Low) &&
			young.Confidence != Low {
			t.Fatalf("confidence %s does not say what is stale: %+v", old.Confidence, Explain(p, old).Decided)
		}
		if !old.Expires.IsZero() && !old.Expires.After(later) && old.Expires != later {
			t.Fatalf("%s is past", old.Expires)
		}
	})
}
