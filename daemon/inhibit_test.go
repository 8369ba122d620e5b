package daemon

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

func (r *harness) inhibit(i status.Inhibitor) uint32 {
	r.t.Helper()
	cookie, err := r.Inhibit(r.t.Context(), i)
	require.NoError(r.t, err)
	return cookie
}

// Nobody is promised a delay that the transition does not wait for.
func TestDelayTooLate(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		hour := time.Hour
		request := compute
		request.Grace = &hour
		r.submit(request)
		time.Sleep(r.View().Policy.Announce.MaxDelay.D())
		_, err := r.Inhibit(t.Context(), status.Inhibitor{How: status.Delay, Mode: policy.Compute})
		require.ErrorIs(t, err, status.ErrBusy)
		r.inhibit(status.Inhibitor{How: status.Delay, Mode: policy.StudioLocal})
		r.inhibit(status.Inhibitor{How: status.Block, Mode: policy.Compute})
	})
}

func TestBlockInhibitor(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
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
		assert.Empty(t, r.applied())
		assert.Equal(t, status.Success, r.request(policy.StudioLocal).Result, "it is about compute")

		others := func(i status.Inhibitor) bool { return i.Holder == ":1.8" }
		require.ErrorIs(t, r.Release(t.Context(), cookie, others), status.ErrNoSuchInhibitor)
		require.NoError(t, r.HolderLeft(t.Context(), ":1.7"))
		assert.Empty(t, r.View().Inhibitors)
		assert.Equal(t, status.Success, r.request(policy.Compute).Result)
	})
}

func TestBlockDuringWait(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		r.submit(compute)
		r.inhibit(status.Inhibitor{How: status.Block, Who: "backup", Why: "a snapshot"})
		v := r.settle()
		assert.Equal(t, status.Inhibited, v.Last.Result)
		assert.Empty(t, r.applied())
	})
}

func TestDelayInhibitor(t *testing.T) {
	hold := status.Inhibitor{How: status.Delay, Who: "player", Holder: ":1.7"}
	inBubble(t, func(t *testing.T, r *harness) {
		r.inhibit(hold)
		begun := time.Now()
		require.Equal(t, status.Success, r.request(policy.StudioLocal).Result)
		assert.GreaterOrEqual(t, r.View().Last.Finished.Sub(begun), 30*time.Second, "a holder that never lets go")
	})
	inBubble(t, func(t *testing.T, r *harness) {
		cookie := r.inhibit(hold)
		begun := time.Now()
		r.submit(status.Request{Mode: policy.StudioLocal})
		assert.Equal(t, begun.Add(30*time.Second), r.View().Running.Deadline)
		require.NoError(t, r.Release(t.Context(), cookie, func(status.Inhibitor) bool { return true }))
		r.settle()
		assert.Less(t, r.View().Last.Finished.Sub(begun), time.Second, "it goes on at once")
	})
	inBubble(t, func(t *testing.T, r *harness) {
		r.inhibit(hold)
		begun := time.Now()
		r.submit(status.Request{Mode: policy.StudioLocal, NoWait: true})
		r.settle()
		assert.Less(t, r.View().Last.Finished.Sub(begun), time.Second)
	})
}

func TestInhibitorsBounded(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
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
func (r *harness) busy() {
	r.host.change(func() {
		load := 99.0
		r.host.now.Procfs.LoadPerCore = observer.Measure{Value: &load}
	})
}

func TestForceNamedGuards(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		r.busy()
		request := status.Request{Mode: policy.Compute, UID: 1000}
		r.submit(request)
		require.Equal(t, status.Blocked, r.settle().Last.Result)
		request.Skip = []policy.GuardID{policy.CheckMemoryHeadroom}
		r.submit(request)
		require.Equal(t, status.Blocked, r.settle().Last.Result, "that is not the one that refuses")
		request.Skip = append(request.Skip, policy.CheckCPULoadSafe)
		r.submit(request)
		last := r.settle().Last
		require.Equal(t, status.Success, last.Result, last.Cause)
		assert.Equal(t, []policy.GuardID{policy.CheckCPULoadSafe}, last.Forced)
		assert.Empty(t, r.View().BlockedBy)
	})
}

// An inhibitor is checked twice: by its guard, and at the point of no return.
func TestForceInhibitorAtCommit(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		r.inhibit(status.Inhibitor{How: status.Block, Who: "backup", Why: "a snapshot"})
		r.submit(status.Request{Mode: policy.Compute, UID: 1000, Skip: []policy.GuardID{policy.CheckNoInhibitor}})
		last := r.settle().Last
		require.Equal(t, status.Success, last.Result, last.Cause)
		assert.Equal(t, []policy.GuardID{policy.CheckNoInhibitor}, last.Forced)
	})
}

// The controller refuses what the bus refuses.
func TestForceHardGuard(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		skip := []policy.GuardID{policy.CheckGraphicalSessionTerminable}
		r.submit(status.Request{Mode: policy.Compute, UID: 1001, Skip: skip})
		last := r.settle().Last
		require.Equal(t, status.Blocked, last.Result)
		assert.Empty(t, last.Forced)
	})
}
