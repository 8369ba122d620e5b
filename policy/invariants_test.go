package policy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The invariants of docs/architecture.md that a policy can break.

// TestInvariant14: models and mutable data live outside the Nix store.
func TestInvariant14(t *testing.T) {
	for key, text := range map[string]string{
		"guards.model_store": "[guards]\nmodel_store = \"/nix/store/abc-models\"",
		"paths.state":        "[paths]\nstate = \"/nix/store/abc/state\"",
		"paths.runtime":      "[paths]\nruntime = \"/nix/store\"",
	} {
		_, err := Parse("p.toml", []byte(text))
		require.Error(t, err, text)
		assert.Contains(t, err.Error(), key+": /nix/store")
	}
	p, err := Parse("p.toml", []byte("[guards]\nmodel_store = \"/nix/storehouse\"\n[paths]\nstate = \"/persist/modes\""))
	require.NoError(t, err, "only what is in the store")
	for _, dir := range append(p.Directories(), Default().Paths.State, Default().Paths.Runtime) {
		assert.False(t, beneath(dir, store), dir)
	}
}

// TestInvariant15: dotfiles do not decide machine-critical policy. The daemon reads one
// file of the host's owner, uses no directory of anybody's, and cannot see homes.
func TestInvariant15(t *testing.T) {
	for _, dir := range []string{"/home/alice/modes", "/root/modes", "/run/user/1000"} {
		for _, key := range []string{"runtime", "state", "probes", "rebuild_lock"} {
			_, err := Parse("p.toml", []byte("[paths]\n"+key+" = \""+dir+"\""))
			require.Error(t, err, "%s in %s", key, dir)
			assert.Contains(t, err.Error(), "paths."+key)
		}
	}
	unit := unitFile(t, "dubniumd.service")
	assert.Contains(t, unit, "\nProtectHome=yes\n")
	assert.Contains(t, unit, "\nProtectSystem=strict\n")
	assert.Contains(t, unit, "\nExecStart=/usr/libexec/dubnium/dubniumd\n", "with the policy under /etc, and no other")
}

func unitFile(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("../systemd", name))
	require.NoError(t, err)
	return string(data)
}

// TestInvariant16: mode policy can be expressed and inspected through systemd and Nix.
// What makes a mode is units that lie there as files, none is made up at run time, and
// the policy reads back from TOML, which is what Nix writes.
func TestInvariant16(t *testing.T) {
	p := Default()
	u := p.Units
	for _, unit := range []string{u.DesktopTarget, u.ComputeTarget, u.StudioPolicy, u.AudioPriority} {
		assert.Contains(t, unitFile(t, unit), "\nDescription=", unit)
	}
	for _, m := range Modes() {
		for slice := range p.Slices.Of(m) {
			if !strings.HasPrefix(slice, "user.") { // systemd's own
				assert.Contains(t, unitFile(t, slice), "[Slice]", "%s of %s", slice, m)
			}
		}
	}
	p.Transitions, p.Guards.ModelStore = TrustAll, "/srv/models"
	p.VLLM.Profiles["fast"] = Profile{Unit: "vllm-fast.service"}
	p.Modes.Compute.VLLMProfile, p.Modes.StudioLocal.Required = "fast", []string{"jack.service"}
	p.Slices.Desktop = map[string]Slice{"user.slice": {CPUWeight: 200, AllowedCPUs: "0-3"}}
	text, err := p.TOML()
	require.NoError(t, err)
	again, err := Parse("p.toml", []byte(text))
	require.NoError(t, err)
	assert.Equal(t, p, again)
}
