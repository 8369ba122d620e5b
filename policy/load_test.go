package policy

import (
	"os"
	"path/filepath"
	"testing"

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

// TestABrokenPolicyIsRefusedWithItsPlaces: testdata/broken has one file for each
// way to be wrong, and beside it what is said about it: all of it, at once.
func TestABrokenPolicyIsRefusedWithItsPlaces(t *testing.T) {
	files, err := filepath.Glob("testdata/broken/*.toml")
	require.NoError(t, err)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			require.NoError(t, err)
			_, err = Parse(filepath.Base(file), data)
			require.Error(t, err)
			require.NotEmpty(t, Findings(err))
			golden(t, file+".golden", err.Error()+"\n")
		})
	}
	require.GreaterOrEqual(t, len(files), 30)
}

// golden compares got with a file; UPDATE_GOLDEN=1 writes it.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if os.Getenv("UPDATE_GOLDEN") == "1" {
		require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), got, "UPDATE_GOLDEN=1 go test ./policy writes it")
}

func TestAFileThatCannotBeReadIsAnError(t *testing.T) {
	_, err := Load(t.TempDir())
	require.Error(t, err)
	assert.Contains(t, err.Error(), "cannot read the policy")
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
	d, err := ParseDocument("policy.example.toml", data)
	require.NoError(t, err)
	want := Default()
	want.Transitions = TrustAll
	assert.Equal(t, want, d.Policy, "the example shows every default, and full trust")
	for _, s := range d.Settings() {
		assert.NotEqual(t, OriginDefault, s.Origin, "the example has every key, %s too", s.Key)
	}
}
