package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/daemon/intent"
	"github.com/dubnium/dubnium/daemon/runner"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/plans"
	"github.com/dubnium/dubnium/policy"
)

func TestAllModes(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		route := []policy.Mode{"studio-local", "desktop", "compute", "desktop", "studio-local", "compute", "studio-local"}
		for _, mode := range route {
			record := r.request(mode)
			require.Equal(t, status.Success, record.Result, record.Cause)
			require.Equal(t, observer.Of(mode), record.Final)
			v := r.View()
			assert.True(t, v.Converged())
			assert.Equal(t, string(mode), word(t, r, "desired"))
			assert.Equal(t, string(mode), word(t, r, "current"))
			r.host.requireAs(t, mode, "request")
		}
		records, _, err := r.History(t.Context(), status.Filter{Limit: 100})
		require.NoError(t, err)
		assert.Len(t, records, len(route))
		assert.NoFileExists(t, filepath.Join(r.dir, "state", "transition.json"))
		assert.NoFileExists(t, filepath.Join(r.dir, "run", "reconcile.pid"))
	})
}

func TestNoop(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		record := r.request(policy.Desktop)
		assert.Equal(t, status.Noop, record.Result)
		assert.Empty(t, r.applied())
	})
}

// A client reads the transition as soon as it has the id.
func TestAcceptedIsPublished(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		for range 300 / sample {
			id, err := r.Request(t.Context(), status.Request{Mode: policy.Desktop, Origin: status.OriginOperator, By: "test"})
			require.NoError(t, err)
			v := r.View()
			require.True(t, v.Running != nil && v.Running.ID == id || v.Last != nil && v.Last.ID == id)
			r.settle()
		}
	})
}

func TestRepairDegraded(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		r.request(policy.Compute)
		r.host.change(func() { r.host.stop("vllm.service"); r.host.applied = nil })
		require.Equal(t, observer.State("degraded-compute"), r.settle().Observation.State)
		assert.Equal(t, status.Success, r.request(policy.Compute).Result)
		assert.Equal(t, []string{"apply start-vllm"}, r.applied())
	})
}

func TestBlocked(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		r.host.change(func() {
			u := r.host.now.Systemd.Units["compute.target"]
			u.LoadState = "masked"
			r.host.now.Systemd.Units["compute.target"] = u
		})
		record := r.request(policy.Compute)
		assert.Equal(t, status.Blocked, record.Result)
		assert.Empty(t, r.applied())
		v := r.View()
		assert.Equal(t, observer.State("desktop"), v.Observation.State, "a refusal does not rename the host")
		assert.Equal(t, policy.Compute, v.Desired.Mode)
		require.Len(t, v.BlockedBy, 1)
		assert.Equal(t, policy.Code(18), v.BlockedBy[0].Code)
		assert.Contains(t, v.BlockedBy[0].Remedy, "systemctl unmask compute.target")
		assert.Equal(t, status.Noop, r.request(policy.Desktop).Result)
		assert.Empty(t, r.View().BlockedBy)
	})
}

func TestSessionOfOthers(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		id, err := r.Request(t.Context(), status.Request{Mode: policy.Compute, UID: 1001})
		require.NoError(t, err)
		record := r.settle().Last
		assert.Equal(t, id, record.ID)
		assert.Equal(t, status.Blocked, record.Result)
		assert.Contains(t, record.Cause, "alice")
		assert.Empty(t, r.applied())
	})
}

func TestOneTransitionAtATime(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		release := make(chan struct{})
		r.host.fault = func(_ context.Context, when, what string) error {
			if when == "before" && what == "apply stop-display-manager" {
				<-release
			}
			return nil
		}
		first, err := r.Request(t.Context(), status.Request{Mode: policy.Compute, UID: 1000})
		require.NoError(t, err)
		synctest.Wait()
		joined, err := r.Request(t.Context(), status.Request{Mode: policy.Compute, UID: 1000})
		require.NoError(t, err)
		assert.Equal(t, first, joined)
		_, err = r.Request(t.Context(), status.Request{Mode: policy.Desktop})
		assert.ErrorIs(t, err, status.ErrBusy)
		assert.Equal(t, policy.Compute, r.View().Desired.Mode, "a refused request changes nothing")
		assert.Equal(t, observer.Transitioning, r.View().Observation.State)
		assert.NotEmpty(t, word(t, r, "reconcile.pid"))
		close(release)
		v := r.settle()
		assert.Equal(t, status.Success, v.Last.Result)
		records, _, err := r.History(t.Context(), status.Filter{Limit: 10})
		require.NoError(t, err)
		assert.Len(t, records, 1)
	})
}

