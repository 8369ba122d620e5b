//go:build integration

package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dubnium/dubnium/internal/embedded"
	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/internal/testhost/sim"
	"github.com/dubnium/dubnium/internal/vllmstandin"
	"github.com/dubnium/dubnium/policy"
)

// outcome is one way in which a request can end.
type outcome struct {
	host   testhost.Options
	policy func(*policy.Policy)
	from   policy.Mode // reached first; empty: desktop
	fault  func(*testing.T, *embedded.Workstation)
	ask    policy.Mode

	code   int
	result string // of the record; empty: there is none
	says   string // somewhere in what modectl prints
	// leaves is the mode in which the machine itself is afterwards; without one,
	// check says what it is.
	leaves policy.Mode
	check  func(*testing.T, *embedded.Workstation)
}

// shorten makes bounds of the policy pass soon. What has to go well within the
// same bounds must still do so on a busy machine.
func shorten(to time.Duration, bounds ...*policy.Duration) {
	for _, bound := range bounds {
		*bound = policy.Duration(to)
	}
}

const (
	// hopeless is for a bound on what cannot come, and on nothing else. It has room
	// for a look, which finds out what is the matter.
	hopeless = 800 * time.Millisecond
	// slow is for a bound on what comes as well.
	slow = 3 * time.Second
)

func TestEveryOutcomeHasItsExitCodeAndIsTrue(t *testing.T) {
	for name, o := range outcomes() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, o.host, o.policy)
			if o.from != "" {
				reach(t, w, o.from)
			}
			if o.fault != nil {
				o.fault(t, w)
			}
			a := modectl(t, w, "request", string(o.ask))
			require.Equal(t, o.code, a.code)
			require.Contains(t, a.stdout+a.stderr, o.says)
			if o.result != "" {
				r := lastRecord(t, w)
				require.Equal(t, o.result, r["result"])
				requireShape(t, recordShape, r)
			}
			if o.leaves != "" {
				requireHost(t, w, o.leaves)
			}
			if o.check != nil {
				o.check(t, w)
			}
			requireHonest(t, w)
			requireNothingLeft(t, w)
		})
	}
}

func outcomes() map[string]outcome {
	all := map[string]outcome{}
	for _, some := range []map[string]outcome{reached(), blocked(), rolledBack(), worse()} {
		for name, o := range some {
			all[name] = o
		}
	}
	return all
}

func reached() map[string]outcome {
	return map[string]outcome{
		"desktop to studio-local": {ask: policy.StudioLocal, result: "success", leaves: policy.StudioLocal},
		"desktop to desktop":      {ask: policy.Desktop, result: "noop", leaves: policy.Desktop},
		"desktop to compute":      {ask: policy.Compute, result: "success", leaves: policy.Compute},
		"compute to studio-local": {
			from: policy.Compute, ask: policy.StudioLocal, result: "success", leaves: policy.StudioLocal,
		},
		"studio-local to compute": {from: policy.StudioLocal, ask: policy.Compute, result: "success", leaves: policy.Compute},
		"from the greeter alone": {
			host: testhost.Options{NoAutoLogin: true}, ask: policy.Compute, result: "success", leaves: policy.Compute,
		},
		"past a deaf session": deafSession(),
		"past a slow vLLM": {
			host: testhost.Options{VLLM: vllmstandin.Options{HealthyAfter: time.Second, RefuseUntilHealthy: true}},
			ask:  policy.Compute, result: "success", leaves: policy.Compute,
		},
		"past a lingering sound server": {
			host:  testhost.Options{HDMIAudio: true, UserStopTakes: 500 * time.Millisecond},
			fault: playOverHDMI, ask: policy.Compute, result: "success", leaves: policy.Compute,
		},
	}
}

// deafSession does not end when it is asked to, and is killed.
func deafSession() outcome {
	return outcome{
		policy: func(p *policy.Policy) { shorten(hopeless, &p.Sessions.TerminateTimeout) },
		fault: func(t *testing.T, w *embedded.Workstation) {
			editSession(t, w, func(s *testhost.Session) { s.IgnoresTerm = true })
		},
		ask: policy.Compute, result: "success", leaves: policy.Compute,
	}
}

// playOverHDMI holds the display GPU's audio until alice's user manager ends,
// which outlives her session.
func playOverHDMI(_ *testing.T, w *embedded.Workstation) {
	w.AddProcess(testhost.Process{
		Comm: "pipewire", UID: alice, Opens: []string{"pcmC0D3p"},
		Cgroup: "/user.slice/user-1000.slice/user@1000.service/session.slice/pipewire.service",
	})
}

