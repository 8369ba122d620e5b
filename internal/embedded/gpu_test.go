package embedded_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/internal/embedded"
	"github.com/dubnium/dubnium/internal/fakenvml"
	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/observer/recording"
	"github.com/dubnium/dubnium/policy"
)

const (
	displayCard = "card 00000000:01:00.0 GPU-one 25769803776 "
	aiCard      = "card 00000000:41:00.0 GPU-two 25769803776 0\n"
	idle        = displayCard + "83886080\n" + aiCard
)

// station is a simulated workstation with the GPU probe over a stand-in for NVML.
type station struct {
	*embedded.Workstation
	t    *testing.T
	ctx  context.Context
	says string
}

// gpuStation starts a machine with two NVIDIA cards.
func gpuStation(t *testing.T, ctx context.Context) *station {
	t.Helper()
	dir := t.TempDir()
	library, err := fakenvml.Build(ctx, dir)
	require.NoError(t, err)
	s := &station{t: t, ctx: ctx, says: filepath.Join(dir, "says")}
	s.say(idle)
	t.Setenv(fakenvml.Variable, s.says)
	s.Workstation, err = embedded.Start(ctx, programs, embedded.Options{
		Host: testhost.Options{
			SecondGPU: true,
			GPUProbe: []string{
				filepath.Join(string(programs), "dubnium-gpu-probe"), "--library", library, "--lock", filepath.Join(dir, "lock"),
				"--proc", "/proc", "--limit", "500ms",
			},
		},
		Policy: func(p *policy.Policy) {
			p.GPU.Display, p.GPU.AI = []string{"0000:01:00.0"}, []string{"0000:41:00.0"}
			p.GPU.Planned, p.GPU.ResidualMiB = []string{"0000:81:00.0"}, 160
			p.Timeouts.GPURelease = policy.Duration(2 * time.Second)
		},
	})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	return s
}

func (s *station) say(text string) {
	s.t.Helper()
	require.NoError(s.t, os.WriteFile(s.says+".new", []byte(text), 0o600))
	require.NoError(s.t, os.Rename(s.says+".new", s.says))
}

func (s *station) modectl(want int, args ...string) string {
	s.t.Helper()
	out, errs, code, err := s.Modectl(s.ctx, args...)
	require.NoError(s.t, err)
	require.Equal(s.t, want, code, out+errs)
	return out + errs
}

type current struct {
	State      string                  `json:"observed_state"`
	Confidence string                  `json:"confidence"`
	Conflicts  []struct{ Code string } `json:"conflicts"`
	Signals    map[string]any          `json:"signals"`
	Unknown    map[string]string       `json:"unknown"`
	Evidence   struct {
		GPU struct {
			Driver bool
			Reason string
			Cards  []struct {
				PCI, UUID, Reason string
				Used              struct{ Value *float64 } `json:"memory_used"`
			}
		}
	}
}

func (s *station) current() (c current) {
	s.t.Helper()
	require.NoError(s.t, json.Unmarshal([]byte(s.modectl(0, "current", "--refresh", "--json")), &c))
	return c
}

func (c current) codes() []string {
	codes := []string{}
	for _, conflict := range c.Conflicts {
		codes = append(codes, conflict.Code)
	}
	return codes
}

// TestTheGPUsAreObserved: through the programs, from the driver's library to what
// modectl prints.
func TestTheGPUsAreObserved(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	s := gpuStation(t, ctx)

	c := s.current()
	require.Equal(t, "desktop", c.State)
	require.Equal(t, "high", c.Confidence)
	require.Equal(t, []string{"planned-gpu-missing"}, c.codes())
	require.True(t, c.Evidence.GPU.Driver)
	require.Equal(t, "GPU-one", c.Evidence.GPU.Cards[0].UUID)
	require.InDelta(t, 80<<20, *c.Evidence.GPU.Cards[0].Used.Value, 0)

	s.say(displayCard + "8388608000\ncompute 4194304 8388608\n" + aiCard)
	c = s.current()
	require.Equal(t, "degraded-desktop", c.State)
	require.Equal(t, []string{"compute-on-display-gpu", "planned-gpu-missing"}, c.codes())
	require.Contains(
		t, s.modectl(0, "explain", "--why-not", "desktop"), "gpu_display_compute_active must be false",
	)

	s.say(displayCard + "0\nlost\n" + aiCard)
	c = s.current()
	require.Equal(t, "desktop", c.State)
	require.Equal(t, "medium", c.Confidence)
	require.Contains(t, c.Unknown["gpu_display_compute_active"], "0000:01:00.0: GPU is lost")
	require.Empty(t, c.Evidence.GPU.Cards[1].Reason)

	for says, want := range map[string]string{
		"init 18\n":                 "cannot start NVML: Driver/library version mismatch",
		idle + "hang nvmlInit_v2\n": "closed the connection without an answer",
	} {
		s.say(says)
		c = s.current()
		require.Equal(t, "desktop", c.State)
		require.Equal(t, "medium", c.Confidence)
		require.Contains(t, c.Evidence.GPU.Reason, want)
	}
	for fault, want := range map[testhost.ProbeFault]string{
		testhost.ProbeRefuses: "nothing listens", testhost.ProbeGarbage: "not a document", testhost.ProbeEOF: "not a document",
	} {
		require.NoError(t, s.SetProbeFault("gpu", fault))
		require.Contains(t, s.current().Evidence.GPU.Reason, want)
	}
	require.NoError(t, s.SetProbeFault("gpu", testhost.ProbeWorks))
	s.say(idle)
	require.Equal(t, "high", s.current().Confidence)
}

