//go:build integration

package integration

import (
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/embedded"
	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/policy"
)

// weightsOf is what systemd has for the slices of the default policy, and for
// those in which something runs what the kernel has.
func weightsOf(t *testing.T, w *embedded.Workstation) (systemd, kernel map[string]string) {
	t.Helper()
	systemd, kernel = map[string]string{}, map[string]string{}
	for _, name := range policy.Default().Slices.Names() {
		u, err := w.Unit(name)
		require.NoError(t, err)
		systemd[name] = fmt.Sprintf("%s %s", weight(u.Settings["CPUWeight"]), weight(u.Settings["IOWeight"]))
		if u.ControlGroup == "" {
			continue
		}
		cpu, err := w.Cgroup(name, "cpu.weight")
		require.NoError(t, err)
		io, err := w.Cgroup(name, "io.weight")
		require.NoError(t, err)
		kernel[name] = cpu + " " + io
	}
	return systemd, kernel
}

// weight is 100 when it is not set, as it is for the kernel.
func weight(value any) string {
	if value.(uint64) == math.MaxUint64 {
		return "100"
	}
	return strconv.FormatUint(value.(uint64), 10)
}

// requireWeights: each slice has what the mode gives, and else nothing.
func requireWeights(t *testing.T, w *embedded.Workstation, mode policy.Mode) {
	t.Helper()
	systemd, kernel := weightsOf(t, w)
	for _, name := range policy.Default().Slices.Names() {
		given, has := policy.Default().Slices.Of(mode)[name]
		if !has {
			given = policy.Slice{CPUWeight: 100, IOWeight: 100}
		}
		require.Equal(t, fmt.Sprintf("%d %d", given.CPUWeight, given.IOWeight), systemd[name], "%s in %s", name, mode)
		if got, shown := kernel[name]; shown {
			require.Equal(t, fmt.Sprintf("%d default %d", given.CPUWeight, given.IOWeight), got, "%s in %s", name, mode)
		}
	}
	require.Contains(t, kernel, "user.slice")
}

// requireTimers wants units in their states by the machine itself.
func requireTimers(t *testing.T, w *embedded.Workstation, want map[string]string) {
	t.Helper()
	got := map[string]string{}
	for name := range want {
		u, err := w.Unit(name)
		require.NoError(t, err)
		got[name] = u.ActiveState
	}
	require.Equal(t, want, got)
}

// The units of maintenance on a machine on which somebody has stopped nix-gc's
// timer and an fstrim works just now; and as studio-local has them. logrotate is
// none of the policy's business.
var (
	loud = map[string]string{
		"fstrim.timer": "active", "fstrim.service": "activating", "plocate-updatedb.timer": "active", "nix-optimise.timer": "active",
		"nix-gc.timer": "inactive", "nix-gc.service": "inactive", "logrotate.timer": "active",
	}
	quiet = map[string]string{
		"fstrim.timer": "inactive", "fstrim.service": "inactive", "plocate-updatedb.timer": "inactive", "nix-optimise.timer": "inactive",
		"nix-gc.timer": "inactive", "nix-gc.service": "inactive", "logrotate.timer": "active",
	}
)

func maintained(t *testing.T, change func(*policy.Policy)) *embedded.Workstation {
	t.Helper()
	w := start(t, testhost.Options{}, change)
	require.NoError(t, w.SetActive("nix-gc.timer", "inactive"))
	require.NoError(t, w.SetFault("fstrim.service", testhost.Fault{HangStart: true}))
	require.NoError(t, w.StartUnit("fstrim.service", "replace"))
	requireTimers(t, w, loud)
	requireWeights(t, w, policy.Desktop)
	return w
}

// owed is what the daemon has written down to be undone.
func owed(t *testing.T, w *embedded.Workstation) (kept struct {
	Slices   map[string]policy.Properties
	Quiesced []string
},
) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(readFile(t, filepath.Join(w.Policy.Paths.Runtime, "before.json"))), &kept))
	return kept
}

