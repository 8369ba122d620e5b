package internal

import (
	"os"
	"path/filepath"
	"strconv"
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
			if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(key, "#") {
				settings[key] += value + "\n"
			}
		}
		all[filepath.Base(file)] = settings
	}
	return all
}

// Whatever goes wrong in a service of ours, the machine has memory, processes and
// files left.
func TestEveryServiceIsConfined(t *testing.T) {
	for name, s := range services(t) {
		for _, key := range []string{"MemoryMax", "TasksMax", "LimitNOFILE", "CapabilityBoundingSet", "NoNewPrivileges"} {
			assert.Contains(t, s, key, name)
		}
		assert.Equal(t, "yes\n", s["NoNewPrivileges"], name)
		assert.NotContains(t, s["MemoryMax"]+s["TasksMax"]+s["LimitNOFILE"], "infinity", name)
	}
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

// The runtime of Go starts threads for as many processors as it may use, and ends the
// program when it cannot. Processors are more than some limits are.
func TestTasksAreEnoughOnAnyMachine(t *testing.T) {
	const threads = 16 // of a Go program on few processors
	for name, s := range services(t) {
		tasks, err := strconv.Atoi(strings.TrimSpace(s["TasksMax"]))
		require.NoError(t, err, name)
		switch {
		case name == "dubnium-session-end@.service": // it has become the hook long before it collects garbage
		case s["ExecStart"] == "/usr/bin/true\n":
		default:
			assert.Regexp(t, `GOMAXPROCS=[24]\n`, s["Environment"], name)
			assert.Greater(t, tasks, threads, name)
		}
	}
}