// TestWhatNVMLSaidIsRecordedAndReplayed: a recording says what was called
// degraded, and under a policy that names no GPU it would not have been.
func TestWhatNVMLSaidIsRecordedAndReplayed(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	s := gpuStation(t, ctx)
	file, plain := filepath.Join(t.TempDir(), "recording.jsonl"), filepath.Join(t.TempDir(), "policy.toml")
	require.NoError(t, os.WriteFile(plain, nil, 0o600))
	record(t, ctx, s.Workstation, file, func() {
		s.say(displayCard + "8388608000\ncompute 4194304 8388608\n" + aiCard)
		require.Equal(t, "degraded-desktop", s.current().State)
		degraded := func() bool {
			return slices.ContainsFunc(entries(file), func(e recording.Entry) bool { return e.State == "degraded-desktop" })
		}
		require.Eventually(t, degraded, time.Minute, 10*time.Millisecond, "it is recorded")
		s.say(idle)
		require.Equal(t, "desktop", s.current().State)
	})
	out, errs, code, err := embedded.Run(s.Program(ctx, "dubniumd", "replay", file))
	require.NoError(t, err)
	require.Zero(t, code, out+errs)
	out, _, code, err = embedded.Run(s.Program(ctx, "dubniumd", "replay", "--policy", plain, file))
	require.NoError(t, err)
	require.Equal(t, 2, code)
	require.Contains(t, out, "degraded-desktop (high; compute-on-display-gpu) -> desktop (high; )")
}

// residual is what the last transition measured, by step.
func (s *station) residual() map[string][]observer.GPUMemory {
	s.t.Helper()
	var last status.Record
	require.NoError(s.t, json.Unmarshal([]byte(s.modectl(0, "last-transition", "--json")), &last))
	measured := map[string][]observer.GPUMemory{}
	for _, step := range last.Steps {
		if step.Residual != nil {
			measured[step.ID] = step.Residual
		}
	}
	return measured
}

// TestAReleaseIsGatedAndMeasured: memory that stays in use keeps vLLM from starting,
// what stays is in the record either way, and the doctor goes by it.
func TestAReleaseIsGatedAndMeasured(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	s := gpuStation(t, ctx)
	left := func(mib uint64) map[string][]observer.GPUMemory {
		return map[string][]observer.GPUMemory{"check-gpu-display-released": {{GPU: "0000:01:00.0", Bytes: mib << 20}}}
	}

	s.say(displayCard + "943718400\n" + aiCard)
	out := s.modectl(53, "request", "compute")
	require.Contains(t, out, "no process holds 0000:01:00.0, but 900 MiB of its memory are in use, more than 160")
	require.Equal(t, "desktop", s.current().State, "it went back")
	require.Equal(t, left(900), s.residual())

	s.say(idle)
	s.modectl(0, "request", "compute")
	require.Equal(t, left(80), s.residual())
	out, errs, _, err := s.Modectl(ctx, "doctor") // what else it finds depends on who runs the tests
	require.NoError(t, err)
	require.Contains(t, out,
		"1 of the last 2 releases of a display GPU left more than gpu.residual_mib = 160 in use, at most 900 MiB", errs)

	c := s.current()
	require.Equal(t, "compute", c.State)
	require.Equal(t, "high", c.Confidence)
	s.say(displayCard + "83886080\ngraphics 4194304 1024\n" + aiCard)
	c = s.current()
	require.Equal(t, "unknown", c.State)
	require.Contains(t, c.codes(), "compute-with-display-graphics")
}
