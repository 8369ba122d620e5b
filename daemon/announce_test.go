package daemon

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// submit makes a request, and waits until every goroutine of the bubble is idle.
func (r *harness) submit(request status.Request) uint64 {
	r.t.Helper()
	id, err := r.Request(r.t.Context(), request)
	require.NoError(r.t, err)
	synctest.Wait()
	return id
}

// compute is requested by root, who has no session at the screen.
var compute = status.Request{Mode: policy.Compute, Origin: status.OriginOperator, By: "uid 0 (root)", EndOthers: true}

// prepares lists the announcements that were published.
func (r *harness) prepares() []status.Prepare {
	var published []status.Prepare
	for _, e := range r.seen.all() {
		if e.Prepare != nil {
			published = append(published, *e.Prepare)
		}
	}
	return published
}

func TestAnnounceToOthers(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		begun := time.Now()
		id := r.submit(compute)
		running := r.View().Running
		require.NotNil(t, running)
		assert.Equal(t, status.PhaseAnnounced, running.Phase)
		assert.True(t, running.Cancellable)
		assert.Equal(t, begun.Add(10*time.Second), running.Deadline)
		want := status.Prepare{
			Begin: true, ID: id, From: "desktop", To: "compute", Deadline: begun.Add(10 * time.Second), EndsSessions: true,
		}
		assert.Equal(t, []status.Prepare{want}, r.prepares())
		assert.Empty(t, r.applied())

		require.Equal(t, status.Success, r.settle().Last.Result)
		assert.Equal(t, []status.Prepare{want, {ID: id, From: "desktop", To: "compute"}}, r.prepares())
		assert.GreaterOrEqual(t, r.View().Last.Finished.Sub(begun), 10*time.Second)
	})
}

func TestNoWaitForOwnSession(t *testing.T) {
	inBubble(t, func(t *testing.T, r *harness) {
		begun := time.Now()
		r.submit(status.Request{Mode: policy.Compute, UID: 1000})
		r.settle()
		assert.Less(t, r.View().Last.Finished.Sub(begun), time.Second)
		assert.Len(t, r.prepares(), 2, "it is announced all the same")
	})
	inBubble(t, func(t *testing.T, r *harness) {
		begun, grace := time.Now(), time.Minute
		r.submit(status.Request{Mode: policy.Compute, UID: 1000, Grace: &grace})
		r.settle()
		assert.GreaterOrEqual(t, r.View().Last.Finished.Sub(begun), grace, "unless they request it")
	})
}

func TestCancelDuringWait(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		id := r.submit(compute)
		require.ErrorIs(t, r.Cancel(t.Context(), id+1, "bob"), status.ErrNoSuchTransition)
		require.NoError(t, r.Cancel(t.Context(), id, "bob"))
		v := r.settle()
		assert.Equal(t, status.Canceled, v.Last.Result)
		assert.Equal(t, "canceled by bob", v.Last.Cause)
		assert.Equal(t, policy.Desktop, v.Desired.Mode)
		assert.Equal(t, "desktop", word(t, r, "desired"))
		assert.Equal(t, observer.State("desktop"), v.Observation.State)
		assert.Empty(t, r.applied())
		assert.Len(t, r.prepares(), 2)
		require.ErrorIs(t, r.Cancel(t.Context(), id, "bob"), status.ErrNoSuchTransition)
	})
}

func TestCancelUndoesPreparation(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		r.host.change(func() {
			u := r.host.now.Systemd.Units["mode-prepare-compute.service"]
			u.LoadState = "loaded"
			r.host.now.Systemd.Units["mode-prepare-compute.service"] = u
		})
		id := r.submit(compute)
		require.NoError(t, r.Cancel(t.Context(), id, "bob"))
		v := r.settle()
		assert.Equal(t, status.Canceled, v.Last.Result, v.Last.Cause)
		assert.Equal(t, []string{"apply start-mode-prepare-compute", "undo start-mode-prepare-compute"}, r.applied())
	})
}