func TestBootRule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		host := newFakeHost(testPolicy(dir))
		host.stop("desktop.target")
		host.now.Systemd.State = "starting"
		r := startHarness(t, host, dir, thisBoot)
		defer r.stop()
		synctest.Wait()
		assert.Equal(t, observer.Boot, r.View().Observation.State)
		assert.Empty(t, host.appliedSteps(), "nothing is done while the manager starts")
		host.change(func() { host.now.Systemd.State = "running" })
		synctest.Wait()
		v := r.settle()
		assert.Equal(t, observer.State("desktop"), v.Observation.State)
		assert.Equal(t, []string{"apply start-desktop"}, host.appliedSteps())
		assert.Equal(t, status.OriginBoot, v.Last.Origin)

		host.change(func() { host.stop("desktop.target"); host.applied = nil })
		synctest.Wait()
		assert.Equal(t, observer.StateUnknown, r.settle().Observation.State)
		assert.Empty(t, host.appliedSteps(), "the boot rule does not fight a person")
	})
}

func TestBootRuleOnlyAtBoot(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		r.host.change(func() { r.host.stop("desktop.target") })
		assert.Equal(t, observer.StateUnknown, r.settle().Observation.State)
		assert.Empty(t, r.applied(), "a person took it away")
	})
}

// The first read that a client requests may find the mode, and the next one that it is gone.
func TestBootEnds(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		require.NoError(t, r.call(t.Context(), func() {
			r.bootRule = true
			r.classify()
			assert.False(t, r.bootRule)
		}))
	})
}

// A file that cannot be written now is written after a later read.
func TestEndWrittenAgain(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		require.Equal(t, status.Noop, r.request(policy.Desktop).Result)
		run, away := filepath.Join(r.dir, "run", "last-guards.json"), filepath.Join(r.dir, "run", "away")
		require.NoError(t, os.Rename(run, away))
		require.NoError(t, os.MkdirAll(filepath.Join(run, "in the way"), 0o755))
		id := r.request(policy.StudioLocal).ID
		assert.FileExists(t, filepath.Join(r.dir, "state", "transition.json"), "a crash must not forget the end")
		require.NoError(t, os.RemoveAll(run))
		r.settle()
		assert.Contains(t, word(t, r, "last-transition.json"), fmt.Sprintf(`"id": %d`, id))
		assert.FileExists(t, run)
		assert.NoFileExists(t, filepath.Join(r.dir, "state", "transition.json"))
	})
}

func TestDesiredUnwritable(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		file := filepath.Join(r.dir, "run", "intent.json")
		require.NoError(t, os.Remove(file))
		require.NoError(t, os.MkdirAll(filepath.Join(file, "in the way"), 0o755))
		_, err := r.Request(t.Context(), status.Request{Mode: policy.Compute, UID: 1000})
		require.ErrorContains(t, err, "cannot record what was requested")
		assert.Equal(t, policy.Desktop, r.View().Desired.Mode)
		assert.Equal(t, "desktop", word(t, r, "desired"))
		assert.Empty(t, r.applied())
	})
}

func TestStagedTrust(t *testing.T) {
	cases := map[string]struct {
		trust   policy.AllowedTransitions
		mode    policy.Mode
		allowed bool
	}{
		"observe allows nothing":        {policy.TrustObserve, policy.StudioLocal, false},
		"overlay allows the overlay":    {policy.TrustOverlay, policy.StudioLocal, true},
		"overlay does not end sessions": {policy.TrustOverlay, policy.Compute, false},
		"all allows what ends sessions": {policy.TrustAll, policy.Compute, true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				p := testPolicy(dir)
				p.Transitions = c.trust
				r := startHarnessWith(t, newFakeHost(p), p, thisBoot)
				defer r.stop()
				r.settle()
				assert.Equal(t, c.allowed, r.request(c.mode).Result.Reached())
				assert.Equal(t, c.allowed, len(r.applied()) > 0)
			})
		})
	}
}

func TestDesiredAfterRestart(t *testing.T) {
	for boot, want := range map[string]policy.Mode{thisBoot: policy.StudioLocal, "boot-2": policy.Desktop} {
		synctest.Test(t, func(t *testing.T) {
			dir := t.TempDir()
			host := newFakeHost(testPolicy(dir))
			r := startHarness(t, host, dir, thisBoot)
			r.settle()
			r.request(policy.StudioLocal)
			r.stop()
			r = startHarness(t, host, dir, boot)
			defer r.stop()
			assert.Equal(t, want, r.settle().Desired.Mode)
		})
	}
}

