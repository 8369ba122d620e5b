//go:build integration

package integration

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/internal/embedded"
	"github.com/dubnium/dubnium/internal/pulsetest"
	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/internal/testhost/sim"
	"github.com/dubnium/dubnium/policy"
)

// TestWhatIsInTheWayBlocksARequest: with the guard's code and remedy, and with
// nothing done.
func TestWhatIsInTheWayBlocksARequest(t *testing.T) {
	cases := map[string]struct {
		policy func(*policy.Policy)
		begin  func(*testing.T, *embedded.Workstation)
		guard  policy.GuardID
		code   int
		says   string
	}{
		"a song": {
			begin: func(_ *testing.T, w *embedded.Workstation) {
				w.Audio().Set(pulsetest.State{
					Clients:  []pulsetest.Client{{Index: 7, Name: "mpv", Properties: map[string]string{"application.name": "mpv"}}},
					Playback: []pulsetest.Stream{{Client: 7, Media: "song"}},
				})
			},
			guard: policy.CheckAudioIdle, code: 10, says: "stop playback and recording",
		},
		"a compiler": {
			begin: func(_ *testing.T, w *embedded.Workstation) {
				w.AddProcess(
					testhost.Process{
						Comm: "cc1plus", UID: alice, Cmdline: []string{"/usr/lib/gcc/cc1plus", "-quiet"},
						Cgroup: "/system.slice/build.service",
					},
				)
			},
			guard: policy.CheckUserJobsSafe, code: 13, says: "guards.not_jobs",
		},
		"an upgrade that must not be shut down": {
			begin: func(t *testing.T, w *embedded.Workstation) {
				t.Cleanup(w.AddInhibitor(sim.Inhibitor{What: "shutdown", Who: "dpkg", Why: "upgrade", Mode: "block"}))
			},
			guard: policy.CheckUserJobsSafe, code: 13, says: "systemd-inhibit --list",
		},
		"a nixos-rebuild that switches": {
			begin: func(t *testing.T, w *embedded.Workstation) { takeLock(t, w.Policy.Paths.RebuildLock) },
			guard: policy.CheckUserJobsSafe, code: 13, says: "wait for nixos-rebuild to end",
		},
		"more load than the policy allows": {
			policy: func(p *policy.Policy) { p.Guards.MaxLoadPerCore = 0.05 },
			guard:  policy.CheckCPULoadSafe, code: 12, says: "guards.max_load_per_core",
		},
		"less memory than the policy wants": {
			policy: func(p *policy.Policy) { p.Guards.MinMemoryMiB.Compute = 1 << 20 },
			guard:  policy.CheckMemoryHeadroom, code: 14, says: "guards.min_memory_mib.compute",
		},
		"a model store that is not there": {
			policy: func(p *policy.Policy) { p.Guards.ModelStore = "/nonexistent/models" },
			guard:  policy.CheckPersistencePathsReady, code: 18, says: "/nonexistent/models cannot be used: it does not exist",
		},
		"inference on another machine": {
			policy: func(p *policy.Policy) { p.Placement.AI = policy.Remote },
			guard:  policy.CheckComputeCapabilityLocal, code: 19, says: "change the placement",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, testhost.Options{}, c.policy)
			if c.begin != nil {
				c.begin(t, w)
			}
			before := w.Processes()
			one := judged(t, w, c.guard, c.code)
			require.NotEmpty(t, one.Remedy)
			all := modectl(t, w, "guards", "compute")
			require.Equal(t, c.code, all.code)
			require.Contains(t, all.stdout, c.says)

			a := modectl(t, w, "request", "compute")
			require.Equal(t, c.code, a.code)
			require.Contains(t, a.stdout, c.says)
			require.Empty(t, lastRecord(t, w)["steps"])
			require.Equal(t, before, w.Processes())
			requireHost(t, w, policy.Desktop)
			requireHonest(t, w)
			require.Zero(t, modectl(t, w, "guards", "desktop").code, "nothing of it is in the way of a desktop")
		})
	}
}

// judged is what `modectl guard` says, on one line.
func judged(t *testing.T, w *embedded.Workstation, guard policy.GuardID, code int) (v guards.Verdict) {
	t.Helper()
	a := modectl(t, w, "guard", string(guard), "--for", "compute")
	require.Equal(t, code, a.code)
	require.NoError(t, json.Unmarshal([]byte(a.stdout), &v))
	require.Equal(t, guard, v.Guard)
	require.Equal(t, policy.Code(code), v.Code)
	return v
}