// A cancel restores what was desired, also where that cannot be written: in memory at
// once, and on disk after a later read, with the next request, or by the next daemon.
func TestCancelUnwritable(t *testing.T) {
	canceled := func(t *testing.T, r *harness) (file string, before []byte) {
		file = filepath.Join(r.dir, "run", "intent.json")
		id := r.submit(compute)
		before, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NoError(t, os.Remove(file))
		require.NoError(t, os.MkdirAll(filepath.Join(file, "in-the-way"), 0o755))
		require.NoError(t, r.Cancel(t.Context(), id, "bob"))
		require.Equal(t, policy.Desktop, r.settle().Desired.Mode)
		require.FileExists(t, filepath.Join(r.dir, "state", "transition.json"), "the end is not on disk")
		return file, before
	}
	t.Run("a later read", func(t *testing.T) {
		inBubble(t, func(t *testing.T, r *harness) {
			file, _ := canceled(t, r)
			require.NoError(t, os.RemoveAll(file))
			r.settle()
			assert.Contains(t, word(t, r, "intent.json"), `"mode": "desktop"`)
			assert.NotContains(t, word(t, r, "intent.json"), "pending")
			assert.NoFileExists(t, filepath.Join(r.dir, "state", "transition.json"))
		})
	})
	t.Run("another cancel", func(t *testing.T) {
		inBubble(t, func(t *testing.T, r *harness) {
			file, _ := canceled(t, r)
			minute := time.Minute
			request := status.Request{Mode: policy.StudioLocal, Grace: &minute}
			var id uint64
			require.NoError(t, r.call(t.Context(), func() { // before anybody tries again
				assert.NoError(t, os.RemoveAll(file))
				var err error
				id, err = r.accept(request, nil)
				assert.NoError(t, err)
			}))
			synctest.Wait()
			require.NoError(t, r.Cancel(t.Context(), id, "bob"))
			assert.Equal(t, policy.Desktop, r.settle().Desired.Mode)
		})
	})
	t.Run("another daemon", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			dir := t.TempDir()
			host := newFakeHost(testPolicy(dir))
			r := startHarness(t, host, dir, thisBoot)
			r.settle()
			file, before := canceled(t, r)
			r.stop()
			require.NoError(t, os.RemoveAll(file))
			require.NoError(t, os.WriteFile(file, before, 0o644)) // as the disk has it
			r = startHarness(t, host, dir, thisBoot)
			defer r.stop()
			assert.Equal(t, policy.Desktop, r.settle().Desired.Mode)
			assert.Equal(t, status.Canceled, r.View().Last.Result)
		})
	})
}

func TestCancelTooLate(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		r.host.fault = func(ctx context.Context, when, what string) error {
			if what == "apply stop-display-manager" && when == "before" {
				<-ctx.Done()
			}
			return nil
		}
		request := compute
		request.UID = 1000
		id := r.submit(request)
		running := r.View().Running
		require.Equal(t, "stop-display-manager", running.Step)
		assert.False(t, running.Cancellable)
		assert.Zero(t, running.Deadline)
		require.ErrorIs(t, r.Cancel(t.Context(), id, "bob"), status.ErrNotCancellable)
		_, err := r.Inhibit(t.Context(), status.Inhibitor{How: status.Block, Mode: policy.Compute})
		require.ErrorIs(t, err, status.ErrBusy, "nobody is promised what is too late")
		r.inhibit(status.Inhibitor{How: status.Block, Mode: policy.StudioLocal})
	})
}

func TestPostpone(t *testing.T) {
	inBubble(t, func(t *testing.T, r *harness) {
		id := r.submit(compute)
		first := r.View().Running.Deadline
		for i := range 3 {
			require.NoError(t, r.Postpone(t.Context(), id, time.Minute))
			assert.Equal(t, first.Add(time.Duration(i+1)*time.Minute), r.View().Running.Deadline)
		}
		require.ErrorIs(t, r.Postpone(t.Context(), id, time.Second), status.ErrNotPostponable)
		require.Equal(t, status.Success, r.settle().Last.Result)
		assert.False(t, r.View().Last.Finished.Before(first.Add(3*time.Minute)))
		require.ErrorIs(t, r.Postpone(t.Context(), id, time.Second), status.ErrNoSuchTransition)
	})
	inBubble(t, func(t *testing.T, r *harness) {
		id := r.submit(compute)
		require.ErrorIs(t, r.Postpone(t.Context(), id, 10*time.Minute+1), status.ErrNotPostponable)
		require.NoError(t, r.Postpone(t.Context(), id, 6*time.Minute))
		require.ErrorContains(
			t, r.Postpone(t.Context(), id, 6*time.Minute), "the policy allows 10m0s in all, of which 4m0s is left",
		)
	})
}

// Whoever postpones has more time than before, however much there was.
func TestPostponeNeverShortens(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		hour := time.Hour
		request := compute
		request.Grace = &hour
		begun := time.Now()
		id := r.submit(request)
		require.NoError(t, r.Postpone(t.Context(), id, time.Minute))
		assert.Equal(t, begun.Add(hour+time.Minute), r.View().Running.Deadline)
	})
}