func editSession(t *testing.T, w *embedded.Workstation, edit func(*testhost.Session)) {
	t.Helper()
	s, found := w.SessionOf("user")
	require.True(t, found)
	require.NoError(t, w.EditSession(s.ID, edit))
}

func blocked() map[string]outcome {
	mask := func(unit string) func(*testing.T, *embedded.Workstation) {
		return func(t *testing.T, w *embedded.Workstation) { require.NoError(t, w.Mask(unit)) }
	}
	all := map[string]outcome{
		"a masked target": {
			fault: mask("compute.target"), ask: policy.Compute, code: 18, result: "blocked",
			says: "systemctl unmask compute.target", leaves: policy.Desktop,
		},
		"a masked vLLM": {
			fault: mask("vllm.service"), ask: policy.Compute, code: 18, result: "blocked", says: "systemctl unmask vllm.service",
			leaves: policy.Desktop,
		},
		"a masked way back": {
			from: policy.Compute, fault: mask("desktop.target"), ask: policy.Desktop, code: 18, result: "blocked",
			says: "systemctl unmask desktop.target", leaves: policy.Compute,
		},
		"too little trust": {
			policy: func(p *policy.Policy) { p.Transitions = policy.TrustOverlay }, ask: policy.Compute, code: 18,
			result: "blocked", says: "transitions", leaves: policy.Desktop,
		},
		"somebody else's job": {
			fault: queuedJob, ask: policy.Compute, code: 18, result: "blocked", says: "systemctl cancel",
		},
		"a session of some kind": {
			fault: strangeSession, ask: policy.Compute, code: 27, result: "blocked", says: "user-quantum",
		},
	}
	for _, fault := range probeFaults {
		all["a holders probe with the fault "+string(fault)] = outcome{
			policy: func(p *policy.Policy) { shorten(slow/3, &p.Timeouts.Look) },
			fault: func(t *testing.T, w *embedded.Workstation) {
				require.NoError(t, w.SetProbeFault("holders", fault))
			},
			ask: policy.Compute, code: 28, result: "blocked", says: "the holders probe", leaves: policy.Desktop,
		}
	}
	return all
}

var probeFaults = []testhost.ProbeFault{
	testhost.ProbeHangs, testhost.ProbeGarbage, testhost.ProbeEOF, testhost.ProbeRefuses,
}

func queuedJob(t *testing.T, w *embedded.Workstation) {
	require.NoError(t, w.SetFault("compute.target", testhost.Fault{HangStart: true}))
	require.NoError(t, w.SetFault("desktop.target", testhost.Fault{HangStop: true}))
	require.NoError(t, w.StartUnit("compute.target", "replace"))
}

func strangeSession(_ *testing.T, w *embedded.Workstation) {
	w.AddSession(
		testhost.Session{UID: 1001, User: "bob", Class: "user-quantum", Type: "wayland", Seat: "seat0", Service: "login"},
	)
}

func rolledBack() map[string]outcome {
	all := map[string]outcome{
		"a vLLM that does not start": {
			fault: func(t *testing.T, w *embedded.Workstation) { require.NoError(t, w.Fail("vllm.service")) },
			says:  "vllm.service",
		},
		"a vLLM that is never healthy": {
			host:   testhost.Options{VLLM: vllmstandin.Options{NeverHealthy: true}},
			policy: func(p *policy.Policy) { shorten(hopeless, &p.VLLM.StartTimeout) }, says: "vLLM is not healthy",
		},
		"a vLLM that dies at once": {fault: dyingVLLM, says: "vllm.service is failed"},
		"a session that never goes": {
			policy: func(p *policy.Policy) { shorten(hopeless, &p.Sessions.TerminateTimeout, &p.Sessions.KillTimeout) },
			fault: func(t *testing.T, w *embedded.Workstation) {
				editSession(t, w, func(s *testhost.Session) { s.Stuck = true })
			},
			says: "session",
		},
		"a foreign holder of the display GPU": {
			policy: func(p *policy.Policy) { shorten(slow, &p.Timeouts.GPURelease) },
			fault: func(_ *testing.T, w *embedded.Workstation) {
				w.AddProcess(testhost.Process{Comm: "blender", Cgroup: "/system.slice/render.service", Opens: []string{"card0"}})
			},
			says: "blender",
		},
		"a target whose job hangs": {
			policy: func(p *policy.Policy) { shorten(slow, &p.Timeouts.Isolate) },
			fault: func(t *testing.T, w *embedded.Workstation) {
				require.NoError(t, w.SetFault("compute.target", testhost.Fault{HangStart: true}))
			},
			says: "compute.target",
		},
	}
	for name, o := range all {
		o.ask, o.leaves, o.check = policy.Compute, policy.Desktop, tellsTheLostSession
		all[name] = o
	}
	all["a desktop that does not come up"] = outcome{
		host: testhost.Options{NoAutoLogin: true}, from: policy.Compute,
		policy: func(p *policy.Policy) { shorten(slow, &p.Timeouts.Isolate) },
		fault: func(t *testing.T, w *embedded.Workstation) {
			require.NoError(t, w.SetFault("desktop.target", testhost.Fault{HangStart: true}))
		},
		says: "desktop.target", ask: policy.Desktop, leaves: policy.Compute,
	}
	for name, o := range all {
		o.code, o.result = 53, "rolled-back"
		all[name] = o
	}
	return all
}

