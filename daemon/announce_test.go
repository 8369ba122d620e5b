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

// ask accepts a request and waits until everybody in the bubble is at rest.
func (r *rig) ask(request status.Request) uint64 {
	r.t.Helper()
	id, err := r.Request(r.t.Context(), request)
	require.NoError(r.t, err)
	synctest.Wait()
	return id
}

// compute is asked for by root, who is not the one at the screen.
var compute = status.Request{Mode: policy.Compute, Origin: status.OriginOperator, By: "uid 0 (root)", EndOthers: true}

func (r *rig) inhibit(i status.Inhibitor) uint32 {
	r.t.Helper()
	cookie, err := r.Inhibit(r.t.Context(), i)
	require.NoError(r.t, err)
	return cookie
}

// prepares lists the announcements that were heard.
func (r *rig) prepares() []status.Prepare {
	var heard []status.Prepare
	for _, e := range r.seen.all() {
		if e.Prepare != nil {
			heard = append(heard, *e.Prepare)
		}
	}
	return heard
}

func TestPeopleAreWarnedOfWhatOthersAskFor(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *rig) {
		begun := time.Now()
		id := r.ask(compute)
		running := r.View().Running
		require.NotNil(t, running)
		assert.Equal(t, status.PhaseAnnounced, running.Phase)
		assert.True(t, running.Cancellable)
		assert.Equal(t, begun.Add(10*time.Second), running.Deadline)
		want := status.Prepare{
			Begin: true, ID: id, From: "desktop", To: "compute", Deadline: begun.Add(10 * time.Second), EndsSessions: true,
		}
		assert.Equal(t, []status.Prepare{want}, r.prepares())
		assert.Empty(t, r.host.applied)

		require.Equal(t, status.Success, r.settle().Last.Result)
		assert.Equal(t, []status.Prepare{want, {ID: id, From: "desktop", To: "compute"}}, r.prepares())
		assert.GreaterOrEqual(t, r.View().Last.Finished.Sub(begun), 10*time.Second)
	})
}

func TestNobodyIsKeptWaitingForWhatTheyAskThemselves(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		begun := time.Now()
		r.ask(status.Request{Mode: policy.Compute, UID: 1000})
		r.settle()
		assert.Less(t, r.View().Last.Finished.Sub(begun), time.Second)
		assert.Len(t, r.prepares(), 2, "it is announced all the same")
	})
	inBubble(t, func(t *testing.T, r *rig) {
		begun, grace := time.Now(), time.Minute
		r.ask(status.Request{Mode: policy.Compute, UID: 1000, Grace: &grace})
		r.settle()
		assert.GreaterOrEqual(t, r.View().Last.Finished.Sub(begun), grace, "unless they ask for it")
	})
}

func TestACancelTakesTheWishBack(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *rig) {
		id := r.ask(compute)
		require.ErrorIs(t, r.Cancel(t.Context(), id+1, "bob"), status.ErrNoSuchTransition)
		require.NoError(t, r.Cancel(t.Context(), id, "bob"))
		v := r.settle()
		assert.Equal(t, status.Canceled, v.Last.Result)
		assert.Equal(t, "canceled by bob", v.Last.Cause)
		assert.Equal(t, policy.Desktop, v.Desired.Mode)
		assert.Equal(t, "desktop", word(t, r, "desired"))
		assert.Equal(t, observer.State("desktop"), v.Observation.State)
		assert.Empty(t, r.host.applied)
		assert.Len(t, r.prepares(), 2)
		require.ErrorIs(t, r.Cancel(t.Context(), id, "bob"), status.ErrNoSuchTransition)
	})
}

func TestACancelTakesBackWhatWasPrepared(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *rig) {
		r.host.change(func() {
			u := r.host.now.Systemd.Units["mode-prepare-compute.service"]
			u.LoadState = "loaded"
			r.host.now.Systemd.Units["mode-prepare-compute.service"] = u
		})
		id := r.ask(compute)
		require.NoError(t, r.Cancel(t.Context(), id, "bob"))
		v := r.settle()
		assert.Equal(t, status.Canceled, v.Last.Result, v.Last.Cause)
		assert.Equal(t, []string{"apply start-mode-prepare-compute", "undo start-mode-prepare-compute"}, r.host.applied)
	})
}