// duringRecheck runs act in the read between the end of the wait and the point of no return.
func (r *harness) duringRecheck(grace time.Duration, act func(id uint64)) (id uint64) {
	r.t.Helper()
	request := compute
	request.UID, request.Grace = 1000, &grace
	id = r.submit(request)
	r.host.mu.Lock()
	once := false
	r.host.onRead = func() {
		running := r.View().Running
		if running != nil && running.Phase == status.PhaseAnnounced && !time.Now().Before(running.Deadline) && !once {
			once = true
			act(id)
		}
	}
	r.host.mu.Unlock()
	return id
}

// The wait is over, and the runner reads and evaluates the guards once more: what is accepted then
// counts.
func TestActDuringRecheck(t *testing.T) {
	const grace = 10 * time.Second
	cases := map[string]struct {
		act  func(t *testing.T, r *harness, id uint64)
		adds time.Duration
	}{
		"nothing": {func(*testing.T, *harness, uint64) {}, 0},
		"a postponement": {func(t *testing.T, r *harness, id uint64) {
			assert.NoError(t, r.Postpone(t.Context(), id, 5*time.Minute))
			assert.Equal(t, time.Now().Add(5*time.Minute), r.View().Running.Deadline)
		}, 5 * time.Minute},
		"a delay inhibitor": {func(t *testing.T, r *harness, _ uint64) {
			_, err := r.Inhibit(t.Context(), status.Inhibitor{How: status.Delay, Mode: policy.Compute, Holder: ":1.7"})
			assert.NoError(t, err)
			time.AfterFunc(
				15*time.Second, func() { assert.NoError(t, r.HolderLeft(context.WithoutCancel(t.Context()), ":1.7")) },
			)
		}, 15 * time.Second},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			onDesktop(t, func(t *testing.T, r *harness) {
				acted := false
				begun := time.Now()
				r.duringRecheck(grace, func(id uint64) { acted = true; c.act(t, r, id) })
				last := r.settle().Last
				require.True(t, acted)
				require.Equal(t, status.Success, last.Result, last.Cause)
				i := slices.IndexFunc(last.Steps, func(s status.Step) bool { return s.ID == "end-sessions" })
				ended := last.Steps[i].Started.Sub(begun)
				assert.GreaterOrEqual(t, ended, grace+c.adds)
				assert.Less(t, ended, grace+c.adds+5*time.Second)
			})
		})
	}
}

// What the guards said before the warning is not what counts after it.
func TestGuardsAfterWait(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		request := compute
		request.EndOthers, request.UID = false, 1001
		r.host.change(func() { r.host.now.Logind.Sessions[0].UID = 1001 })
		grace := time.Minute
		request.Grace = &grace
		r.submit(request)
		require.Equal(t, status.PhaseAnnounced, r.View().Running.Phase)
		r.host.change(func() {
			r.host.now.Logind.Sessions = append(r.host.now.Logind.Sessions, observer.Session{
				ID: "9", UID: 1002, User: "carol", Class: "user", Type: "wayland", Seat: "seat0",
			})
		})
		v := r.settle()
		assert.Equal(t, status.Blocked, v.Last.Result)
		assert.Contains(t, v.Last.Cause, "carol")
		assert.Empty(t, r.applied())
	})
}

// What others have done meanwhile is not done again.
func TestPlanAfterWait(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		r.submit(compute)
		r.host.change(func() { r.host.stop("display-manager.service"); r.host.endSessions() })
		v := r.settle()
		require.Equal(t, status.Success, v.Last.Result)
		assert.NotContains(t, r.applied(), "apply stop-display-manager")
		assert.NotContains(t, r.applied(), "apply end-sessions")
		assert.Contains(t, r.applied(), "apply isolate-compute")
	})
}

func TestStopDuringWait(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		r.submit(compute)
		r.stop()
		again := startHarness(t, r.host, r.dir, thisBoot)
		defer again.stop()
		v := again.settle()
		require.NotNil(t, v.Last)
		assert.Equal(t, status.Interrupted, v.Last.Result)
		assert.Equal(t, observer.State("desktop"), v.Last.Final)
		assert.Empty(t, r.applied())
	})
}

func TestJoinOnlyTheSame(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		id := r.submit(compute)
		same := compute
		same.By, same.Why = "uid 1000", "too"
		assert.Equal(t, id, r.submit(same))
		grace := time.Second
		for _, more := range []func(*status.Request){
			func(q *status.Request) { q.Skip = []policy.GuardID{policy.CheckCPULoadSafe} },
			func(q *status.Request) { q.Grace = &grace },
			func(q *status.Request) { q.NoWait = true },
			func(q *status.Request) { q.Mode = policy.StudioLocal },
		} {
			request := compute
			more(&request)
			_, err := r.Request(t.Context(), request)
			require.ErrorIs(t, err, status.ErrBusy)
		}
	})
}