// tellsTheLostSession: the display manager has a session there again, and it is not the
// one that was ended.
func tellsTheLostSession(t *testing.T, w *embedded.Workstation) {
	a := modectl(t, w, "last-transition")
	require.Contains(
		t, a.stdout, "end-sessions cannot be undone: the session of alice (uid 1000) was ended and cannot be restored",
	)
}

// dyingVLLM makes vLLM exit as soon as it is active.
func dyingVLLM(t *testing.T, w *embedded.Workstation) {
	require.NoError(t, w.EditUnit("vllm.service", func(u *testhost.Unit) { u.OnActive = crash("vllm.service") }))
}

func crash(unit string) func(*sim.Model) {
	return func(m *sim.Model) {
		if err := m.Crash(unit, "exit-code"); err != nil {
			panic(err) // a unit that the workstation does not have
		}
	}
}

// worse are the ends that are neither here nor there.
func worse() map[string]outcome {
	return map[string]outcome{
		"degraded: an overlay without its helper": {
			policy: func(p *policy.Policy) { shorten(slow, &p.Timeouts.Verify) },
			fault: func(t *testing.T, w *embedded.Workstation) {
				require.NoError(
					t,
					w.EditUnit("studio-local-policy.service", func(u *testhost.Unit) { u.OnActive = crash("audio-priority.service") }),
				)
			},
			ask: policy.StudioLocal, code: 50, result: "degraded", says: "audio priority",
			check: func(t *testing.T, w *embedded.Workstation) {
				require.Equal(t, []string{"audio-priority.service"}, hostOf(w).breaches(policy.StudioLocal))
				require.Equal(t, "degraded-studio-local", requireHonest(t, w))
			},
		},
		"failed: a person is on the way back": {
			from:  policy.Compute,
			fault: func(t *testing.T, w *embedded.Workstation) { require.NoError(t, w.Fail("audio-priority.service")) },
			ask:   policy.StudioLocal, code: 51, result: "failed", says: "a graphical session exists",
			leaves: policy.Desktop,
		},
		"failed: somebody else has the lock": {
			fault: func(t *testing.T, w *embedded.Workstation) {
				takeLock(t, filepath.Join(w.Policy.Paths.Runtime, "lock"))
			},
			ask: policy.Compute, code: 51, result: "failed", says: fmt.Sprintf("(pid %d)", os.Getpid()), leaves: policy.Desktop,
		},
		"timed out: vLLM does not drain": {
			from:   policy.Compute,
			policy: func(p *policy.Policy) { shorten(hopeless, &p.VLLM.DrainTimeout) },
			fault:  func(_ *testing.T, w *embedded.Workstation) { w.VLLM().SetLoad(3, 1) },
			ask:    policy.Desktop, code: 52, result: "timed-out", says: "4 requests in flight", leaves: policy.Compute,
		},
		"rollback failed: the way back is broken too": {
			host: testhost.Options{VLLM: vllmstandin.Options{NeverHealthy: true}},
			policy: func(p *policy.Policy) {
				shorten(hopeless, &p.VLLM.StartTimeout)
				shorten(slow, &p.Timeouts.Verify)
			},
			fault: func(t *testing.T, w *embedded.Workstation) { require.NoError(t, w.Fail("desktop.target")) },
			ask:   policy.Compute, code: 54, result: "rollback-failed", says: "desktop.target",
			check: func(t *testing.T, w *embedded.Workstation) {
				h := hostOf(w)
				require.False(t, h.active("desktop.target") || h.active("compute.target"))
				require.Equal(t, "failed-transition", requireHonest(t, w))
			},
		},
	}
}

// takeLock has a file to itself until the test ends.
func takeLock(t *testing.T, path string) {
	t.Helper()
	lock, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, lock.Close()) })
	require.NoError(t, unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB))
}
