package calibration

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

const gpu = "0000:01:00.0"

var begin = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func used(n float64) observer.Measure {
	bytes := n * mib
	return observer.Measure{Value: &bytes}
}

// script is samples half a second apart: "held 900", "free 80", "free ?" for
// memory that is not known, "unclear".
func script(lines ...string) []Sample {
	var all []Sample
	for i, line := range lines {
		use, memory, _ := strings.Cut(line, " ")
		s := Sample{At: begin.Add(time.Duration(i) * 500 * time.Millisecond), GPU: gpu, Use: Use(use), Reason: "no answer"}
		switch memory {
		case "?", "":
			s.Used.Reason = "Not Supported"
		default:
			n := 0.0
			for _, digit := range memory {
				n = n*10 + float64(digit-'0')
			}
			s.Used = used(n)
		}
		if use == "held" {
			s.Holders = []string{"sway"}
		}
		all = append(all, s)
	}
	return all
}

func watch(samples []Sample) []Release {
	var w Watch
	var all []Release
	for _, s := range samples {
		if r := w.Add(s); r != nil {
			all = append(all, *r)
		}
	}
	return append(all, w.Finish()...)
}

func TestARelease(t *testing.T) {
	cases := map[string]struct {
		samples  []string
		want     []Outcome
		residual float64 // of the first, in MiB
		reason   string  // of the first
	}{
		"a release that comes to rest is measured": {
			[]string{"held 900", "free 300", "free 120", "free 80", "free 82", "free 80", "free 80"}, []Outcome{Pass}, 82, "",
		},
		"it is measured once":                    {[]string{"held 900", "free 80", "free 80", "free 80", "free 80", "free 80", "free 80", "free 80", "free 80"}, []Outcome{Pass}, 80, ""},
		"and again when it was held in between":  {[]string{"free 80", "free 80", "free 80", "free 80", "held 900", "free 70", "free 70", "free 70", "free 70"}, []Outcome{Pass, Pass}, 80, ""},
		"a GPU that was free all along counts":   {[]string{"free 80", "free 80", "free 80", "free 80"}, []Outcome{Pass}, 80, ""},
		"one that is never free is no release":   {[]string{"held 900", "held 901", "unclear"}, nil, 0, ""},
		"one taken again too soon says nothing":  {[]string{"held 900", "free 80", "held 700"}, []Outcome{Indeterminate}, 0, "taken again"},
		"nor one that never rests":               {[]string{"free 80", "free 90", "free 80", "free 90", "free 80"}, []Outcome{Indeterminate}, 0, "the watch ended"},
		"nor one whose memory is not known":      {[]string{"held 900", "free 80", "free ?", "free 80", "free 80", "free 80", "free 80"}, []Outcome{Indeterminate}, 0, "Not Supported"},
		"nor one of which it is lost sight":      {[]string{"held 900", "free 80", "unclear", "free 80", "free 80", "free 80", "free 80"}, []Outcome{Indeterminate}, 0, "no answer"},
		"what is not clear is neither":           {[]string{"held 900", "unclear", "held 900"}, nil, 0, ""},
		"nothing at all is nothing":              {nil, nil, 0, ""},
		"a look after the outcome changes none":  {[]string{"free 80", "free 80", "free 80", "free 80", "unclear", "free ?"}, []Outcome{Pass}, 80, ""},
		"not clear at the start is no obstacle ": {[]string{"unclear", "free 80", "free 80", "free 80", "free 80"}, []Outcome{Pass}, 80, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := watch(script(c.samples...))
			var outcomes []Outcome
			for _, r := range got {
				outcomes = append(outcomes, r.Outcome)
			}
			require.Equal(t, c.want, outcomes)
			if len(got) == 0 {
				return
			}
			assert.Contains(t, got[0].Reason, c.reason)
			if c.residual > 0 {
				assert.InDelta(t, c.residual*mib, *got[0].Residual, 0)
			}
			if strings.HasPrefix(c.samples[0], "held") {
				assert.InDelta(t, 900*mib, *got[0].Held, 0)
				assert.Equal(t, []string{"sway"}, got[0].Holders)
			}
		})
	}
}

// A burst of signals makes a burst of looks, and memory that has had no time to
// move is not at rest.
func TestABurstOfSamplesIsOne(t *testing.T) {
	samples := script("held 900", "free 500", "free 500", "free 500", "free 500", "free 500")
	for i := range samples {
		samples[i].At = begin.Add(time.Duration(i) * time.Millisecond)
	}
	require.Equal(t, Indeterminate, watch(samples)[0].Outcome)
}

func TestEachGPUIsWatchedForItself(t *testing.T) {
	var both []Sample
	for _, s := range script("held 900", "free 80", "free 80", "free 80", "free 80") {
		other := s
		other.GPU, other.Used = "0000:02:00.0", used(10)
		both = append(both, s, other)
	}
	got := watch(both)
	require.Len(t, got, 2)
	assert.InDelta(t, 80*mib, *got[0].Residual, 0)
	assert.InDelta(t, 10*mib, *got[1].Residual, 0)
}

func passes(residues ...float64) []Release {
	var all []Release
	for _, n := range residues {
		all = append(all, Release{GPU: gpu, Outcome: Pass, Residual: used(n).Value, Held: used(900).Value})
	}
	return all
}

