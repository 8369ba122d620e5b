//go:build integration

package integration

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/embedded"
	"github.com/dubnium/dubnium/internal/testhost/sim"
	"github.com/dubnium/dubnium/policy"
)

// host is what the simulated machine itself knows, whatever the daemon says.
type host struct {
	Units     map[string]string // active state by name, those in memory
	Sessions  map[string]string // state by "ID class type user"
	Processes map[int]string    // comm and open devices by pid
	foreign   []string          // who keeps the display GPU, the kernel's side and ai.slice aside
}

// holdsGPU tells the nodes that keep a GPU busy. A sound server keeps the control
// node of a card open for as long as it lives, which does not.
func holdsGPU(node string) bool { return node != "controlC0" }

func hostOf(w *embedded.Workstation) host {
	h := host{Units: map[string]string{}, Sessions: map[string]string{}, Processes: map[int]string{}}
	w.Do(func(m *sim.Model) {
		for _, u := range m.ListUnits() {
			h.Units[u.Name] = u.ActiveState
		}
		for _, s := range m.Sessions() {
			h.Sessions[strings.Join([]string{s.ID, s.Class, s.Type, s.User}, " ")] = s.State
		}
		for _, p := range m.Processes() {
			h.Processes[p.PID] = strings.Join(append([]string{p.Comm}, p.Opens...), " ")
			if slices.ContainsFunc(p.Opens, holdsGPU) &&
				p.PID != 1 && p.Comm != "systemd-logind" && !strings.HasPrefix(p.Cgroup, "/ai.slice/") {
				h.foreign = append(h.foreign, p.Comm)
			}
		}
	})
	return h
}

func (h host) active(unit string) bool { return h.Units[unit] == "active" }

// has reports whether a session of the class is there, closing ones included.
func (h host) has(class string) bool {
	for s := range h.Sessions {
		if strings.Fields(s)[1] == class {
			return true
		}
	}
	return false
}

// breaches lists what the machine lacks of a mode, in the words of the README.
func (h host) breaches(mode policy.Mode) []string {
	var found []string
	want := func(ok bool, what string) {
		if !ok {
			found = append(found, what)
		}
	}
	compute := mode == policy.Compute
	want(h.active("desktop.target") == !compute, "desktop.target")
	want(h.active("compute.target") == compute, "compute.target")
	want(h.active("vllm.service") == compute, "vllm.service")
	want(h.active("greetd.service") == !compute, "greetd.service")
	want(h.active("studio-local-policy.service") == (mode == policy.StudioLocal), "studio-local-policy.service")
	want(h.active("audio-priority.service") == (mode == policy.StudioLocal), "audio-priority.service")
	if compute {
		want(!h.has("user") && !h.has("greeter"), "somebody is at the screen")
		want(len(h.foreign) == 0, "the display GPU is held by "+strings.Join(h.foreign, ", "))
	}
	return found
}

// requireHost fails unless the machine itself is in the mode.
func requireHost(t *testing.T, w *embedded.Workstation, mode policy.Mode) {
	t.Helper()
	require.Empty(t, hostOf(w).breaches(mode), "the host is not in %s", mode)
}

// requireHonest fails when the daemon names a mode in which the machine is not,
// in any of the places where it names one.
func requireHonest(t *testing.T, w *embedded.Workstation) (state string) {
	t.Helper()
	state = strings.TrimSpace(modectl(t, w, "current").stdout)
	require.Equal(t, state, strings.TrimSpace(readFile(t, filepath.Join(w.Policy.Paths.Runtime, "current"))))
	if mode, err := policy.ParseMode(state); err == nil {
		requireHost(t, w, mode)
	}
	return state
}

// everything is what a request that is refused must leave as it is: the
// machine, and every file that the daemon keeps, but for the one that says who was
// refused.
type everything struct {
	Host  host
	Files map[string]string
}

func everythingOf(t *testing.T, w *embedded.Workstation) everything {
	t.Helper()
	e := everything{Host: hostOf(w), Files: map[string]string{}}
	for _, dir := range []string{w.Policy.Paths.Runtime, w.Policy.Paths.State} {
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		for _, entry := range entries {
			if strings.HasPrefix(entry.Name(), "events.jsonl") || strings.HasPrefix(entry.Name(), "refusals.jsonl") {
				continue
			}
			path := filepath.Join(dir, entry.Name())
			e.Files[path] = readFile(t, path)
		}
	}
	return e
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(data)
}

// requireNothingLeft fails while a transition's traces are on disk.
func requireNothingLeft(t *testing.T, w *embedded.Workstation) {
	t.Helper()
	for _, path := range []string{
		filepath.Join(w.Policy.Paths.State, "transition.json"), filepath.Join(w.Policy.Paths.Runtime, "reconcile.pid"),
	} {
		_, err := os.Stat(path)
		assert.True(t, errors.Is(err, fs.ErrNotExist), "%s is still there (%v)", path, err)
	}
}
