package policy

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/pelletier/go-toml/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAMissingFileIsTheEmptyPolicy(t *testing.T) {
	p, err := Load(filepath.Join(t.TempDir(), "policy.toml"))
	require.NoError(t, err)
	assert.Equal(t, Default(), p)
	assert.Equal(t, TrustObserve, p.Transitions, "a host nobody described is only observed")
}

func TestTheDefaultsMakeSense(t *testing.T) {
	assert.Empty(t, Default().faults())
}

func TestAPolicyReadsBackAsItWasWritten(t *testing.T) {
	p := Default()
	p.Transitions, p.DefaultMode = TrustAll, StudioLocal
	p.GPU.Display = []string{"0000:0a:00.0"}
	p.GPU.AI, p.GPU.Planned, p.GPU.ResidualMiB = []string{"0000:0a:00.0", "0000:0b:00.0"}, []string{"0000:0c:00.0"}, 320
	p.VLLM.OnDrainTimeout = DrainStop
	p.VLLM.DrainTimeout++
	data, err := toml.Marshal(p)
	require.NoError(t, err)
	got, err := Parse("policy.toml", data)
	require.NoError(t, err)
	assert.Equal(t, p, got)
}

// TestABrokenPolicyIsRefusedWithItsPlace: each fault is one line that says where.
func TestABrokenPolicyIsRefusedWithItsPlace(t *testing.T) {
	cases := map[string]struct{ file, want string }{
		"an unknown key":              {"transitions = \"all\"\ncolour = 1", "p.toml:2:1: unknown key colour"},
		"an unknown section key":      {"[units]\nvllm_unit = \"x\"", "p.toml:2:1: unknown key units.vllm_unit"},
		"a word that is no trust":     {"transitions = \"maybe\"", "the stages are observe, overlay, all"},
		"a mode that is none":         {"default_mode = \"gaming\"", "the modes are desktop, studio-local, compute"},
		"booting to compute":          {"default_mode = \"compute\"", "p.toml: default_mode: a host does not boot to compute"},
		"a wrong type":                {"[vllm]\nenabled = \"yes\"", "p.toml:2:11"},
		"a number as duration":        {"[timeouts]\nunit = \"90\"", "write it like \"90s\""},
		"a duration of nothing":       {"[timeouts]\nunit = \"0s\"", "timeouts.unit: 0s is not more than zero"},
		"a path that is relative":     {"[paths]\nstate = \"state\"", "paths.state: \"state\" is not a clean absolute path"},
		"a target that is none":       {"[units]\ncompute_target = \"compute.service\"", "\"compute.service\" is not a target"},
		"one target for both":         {"[units]\ncompute_target = \"desktop.target\"", "it is the desktop target too"},
		"a unit with a space":         {"[units]\nvllm = \"v llm.service\"", "is not the name of a unit"},
		"a card as GPU":               {"[gpu]\ndisplay = [\"card0\"]", "is not a PCI address"},
		"a card for AI":               {"[gpu]\nai = [\"nvidia0\"]", "gpu.ai: \"nvidia0\" is not a PCI address"},
		"a planned card":              {"[gpu]\nplanned = [\"\"]", "gpu.planned: \"\" is not a PCI address"},
		"memory below nothing":        {"[gpu]\nresidual_mib = -1", "gpu.residual_mib: -1 is less than nothing"},
		"no pace for the GPUs":        {"[gpu]\nrecheck = \"0s\"", "gpu.recheck: 0s is not more than zero"},
		"a health check elsewhere":    {"[vllm]\nhealth_url = \"http://example.org/health\"", "vllm.health_url"},
		"no TOML":                     {"transitions = ", "p.toml:1:"},
		"a drain action that is none": {"[vllm]\non_drain_timeout = \"pray\"", "it is fail or stop"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("p.toml", []byte(c.file))
			require.Error(t, err)
			assert.Contains(t, err.Error(), c.want)
		})
	}
}

func TestAllFaultsAreReportedAtOnce(t *testing.T) {
	_, err := Parse("p.toml", []byte("a = 1\nb = 2\n[gpu]\nc = 3"))
	require.Error(t, err)
	for _, want := range []string{"p.toml:1:1: unknown key a", "p.toml:2:1: unknown key b", "p.toml:4:1: unknown key gpu.c"} {
		assert.Contains(t, err.Error(), want)
	}
	_, err = Parse("p.toml", []byte("[paths]\nstate = \"x\"\nruntime = \"y\""))
	require.Error(t, err)
	assert.Contains(t, err.Error(), "paths.state")
	assert.Contains(t, err.Error(), "paths.runtime")
}

func TestAFileThatCannotBeReadIsAnError(t *testing.T) {
	_, err := Load(t.TempDir())
	require.Error(t, err)
	assert.Contains(t, err.Error(), "cannot read the policy")
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("transitions = \"all\"\n[vllm]\nenabled = false"))
	f.Add([]byte("[gpu]\ndisplay = [\"0000:01:00.0\"]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Parse("fuzz.toml", data)
		if err != nil {
			return
		}
		if faults := p.faults(); len(faults) > 0 {
			t.Fatalf("accepted a policy with faults: %v", faults)
		}
	})
}

func TestEveryGuardHasItsCodes(t *testing.T) {
	for _, g := range Guards() {
		assert.True(t, g.Block >= 10 && g.Block <= 19, g.ID)
		assert.Equal(t, g.Block+10, g.Unknown())
		got, known := Guard(g.ID)
		assert.True(t, known)
		assert.Equal(t, g, got)
	}
	_, known := Guard("check_weather")
	assert.False(t, known)
}

func TestTheExamplePolicyIsWhatTheDocsSayItIs(t *testing.T) {
	data, err := os.ReadFile("../docs/policy.example.toml")
	require.NoError(t, err)
	p, err := Parse("policy.example.toml", data)
	require.NoError(t, err)
	want := Default()
	want.Transitions = TrustAll
	assert.Equal(t, want, p, "the example shows every default, and full trust")
}