func TestAProposal(t *testing.T) {
	lost := Release{GPU: gpu, Outcome: Indeterminate, Reason: "GPU is lost"}
	cases := map[string]struct {
		releases []Release
		want     int
		why      string
	}{
		"nothing measured":                 {nil, 0, "0 releases were measured"},
		"too few":                          {append(passes(80, 82), lost, lost), 0, "2 releases were measured"},
		"the largest, with room":           {passes(80, 82, 81), 160, "the largest of 3 residues is 82 MiB, with 64 MiB of room"},
		"room grows with it":               {passes(400, 410, 400), 528, "with 102 MiB of room"},
		"no residue at all":                {passes(0, 0, 0), 64, "the largest of 3 residues is 0 MiB"},
		"an outlier counts":                {passes(10, 10, 10, 10, 300), 384, "the largest of 5"},
		"memory that cannot tell":          {passes(850, 850, 850), 0, "a GPU that was held had 900 MiB in use"},
		"indeterminates do not change it":  {append(passes(80, 82, 81), lost), 160, "of 3 residues"},
		"a pass without a number is none":  {append(passes(80, 82), Release{Outcome: Pass}), 0, "2 releases"},
		"a light holder that got away too": {append(passes(80, 82, 81), Release{Outcome: Indeterminate, Held: used(120).Value}), 0, "had 120 MiB in use"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := Propose(c.releases)
			assert.Equal(t, c.want, got.ResidualMiB)
			assert.Contains(t, got.Why, c.why)
			assert.Equal(t, len(c.releases), got.Passes+got.Indeterminates)
		})
	}
}

// TestProposalProperty: a threshold lets every measured release pass and no GPU
// that was seen held, whatever the samples.
func TestProposalProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var samples []Sample
		for i := range rapid.IntRange(0, 60).Draw(t, "n") {
			s := Sample{At: begin.Add(time.Duration(i) * time.Second), GPU: gpu, Use: rapid.SampledFrom([]Use{Held, Free, Free, Free, Free, Unclear}).Draw(t, "use")}
			if rapid.IntRange(0, 9).Draw(t, "known") > 0 {
				s.Used = used(float64(rapid.SampledFrom([]int{0, 80, 81, 82, 400, 900, 5000}).Draw(t, "used")))
			}
			samples = append(samples, s)
		}
		releases := watch(samples)
		p := Propose(releases)
		if p.ResidualMiB == 0 {
			return
		}
		for _, r := range releases {
			require.True(t, r.Residual == nil || *r.Residual <= float64(p.ResidualMiB)*mib)
			require.True(t, r.Held == nil || *r.Held > float64(p.ResidualMiB)*mib)
		}
		require.GreaterOrEqual(t, p.Passes, 3)
	})
}

func TestSamplesAreReadFromTheEvidence(t *testing.T) {
	p := policy.Default()
	at := observer.Reading{At: begin}
	s := observer.Snapshot{
		Processes: observer.ProcessScan{Reading: at, GPUs: []observer.GPU{{PCI: gpu, Display: true, Driver: "nvidia"}}, Holders: []observer.Holder{
			{GPU: gpu, PID: 9, Command: "sway", Unit: "session-2.scope"}, {GPU: gpu, PID: 10, Unit: "nvidia-persistenced.service"},
		}},
		GPU: observer.NVML{Reading: at, Driver: true, Cards: []observer.Card{{PCI: gpu, MemoryUsed: used(900)}}},
	}
	look := func() Sample {
		all := Samples(p, observer.Classify(p, s, observer.Context{}, begin), s)
		require.Len(t, all, 1)
		return all[0]
	}
	got := look()
	assert.Equal(t, Sample{At: begin, GPU: gpu, Use: Held, Used: used(900), Holders: []string{"sway (pid 9, session-2.scope)"}}, got)

	s.Processes.Holders = s.Processes.Holders[1:]
	assert.Equal(t, Free, look().Use)
	s.GPU.Cards[0].Compute.Processes = []observer.CardProcess{{PID: 7}}
	assert.Equal(t, Held, look().Use, "vLLM has it")
	s.GPU.Cards[0].Compute = observer.CardProcesses{Reason: "denied"}
	got = look()
	assert.Equal(t, Unclear, got.Use)
	assert.Equal(t, "denied", got.Reason)
	s.GPU.Cards[0] = observer.Card{PCI: gpu, Reason: "GPU is lost"}
	assert.Equal(t, observer.Measure{Reason: "GPU is lost"}, look().Used)
	s.GPU = observer.NVML{Reading: observer.Reading{At: begin, Reason: "the gpu probe is not there"}}
	assert.Equal(t, observer.Measure{Reason: "the gpu probe is not there"}, look().Used)
}

func TestARecordReadsBackAndIsContinued(t *testing.T) {
	var file bytes.Buffer
	require.NoError(t, Begin(&file))
	want := append(passes(80), Release{At: begin, GPU: gpu, Outcome: Indeterminate, Reason: "lost"})
	for _, r := range want {
		require.NoError(t, Write(&file, r))
	}
	whole := int64(file.Len())
	file.WriteString(`{"at":"2026-`)
	got, kept, err := Read(&file)
	require.NoError(t, err)
	assert.Equal(t, want, got)
	assert.Equal(t, whole, kept, "what was cut off is written over")

	for name, text := range map[string]string{
		"another file": "hello\n", "a newer one": `{"format":"dubnium-gpu-calibration","version":2}` + "\n",
		"a broken line": `{"format":"dubnium-gpu-calibration","version":1}` + "\nhello\n",
	} {
		_, _, err := Read(strings.NewReader(text))
		require.ErrorContains(t, err, "cannot read the record", name)
	}
	got, kept, err = Read(strings.NewReader(""))
	require.NoError(t, err)
	assert.Empty(t, got)
	assert.Zero(t, kept)
}