// A cancel restores what was desired, also where that cannot be written: in memory at
// once, and on disk with a later look, with the next request, or by the next daemon.
func TestACancelThatCannotBeWrittenIsNotLost(t *testing.T) {
	canceled := func(t *testing.T, r *rig) (file string, before []byte) {
		file = filepath.Join(r.dir, "run", "intent.json")
		id := r.ask(compute)
		before, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NoError(t, os.Remove(file))
		require.NoError(t, os.MkdirAll(filepath.Join(file, "in-the-way"), 0o755))
		require.NoError(t, r.Cancel(t.Context(), id, "bob"))
		require.Equal(t, policy.Desktop, r.settle().Desired.Mode)
		require.FileExists(t, filepath.Join(r.dir, "state", "transition.json"), "the end is not on disk")
		return file, before
	}
	t.Run("a later look", func(t *testing.T) {
		inBubble(t, func(t *testing.T, r *rig) {
			file, _ := canceled(t, r)
			require.NoError(t, os.RemoveAll(file))
			r.settle()
			assert.Contains(t, word(t, r, "intent.json"), `"mode": "desktop"`)
			assert.NotContains(t, word(t, r, "intent.json"), "pending")
			assert.NoFileExists(t, filepath.Join(r.dir, "state", "transition.json"))
		})
	})
	t.Run("another cancel", func(t *testing.T) {
		inBubble(t, func(t *testing.T, r *rig) {
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
			r := startRig(t, host, dir, thisBoot)
			r.settle()
			file, before := canceled(t, r)
			r.stop()
			require.NoError(t, os.RemoveAll(file))
			require.NoError(t, os.WriteFile(file, before, 0o644)) // as the disk has it
			r = startRig(t, host, dir, thisBoot)
			defer r.stop()
			assert.Equal(t, policy.Desktop, r.settle().Desired.Mode)
			assert.Equal(t, status.Canceled, r.View().Last.Result)
		})
	})
}

func TestNothingIsCanceledPastThePointOfNoReturn(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *rig) {
		r.host.fault = func(ctx context.Context, when, what string) error {
			if what == "apply stop-display-manager" && when == "before" {
				<-ctx.Done()
			}
			return nil
		}
		request := compute
		request.UID = 1000
		id := r.ask(request)
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

func TestPeopleCanPostponeIt(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		id := r.ask(compute)
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
	inBubble(t, func(t *testing.T, r *rig) {
		id := r.ask(compute)
		require.ErrorIs(t, r.Postpone(t.Context(), id, 10*time.Minute+1), status.ErrNotPostponable)
		require.NoError(t, r.Postpone(t.Context(), id, 6*time.Minute))
		require.ErrorContains(
			t, r.Postpone(t.Context(), id, 6*time.Minute), "the policy allows 10m0s in all, of which 4m0s is left",
		)
	})
}

// Whoever postpones has more time than before, however much there was.
func TestPostponingNeverShortens(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *rig) {
		hour := time.Hour
		request := compute
		request.Grace = &hour
		begun := time.Now()
		id := r.ask(request)
		require.NoError(t, r.Postpone(t.Context(), id, time.Minute))
		assert.Equal(t, begun.Add(hour+time.Minute), r.View().Running.Deadline)
	})
}

// looking has act run in the look between the end of the wait and the point of no return.
func (r *rig) looking(grace time.Duration, act func(id uint64)) (id uint64) {
	r.t.Helper()
	request := compute
	request.UID, request.Grace = 1000, &grace
	id = r.ask(request)
	r.host.mu.Lock()
	once := false
	r.host.onLook = func() {
		running := r.View().Running
		if running != nil && running.Phase == status.PhaseAnnounced && !time.Now().Before(running.Deadline) && !once {
			once = true
			act(id)
		}
	}
	r.host.mu.Unlock()
	return id
}