func TestLockHeld(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		unlock, err := holdLock(r.dir)
		require.NoError(t, err)
		record := r.request(policy.StudioLocal)
		assert.Equal(t, status.Failed, record.Result)
		assert.Contains(t, record.Cause, "lock")
		assert.Empty(t, r.applied())
		require.NoError(t, unlock())
		assert.Equal(t, status.Success, r.request(policy.StudioLocal).Result)
	})
}

func TestTurnDuringTransition(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		release := make(chan struct{})
		r.host.fault = func(context.Context, string, string) error { <-release; return nil }
		_, err := r.Request(t.Context(), status.Request{Mode: policy.StudioLocal})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		assert.NoError(t, r.Turn(ctx))
		close(release)
		r.settle()
	})
}

// The files are written before the event of an end. The event of a change does not wait
// for them.
func TestFilesBeforeEnd(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		ends, changes := 0, 0
		r.seen.mu.Lock()
		r.seen.also = func(e status.Event) {
			switch {
			case e.Finished != nil:
				ends++
				assert.Equal(t, string(e.Finished.Final), word(t, r, "current"))
				assert.Contains(t, word(t, r, "last-transition.json"), fmt.Sprintf(`"id": %d`, e.Finished.ID))
			case e.StateChanged != nil && e.StateChanged.New == "degraded-desktop":
				changes++
				assert.Equal(t, "desktop", word(t, r, "current"), "nothing is written yet")
			}
		}
		r.seen.mu.Unlock()
		require.Equal(t, status.Success, r.request(policy.Compute).Result)
		require.Equal(t, status.Success, r.request(policy.Desktop).Result)
		r.host.change(func() { r.host.start("audio-priority.service") })
		assert.Equal(t, observer.State("degraded-desktop"), r.settle().Observation.State)
		assert.Equal(t, "degraded-desktop", word(t, r, "current"))
		assert.Equal(t, 2, ends)
		assert.Equal(t, 1, changes)
	})
}

// Who logs in while a transition of root's ends the sessions does not end it. Another
// user may have been let end other people's sessions: those that were there.
func TestNewcomersOnlyForRoot(t *testing.T) {
	alices, others := compute, compute
	alices.UID, alices.EndOthers = 1000, false
	others.UID = 1001
	for name, c := range map[string]struct {
		request status.Request
		want    bool
	}{
		"root":                              {compute, true},
		"another user":                      {alices, false},
		"another user, who may end others'": {others, false},
	} {
		t.Run(name, func(t *testing.T) {
			onDesktop(t, func(t *testing.T, r *harness) {
				ended := 0
				r.host.fault = func(_ context.Context, when, what string) error {
					if when != "before" || what != "apply end-sessions" {
						return nil
					}
					entry, err := runner.NewJournal(filepath.Join(r.dir, "state")).Load()
					if err != nil {
						return err
					}
					for _, s := range entry.Steps {
						if s.Kind == plans.EndSessions {
							ended++
							assert.Equal(t, c.want, s.Newcomers)
						}
					}
					return nil
				}
				r.submit(c.request)
				require.Equal(t, status.Success, r.settle().Last.Result)
				assert.Equal(t, 1, ended)
			})
		})
	}
}

// A daemon that died right after it had accepted a request gave away the id.
func TestIDOfPendingRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		host := newFakeHost(testPolicy(dir))
		r := startHarness(t, host, dir, thisBoot)
		desired := r.settle().Desired
		r.stop()
		data, err := json.Marshal(intent.Document{
			BootID: thisBoot, Desired: desired, Pending: &intent.Pending{ID: 41, Desired: desired},
		})
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "run", "intent.json"), data, 0o644))
		r = startHarness(t, host, dir, thisBoot)
		defer r.stop()
		r.settle()
		assert.Equal(t, uint64(42), r.request(policy.StudioLocal).ID)
	})
}

// What the daemon does by itself changes no intent, and does not need the file.
func TestIntentUnwritableByItself(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		file := filepath.Join(r.dir, "run", "intent.json")
		require.NoError(t, os.Remove(file))
		require.NoError(t, os.MkdirAll(filepath.Join(file, "in the way"), 0o755))
		_, err := r.Request(t.Context(), status.Request{Mode: policy.StudioLocal})
		require.ErrorContains(t, err, "cannot record what was requested")
		require.NoError(t, r.call(t.Context(), func() {
			r.begin(status.Request{Mode: policy.StudioLocal, Origin: status.OriginRecovery, By: byDaemon}, nil)
		}))
		assert.Equal(t, status.Success, r.settle().Last.Result)
	})
}
