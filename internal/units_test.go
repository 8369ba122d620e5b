package internal

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// services are the settings of the [Service] section of each service by its file's
// name. A setting that is given more than once has a line for each.
func services(t *testing.T) map[string]map[string]string {
	t.Helper()
	files, err := filepath.Glob("../systemd/*.service")
	require.NoError(t, err)
	require.Greater(t, len(files), 8)
	all := map[string]map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		_, section, found := strings.Cut(string(text), "\n[Service]\n")
		require.True(t, found, file)
		section, _, _ = strings.Cut(section, "\n[")
		settings := map[string]string{}
		for line := range strings.Lines(section) {
			if key, value, is := strings.Cut(strings.TrimSpace(line), "="); is && !strings.HasPrefix(key, "#") {
				settings[key] += value + "\n"
			}
		}
		all[filepath.Base(file)] = settings
	}
	return all
}

// ProtectSystem=strict leaves out what systemd mounts by itself, /run among it, where
// units can be put.
func TestNoServiceMayWriteToRun(t *testing.T) {
	for name, s := range services(t) {
		if s["ProtectSystem"] == "strict\n" {
			assert.Contains(t, strings.Fields(s["ReadOnlyPaths"]), "/run", name)
		}
	}
}