// The wait is over, and the execution looks and judges once more: what is accepted then
// counts.
func TestWhatComesBetweenTheWaitAndThePointOfNoReturnCounts(t *testing.T) {
	const grace = 10 * time.Second
	cases := map[string]struct {
		act  func(t *testing.T, r *rig, id uint64)
		adds time.Duration
	}{
		"nothing": {func(*testing.T, *rig, uint64) {}, 0},
		"a postponement": {func(t *testing.T, r *rig, id uint64) {
			assert.NoError(t, r.Postpone(t.Context(), id, 5*time.Minute))
			assert.Equal(t, time.Now().Add(5*time.Minute), r.View().Running.Deadline)
		}, 5 * time.Minute},
		"a delay inhibitor": {func(t *testing.T, r *rig, _ uint64) {
			_, err := r.Inhibit(t.Context(), status.Inhibitor{How: status.Delay, Mode: policy.Compute, Holder: ":1.7"})
			assert.NoError(t, err)
			time.AfterFunc(
				15*time.Second, func() { assert.NoError(t, r.HolderLeft(context.WithoutCancel(t.Context()), ":1.7")) },
			)
		}, 15 * time.Second},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			onDesktop(t, func(t *testing.T, r *rig) {
				acted := false
				begun := time.Now()
				r.looking(grace, func(id uint64) { acted = true; c.act(t, r, id) })
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

// Nobody is promised a delay that the transition does not wait for.
func TestADelayThatComesTooLateIsRefused(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *rig) {
		hour := time.Hour
		request := compute
		request.Grace = &hour
		r.ask(request)
		time.Sleep(r.View().Policy.Announce.MaxDelay.D())
		_, err := r.Inhibit(t.Context(), status.Inhibitor{How: status.Delay, Mode: policy.Compute})
		require.ErrorIs(t, err, status.ErrBusy)
		r.inhibit(status.Inhibitor{How: status.Delay, Mode: policy.StudioLocal})
		r.inhibit(status.Inhibitor{How: status.Block, Mode: policy.Compute})
	})
}

func TestABlockInhibitorBlocksAndNamesItsHolder(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *rig) {
		cookie := r.inhibit(
			status.Inhibitor{
				How: status.Block, Mode: policy.Compute, Who: "backup", Why: "a snapshot", UID: 1001, Holder: ":1.7",
			},
		)
		require.NotZero(t, cookie)
		record := r.request(policy.Compute)
		assert.Equal(t, status.Inhibited, record.Result)
		assert.Equal(t, "check_no_inhibitor: backup (uid 1001) blocks it: a snapshot", record.Cause)
		require.Len(t, r.View().BlockedBy, 1)
		assert.Empty(t, r.host.applied)
		assert.Equal(t, status.Success, r.request(policy.StudioLocal).Result, "it is about compute")

		others := func(i status.Inhibitor) bool { return i.Holder == ":1.8" }
		require.ErrorIs(t, r.Release(t.Context(), cookie, others), status.ErrNoSuchInhibitor)
		require.NoError(t, r.HolderLeft(t.Context(), ":1.7"))
		assert.Empty(t, r.View().Inhibitors)
		assert.Equal(t, status.Success, r.request(policy.Compute).Result)
	})
}

func TestWhoBlocksWhileOthersAreWarnedIsHeard(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *rig) {
		r.ask(compute)
		r.inhibit(status.Inhibitor{How: status.Block, Who: "backup", Why: "a snapshot"})
		v := r.settle()
		assert.Equal(t, status.Inhibited, v.Last.Result)
		assert.Empty(t, r.host.applied)
	})
}

func TestADelayInhibitorIsWaitedForUpToABound(t *testing.T) {
	hold := status.Inhibitor{How: status.Delay, Who: "player", Holder: ":1.7"}
	inBubble(t, func(t *testing.T, r *rig) {
		r.inhibit(hold)
		begun := time.Now()
		require.Equal(t, status.Success, r.request(policy.StudioLocal).Result)
		assert.GreaterOrEqual(t, r.View().Last.Finished.Sub(begun), 30*time.Second, "a holder that never lets go")
	})
	inBubble(t, func(t *testing.T, r *rig) {
		cookie := r.inhibit(hold)
		begun := time.Now()
		r.ask(status.Request{Mode: policy.StudioLocal})
		assert.Equal(t, begun.Add(30*time.Second), r.View().Running.Deadline)
		require.NoError(t, r.Release(t.Context(), cookie, func(status.Inhibitor) bool { return true }))
		r.settle()
		assert.Less(t, r.View().Last.Finished.Sub(begun), time.Second, "it goes on at once")
	})
	inBubble(t, func(t *testing.T, r *rig) {
		r.inhibit(hold)
		begun := time.Now()
		r.ask(status.Request{Mode: policy.StudioLocal, NoWait: true})
		r.settle()
		assert.Less(t, r.View().Last.Finished.Sub(begun), time.Second)
	})
}

// What the guards said before the warning is not what counts after it.
func TestTheGuardsAreJudgedAgainAfterTheWarning(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *rig) {
		request := compute
		request.EndOthers, request.UID = false, 1001
		r.host.change(func() { r.host.now.Logind.Sessions[0].UID = 1001 })
		grace := time.Minute
		request.Grace = &grace
		r.ask(request)
		require.Equal(t, status.PhaseAnnounced, r.View().Running.Phase)
		r.host.change(func() {
			r.host.now.Logind.Sessions = append(r.host.now.Logind.Sessions, observer.Session{
				ID: "9", UID: 1002, User: "carol", Class: "user", Type: "wayland", Seat: "seat0",
			})
		})
		v := r.settle()
		assert.Equal(t, status.Blocked, v.Last.Result)
		assert.Contains(t, v.Last.Cause, "carol")
		assert.Empty(t, r.host.applied)
	})
}