func TestStudioLocalIsQuietAndDesktopIsAsItWas(t *testing.T) {
	w := maintained(t, nil)
	for range 2 {
		reach(t, w, policy.StudioLocal)
		requireWeights(t, w, policy.StudioLocal)
		requireTimers(t, w, quiet)

		// Another daemon undoes what this one did.
		require.NoError(t, w.KillDaemon())
		require.NoError(t, w.StartDaemon(bounded(t)))
		reach(t, w, policy.Desktop)
		requireWeights(t, w, policy.Desktop)
		requireTimers(t, w, loud)
		require.Empty(t, owed(t, w).Slices)
		require.Empty(t, owed(t, w).Quiesced)
	}
}

func TestEveryWayGivesTheSlicesOfItsMode(t *testing.T) {
	w := maintained(t, nil)
	for _, mode := range []policy.Mode{policy.Compute, policy.StudioLocal, policy.Compute, policy.Desktop} {
		reach(t, w, mode)
		requireWeights(t, w, mode)
		if mode != policy.StudioLocal {
			require.Empty(t, owed(t, w).Quiesced)
			requireTimers(t, w, map[string]string{"fstrim.timer": "active", "plocate-updatedb.timer": "active"})
		}
	}
	require.Empty(t, owed(t, w).Slices)
}

func TestAFailureLeavesSlicesAndTimersAsTheyWere(t *testing.T) {
	for name, c := range map[string]struct {
		from, to policy.Mode
		breaks   string
		timers   map[string]string
	}{
		"of the overlay":                    {policy.Desktop, policy.StudioLocal, "audio-priority.service", loud},
		"on the way from studio to compute": {policy.StudioLocal, policy.Compute, "vllm.service", quiet},
		"on the way from a desktop to compute": {
			policy.Desktop, policy.Compute, "vllm.service",
			map[string]string{"nix-gc.timer": "inactive", "fstrim.timer": "active"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := maintained(t, nil)
			reach(t, w, c.from)
			before, _ := weightsOf(t, w)
			require.NoError(t, w.Fail(c.breaks))
			a := modectl(t, w, "request", string(c.to))
			require.Equal(t, 53, a.code, a.stdout+a.stderr)
			after, _ := weightsOf(t, w)
			require.Equal(t, before, after)
			requireWeights(t, w, c.from)
			requireTimers(t, w, c.timers)
		})
	}
}

// A policy that gives desktops something is not reached before they have it.
func TestADesktopThatCameUpByItselfGetsWhatPolicyGivesIt(t *testing.T) {
	w := start(t, testhost.Options{}, func(p *policy.Policy) {
		p.Slices.Desktop = map[string]policy.Slice{"user.slice": {CPUWeight: 200, MemoryHigh: "12G", AllowedCPUs: "0-3,6"}}
	})
	reach(t, w, policy.Desktop)
	require.Equal(t, "success", lastRecord(t, w)["result"])
	for file, want := range map[string]string{
		"cpu.weight": "200", "io.weight": "default 100", "memory.high": "12884901888", "cpuset.cpus": "0-3,6",
	} {
		got, err := w.Cgroup("user.slice", file)
		require.NoError(t, err)
		require.Equal(t, want, got, file)
	}
	reach(t, w, policy.Desktop)
	require.Equal(t, "noop", lastRecord(t, w)["result"])

	// Another policy gives nothing: what was there before comes back with the next request.
	p := w.Policy
	p.Slices.Desktop = map[string]policy.Slice{}
	text, err := p.TOML()
	require.NoError(t, err)
	_, err = w.Reload(bounded(t), text)
	require.NoError(t, err)
	reach(t, w, policy.Desktop)
	requireWeights(t, w, policy.Desktop)
	require.Empty(t, owed(t, w).Slices)
}