func TestWorkThatEndsIsInNobodysWay(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{}, nil)
	pid := w.AddProcess(
		testhost.Process{
			Comm: "rsync", UID: alice, Cmdline: []string{"rsync", "-a", "/a", "/b"}, Cgroup: "/system.slice/copy.service",
		},
	)
	require.Contains(t, judged(t, w, policy.CheckUserJobsSafe, 13).Reason, "rsync (pid ")
	a := run(t, as(nobody, w.ModectlCommand(bounded(t), "guard", "check_user_jobs_safe")))
	require.Equal(t, 13, a.code)
	require.Contains(t, a.stdout, "a process of uid 1000 runs")
	require.NotContains(t, a.stdout, "rsync (")
	w.RemoveProcess(pid)
	judged(t, w, policy.CheckUserJobsSafe, 0)
	reach(t, w, policy.Compute)
}

func TestAnInferenceThatMustNotBeDrainedStays(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{}, func(p *policy.Policy) { p.Guards.Drain = policy.DrainNever })
	reach(t, w, policy.Compute)
	w.VLLM().SetLoad(1, 0)
	a := modectl(t, w, "request", "desktop")
	require.Equal(t, 15, a.code)
	require.Contains(t, a.stdout, "wait until it has none")
	requireHost(t, w, policy.Compute)
	w.VLLM().SetLoad(0, 0)
	reach(t, w, policy.Desktop)
}

// TestAProbeThatFailsMidwayIsGoneBackFrom: what the guards could see, a gate must
// not lose sight of.
func TestAProbeThatFailsMidwayIsGoneBackFrom(t *testing.T) {
	for _, fault := range probeFaults {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			w := start(t, testhost.Options{}, func(p *policy.Policy) {
				shorten(slow/3, &p.Timeouts.Look)
				shorten(slow, &p.Timeouts.GPURelease)
			})
			c := watch(t, w)
			require.NoError(t, w.Hang("greetd.service"))
			asked := background(t, w.ModectlCommand(bounded(t), "request", "compute"))
			c.awaitStep(t, "stop-display-manager", status.StepDoing)
			require.NoError(t, w.SetProbeFault("holders", fault))
			require.NoError(t, w.Heal("greetd.service"))
			a := soon(t, "an answer", asked)
			require.Equal(t, 53, a.code)
			require.Contains(t, a.stdout+a.stderr, "the holders probe")
			requireHost(t, w, policy.Desktop)
			requireHonest(t, w)
			requireNothingLeft(t, w)
		})
	}
}

// TestNobodyReadsWhatOthersRun: of the program that stood in the way only root and
// its user read, however the refusal is asked for and long after.
func TestNobodyReadsWhatOthersRun(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{}, nil)
	pid := w.AddProcess(
		testhost.Process{
			Comm: "rsync", UID: alice, Cmdline: []string{"rsync", "-a", "/a", "/b"}, Cgroup: "/system.slice/copy.service",
		},
	)
	secret := fmt.Sprintf("rsync (pid %d", pid)
	a := modectl(t, w, "request", "compute")
	require.Equal(t, 13, a.code)
	require.Contains(t, a.stdout, secret)
	w.RemoveProcess(pid)
	require.Zero(t, modectl(t, w, "guard", "check_user_jobs_safe").code)

	for _, args := range [][]string{{"status"}, {"status", "--json"}, {"history", "--json"}} {
		require.Contains(t, modectl(t, w, args...).stdout, secret, "root reads it: %v", args)
		others := run(t, as(nobody, w.ModectlCommand(bounded(t), args...)))
		require.Zero(t, others.code, others.stderr)
		require.NotContains(t, others.stdout, "rsync", "%v", args)
		require.Contains(t, others.stdout, "a process of uid 1000", "%v", args)
	}
	files, err := filepath.Glob(filepath.Join(w.Policy.Paths.Runtime, "*"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		require.NotContains(t, readFile(t, file), "rsync (", file)
	}
	require.Contains(t, readFile(t, filepath.Join(w.Policy.Paths.Runtime, "last-guards.json")), "a process of uid 1000")

	// Root still does after a restart, which begins from those files.
	require.NoError(t, w.StopDaemon())
	require.NoError(t, w.StartDaemon(bounded(t)))
	require.Contains(t, modectl(t, w, "status", "--json").stdout, secret)
}
