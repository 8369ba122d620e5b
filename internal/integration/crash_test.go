//go:build integration

package integration

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/internal/embedded"
	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/internal/testhost/sim"
	"github.com/dubnium/dubnium/policy"
)

// moment is when the daemon dies: as soon as a step of a transition is that far.
type moment struct {
	from, to policy.Mode
	step     string
	how      status.StepStatus
}

func (m moment) String() string { return fmt.Sprintf("to %s, %s %s", m.to, m.step, m.how) }

// moments are those of a round trip that goes well, there and back in turn, so
// that where one ends the next begins: the trip is made first, to see which there
// are.
func moments(t *testing.T) []moment {
	w := start(t, testhost.Options{}, nil)
	reach(t, w, policy.StudioLocal)
	there := momentsOf(t, w, policy.StudioLocal, policy.Compute)
	back := momentsOf(t, w, policy.Compute, policy.StudioLocal)
	var all []moment
	for i := range max(len(there), len(back)) {
		all = append(all, there[i%len(there)], back[i%len(back)])
	}
	require.GreaterOrEqual(t, len(all), 16)
	return all
}

// momentsOf are the beginnings of the steps, for a step begins where the one
// before ends, and the end of the last.
func momentsOf(t *testing.T, w *embedded.Workstation, from, to policy.Mode) (all []moment) {
	t.Helper()
	c := watch(t, w)
	reach(t, w, to)
	c.await(t, "the transition ends", func(e status.Event) bool {
		if e.Step != nil && (e.Step.Status == status.StepDoing || e.Step.Index == e.Step.Count-1) {
			all = append(all, moment{from, to, e.Step.Step, e.Step.Status})
		}
		return e.Finished != nil
	})
	return all
}

func TestADaemonThatDiesLeavesNoClaimAndNoDebt(t *testing.T) {
	all := moments(t)
	// A workstation is used for several crashes: what one leaves behind, the next
	// begins with.
	const crashes = 6
	for some := range slices.Chunk(all, crashes) {
		t.Run(some[0].String(), func(t *testing.T) {
			t.Parallel()
			w := start(t, testhost.Options{}, nil)
			reach(t, w, some[0].from)
			for _, m := range some {
				dieAndRecover(t, w, m)
			}
		})
	}
}

func dieAndRecover(t *testing.T, w *embedded.Workstation, m moment) {
	t.Helper()
	t.Log("dying ", m)
	c := watch(t, w)
	asked := background(t, w.ModectlCommand(bounded(t), "request", string(m.to)))
	c.awaitStep(t, m.step, m.how)
	require.NoError(t, w.KillDaemon())
	a := soon(t, "modectl notices", asked)
	require.Contains(t, []int{0, 41}, a.code, "the transition may have ended just before")
	require.NoError(t, w.StartDaemon(bounded(t)))
	requireRecovered(t, w, c)
	if mode, err := policy.ParseMode(requireHonest(t, w)); err == nil {
		requireWeights(t, w, mode)
	}
	reach(t, w, m.to)
	requireWeights(t, w, m.to)
	requireNothingLeft(t, w)
}

// requireRecovered awaits the end of a recovery and judges what came of it.
func requireRecovered(t *testing.T, w *embedded.Workstation, c *watcher) {
	t.Helper()
	p := c.settled(t)
	requireHonest(t, w)
	requireNothingLeft(t, w)
	last := p.View.Last
	require.NotNil(t, last)
	require.Contains(t, []status.Result{status.Interrupted, status.RollbackFailed, status.Success}, last.Result)
	var ids []uint64
	for line := range strings.Lines(readFile(t, filepath.Join(w.Policy.Paths.State, "events.jsonl"))) {
		if strings.Contains(line, `"event":"outcome"`) {
			ids = append(ids, decode[status.Record](t, line).ID)
		}
	}
	for i, id := range ids {
		require.Equal(t, uint64(i+1), id, "each transition is in the history once: %v", ids)
	}
}

// held is a moment at which the machine itself keeps a transition until it is let
// go, so that the daemon certainly dies in the middle of it.
type held struct {
	from, to policy.Mode
	hold     func(*testing.T, *embedded.Workstation)
	held     func(*sim.Model) bool
	letGo    func(*testing.T, *embedded.Workstation)
	// absent: it is let go while there is no daemon.
	absent bool
	// certainly is the mode that the recovery ends in, where only one is right.
	certainly policy.Mode
}

func unitIs(unit, state string) func(*sim.Model) bool {
	return func(m *sim.Model) bool {
		u, err := m.Unit(unit)
		return err == nil && u.ActiveState == state
	}
}

func hang(unit string) func(*testing.T, *embedded.Workstation) {
	return func(t *testing.T, w *embedded.Workstation) { require.NoError(t, w.Hang(unit)) }
}

func heal(unit string) func(*testing.T, *embedded.Workstation) {
	return func(t *testing.T, w *embedded.Workstation) { require.NoError(t, w.Heal(unit)) }
}