// What others have done meanwhile is not done again.
func TestThePlanIsMadeAnewAfterTheWarning(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *rig) {
		r.ask(compute)
		r.host.change(func() { r.host.stop("display-manager.service"); r.host.endSessions() })
		v := r.settle()
		require.Equal(t, status.Success, v.Last.Result)
		assert.NotContains(t, r.host.applied, "apply stop-display-manager")
		assert.NotContains(t, r.host.applied, "apply end-sessions")
		assert.Contains(t, r.host.applied, "apply isolate-compute")
	})
}

func TestADaemonThatStopsWhileItWarnsHasDoneNothing(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *rig) {
		r.ask(compute)
		r.stop()
		again := startRig(t, r.host, r.dir, thisBoot)
		defer again.stop()
		v := again.settle()
		require.NotNil(t, v.Last)
		assert.Equal(t, status.Interrupted, v.Last.Result)
		assert.Equal(t, observer.State("desktop"), v.Last.Final)
		assert.Empty(t, r.host.applied)
	})
}

func TestInhibitorsAreBounded(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *rig) {
		seen := map[uint32]bool{}
		for range maxInhibitorsOfUser {
			seen[r.inhibit(status.Inhibitor{How: status.Delay, UID: 1000})] = true
		}
		assert.Len(t, seen, maxInhibitorsOfUser, "no cookie is given twice")
		_, err := r.Inhibit(t.Context(), status.Inhibitor{How: status.Delay, UID: 1000})
		require.ErrorIs(t, err, status.ErrTooMany)
		for len(r.View().Inhibitors) < maxInhibitors {
			r.inhibit(status.Inhibitor{How: status.Delay, UID: uint32(1001 + len(r.View().Inhibitors)/maxInhibitorsOfUser)})
		}
		_, err = r.Inhibit(t.Context(), status.Inhibitor{How: status.Delay, UID: 2000})
		require.ErrorIs(t, err, status.ErrTooMany, "all users together")
		for range maxInhibitors {
			r.inhibit(status.Inhibitor{How: status.Delay}) // root's share is its own
		}
		_, err = r.Inhibit(t.Context(), status.Inhibitor{How: status.Delay})
		require.ErrorIs(t, err, status.ErrTooMany, "root's has an end too")
	})
}

// busy makes the host's load too high for compute.
func (r *rig) busy() {
	r.host.change(func() {
		load := 99.0
		r.host.now.Procfs.LoadPerCore = observer.Measure{Value: &load}
	})
}

func TestOnlyWhatIsNamedIsForced(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *rig) {
		r.busy()
		request := status.Request{Mode: policy.Compute, UID: 1000}
		r.ask(request)
		require.Equal(t, status.Blocked, r.settle().Last.Result)
		request.Skip = []policy.GuardID{policy.CheckMemoryHeadroom}
		r.ask(request)
		require.Equal(t, status.Blocked, r.settle().Last.Result, "that is not the one that refuses")
		request.Skip = append(request.Skip, policy.CheckCPULoadSafe)
		r.ask(request)
		last := r.settle().Last
		require.Equal(t, status.Success, last.Result, last.Cause)
		assert.Equal(t, []policy.GuardID{policy.CheckCPULoadSafe}, last.Forced)
		assert.Empty(t, r.View().BlockedBy)
	})
}

// An inhibitor is asked about twice: by its guard, and at the point of no return.
func TestAnInhibitorIsForcedAtThePointOfNoReturnToo(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *rig) {
		r.inhibit(status.Inhibitor{How: status.Block, Who: "backup", Why: "a snapshot"})
		r.ask(status.Request{Mode: policy.Compute, UID: 1000, Skip: []policy.GuardID{policy.CheckNoInhibitor}})
		last := r.settle().Last
		require.Equal(t, status.Success, last.Result, last.Cause)
		assert.Equal(t, []policy.GuardID{policy.CheckNoInhibitor}, last.Forced)
	})
}

// What the bus refuses, the engine does not do either.
func TestAHardGuardIsNotForced(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *rig) {
		r.ask(status.Request{Mode: policy.Compute, UID: 1001, Skip: []policy.GuardID{policy.CheckGraphicalSessionTerminable}})
		last := r.settle().Last
		require.Equal(t, status.Blocked, last.Result)
		assert.Empty(t, last.Forced)
	})
}

func TestARequestThatAsksForMoreDoesNotJoin(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *rig) {
		id := r.ask(compute)
		same := compute
		same.By, same.Why = "uid 1000", "too"
		assert.Equal(t, id, r.ask(same))
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