func TestADaemonThatDiesInTheMiddleOfAStepFindsOut(t *testing.T) {
	for name, h := range map[string]held{
		"while the display manager stops": {
			from: policy.Desktop, to: policy.Compute, hold: hang("greetd.service"), letGo: heal("greetd.service"),
			held: unitIs("greetd.service", "deactivating"), certainly: policy.Desktop,
		},
		"while a session ends": {
			from: policy.Desktop, to: policy.Compute,
			hold:  func(t *testing.T, w *embedded.Workstation) { editSession(t, w, ignores(true)) },
			letGo: func(t *testing.T, w *embedded.Workstation) { endSession(t, w) },
			held: func(m *sim.Model) bool {
				for _, s := range m.Sessions() {
					if s.Class == "user" && s.State == "closing" {
						return true
					}
				}
				return false
			},
			certainly: policy.Desktop,
		},
		"while vLLM starts": {
			from: policy.Desktop, to: policy.Compute, hold: hang("vllm.service"), letGo: heal("vllm.service"),
			held: unitIs("vllm.service", "activating"),
		},
		"while vLLM stops": {
			from: policy.Compute, to: policy.Desktop, hold: hang("vllm.service"), letGo: heal("vllm.service"),
			held: unitIs("vllm.service", "deactivating"), certainly: policy.Compute,
		},
		"while the desktop starts, and a person comes": {
			from: policy.Compute, to: policy.Desktop, hold: hang("greetd.service"), absent: true,
			letGo: func(t *testing.T, w *embedded.Workstation) {
				heal("greetd.service")(t, w)
				require.NoError(t, w.WaitSession(bounded(t), "user", true))
			},
			held: unitIs("greetd.service", "activating"), certainly: policy.Desktop,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, testhost.Options{}, nil)
			c := watch(t, w)
			reach(t, w, h.from)
			h.hold(t, w)
			asked := background(t, w.ModectlCommand(bounded(t), "request", string(h.to)))
			require.NoError(t, w.Wait(bounded(t), name, h.held))
			require.NoError(t, w.KillDaemon())
			a := soon(t, "modectl notices", asked)
			require.Equal(t, 41, a.code)
			require.Contains(t, a.stderr, "its outcome is not known")
			if h.absent {
				h.letGo(t, w)
			}
			require.NoError(t, w.StartDaemon(bounded(t)))
			if !h.absent {
				h.letGo(t, w)
			}
			requireRecovered(t, w, c)
			if h.certainly != "" {
				requireHost(t, w, h.certainly)
			}
			require.Equal(t, "interrupted", lastRecord(t, w)["result"])
			reach(t, w, h.to)
		})
	}
}

func ignores(term bool) func(*testhost.Session) {
	return func(s *testhost.Session) { s.IgnoresTerm = term }
}

// endSession is the person's own logout, which works where logind's did not.
func endSession(t *testing.T, w *embedded.Workstation) {
	t.Helper()
	s, found := w.SessionOf("user")
	require.True(t, found)
	require.NoError(t, w.Logout(s.ID))
}

// A daemon that dies again while it recovers recovers all the same.
func TestADaemonThatDiesWhileItRecoversRecovers(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{}, nil)
	c := watch(t, w)
	require.NoError(t, w.Hang("vllm.service"))
	asked := background(t, w.ModectlCommand(bounded(t), "request", "compute"))
	require.NoError(t, w.Wait(bounded(t), "vLLM starts", unitIs("vllm.service", "activating")))
	for range 3 {
		require.NoError(t, w.KillDaemon())
		require.NoError(t, w.StartDaemon(bounded(t)))
		// It looks first, and undoes what it finds: how far it is by now is a matter of luck.
		require.Contains(t, []status.Phase{status.PhaseRecovering, status.PhaseUndoing}, c.properties(t).View.Running.Phase)
		require.Equal(t, 42, modectl(t, w, "request", "compute").code)
	}
	require.Equal(t, 41, soon(t, "modectl notices", asked).code)
	require.NoError(t, w.Heal("vllm.service"))
	requireRecovered(t, w, c)
	reach(t, w, policy.Compute)
}

// Told to stop, the daemon leaves a transition to its journal, as a crash does.
func TestADaemonThatIsStoppedInATransitionTakesItUpAgain(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{}, nil)
	c := watch(t, w)
	require.NoError(t, w.Hang("greetd.service"))
	asked := background(t, w.ModectlCommand(bounded(t), "request", "compute"))
	require.NoError(t, w.Wait(bounded(t), "greetd stops", unitIs("greetd.service", "deactivating")))
	require.NoError(t, w.StopDaemon())
	require.Equal(t, 41, soon(t, "modectl notices", asked).code)
	require.NoError(t, w.StartDaemon(bounded(t)))
	require.NoError(t, w.Heal("greetd.service"))
	requireRecovered(t, w, c)
	requireHost(t, w, policy.Desktop)
}

// A client that was away while the daemon died and came back hears how it ended.
func TestAnInterruptedTransitionHasItsExitCode(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{NoAutoLogin: true}, nil)
	c := watch(t, w)
	require.NoError(t, w.Hang("greetd.service"))
	asking, thought := make(chan struct{}), make(chan struct{})
	w.SetAuthorize(func(context.Context, testhost.PolkitRequest) testhost.PolkitAnswer {
		close(asking)
		<-thought
		return testhost.PolkitAnswer{Authorized: true}
	})
	cmd := as(nobody, w.ModectlCommand(bounded(t), "request", "compute"))
	asked := background(t, cmd)
	soon(t, "polkit is asked", asking)
	require.NoError(t, unix.Kill(cmd.Process.Pid, unix.SIGSTOP))
	close(thought)
	require.NoError(t, w.Wait(bounded(t), "greetd stops", unitIs("greetd.service", "deactivating")))
	require.NoError(t, w.KillDaemon())
	require.NoError(t, w.StartDaemon(bounded(t)))
	require.NoError(t, w.Heal("greetd.service"))
	requireRecovered(t, w, c)
	require.NoError(t, unix.Kill(cmd.Process.Pid, unix.SIGCONT))
	a := soon(t, "an answer", asked)
	require.Equal(t, 55, a.code)
	require.Contains(t, a.stdout, "interrupted")
	requireHost(t, w, policy.Desktop)
}
