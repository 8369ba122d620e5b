package daemon

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// The way back goes through the same guards. While they refuse, desired stays,
// the reason is published, and it is tried again, later each time.
func TestWayBackBlocked(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		r.leased(policy.Compute, status.Terms{Confirm: time.Minute})
		cookie := r.inhibit(
			status.Inhibitor{How: status.Block, Mode: policy.Desktop, Who: "backup", Why: "a snapshot", Holder: ":1.9"},
		)
		r.advance(time.Minute + time.Second)
		v := r.settle()
		assert.Equal(t, status.Inhibited, v.Last.Result)
		assert.Equal(t, policy.Compute, v.Desired.Mode, "a refused request changes nothing")
		assert.Equal(t, observer.State("compute"), v.Observation.State)
		require.NotNil(t, v.Lease)
		assert.Equal(t, "nobody confirmed it within 1m0s", v.Lease.ExpiredReason)
		assert.Contains(t, v.Lease.LastFailure, "inhibited: check_no_inhibitor")
		assert.Equal(t, 1, v.Lease.Attempts)
		assert.Len(t, v.BlockedBy, 1)

		var tries []uint64
		r.seen.mu.Lock()
		r.seen.also = func(e status.Event) {
			if e.Finished != nil {
				tries = append(tries, e.Finished.ID)
			}
		}
		r.seen.mu.Unlock()
		next := v.Lease.Next
		assert.WithinDuration(t, time.Now().Add(30*time.Second), next, 2*time.Second)
		r.advance(24 * time.Hour)
		r.seen.mu.Lock()
		assert.InDelta(t, 24*6, len(tries), 6, "every ten minutes in the end, and for as long as it takes")
		r.seen.mu.Unlock()

		require.NoError(t, r.Release(t.Context(), cookie, func(status.Inhibitor) bool { return true }))
		r.advance(10*time.Minute + time.Second)
		v = r.settle()
		assert.Equal(t, observer.State("desktop"), v.Observation.State)
		assert.Equal(t, policy.Desktop, v.Desired.Mode)
		assert.Nil(t, v.Lease)
	})
}

func TestWayBackFails(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		r.leased(policy.Compute, status.Terms{For: time.Minute})
		failures := 0
		r.failing(func(_ context.Context, when, what string) error {
			if what == "apply isolate-desktop" && when == "before" && failures < 3 {
				failures++
				return errBroken
			}
			return nil
		})
		r.advance(time.Minute + 10*time.Second)
		v := r.settle()
		assert.Equal(t, status.RolledBack, v.Last.Result)
		assert.Contains(t, v.Lease.LastFailure, "rolled-back: step isolate-desktop failed")
		r.advance(30 * time.Minute)
		assert.Equal(t, observer.State("desktop"), r.settle().Observation.State)
		assert.Equal(t, 3, failures)
		assert.Nil(t, r.View().Lease)
	})
}

// A person who is late is in time until the way back is past its point of no return.
func TestConfirmLate(t *testing.T) {
	inBubble(t, func(t *testing.T, r *harness) {
		id := r.leased(policy.Compute, status.Terms{Confirm: time.Minute})
		cookie := r.inhibit(status.Inhibitor{How: status.Delay, Who: "backup", Why: "a snapshot", Holder: ":1.9"})
		v := r.advance(time.Minute + time.Second)
		require.NotNil(t, v.Running)
		require.Equal(t, status.PhaseAnnounced, v.Running.Phase)
		require.NoError(t, r.Confirm(t.Context(), id, status.Confirmation{By: "uid 0 (root)"}))
		v = r.settle()
		assert.Equal(t, status.Canceled, v.Last.Result)
		assert.Equal(t, "compute was confirmed by uid 0 (root)", v.Last.Cause)
		assert.Equal(t, policy.Compute, v.Desired.Mode)
		assert.Nil(t, v.Lease)
		require.NoError(t, r.Release(t.Context(), cookie, func(status.Inhibitor) bool { return true }))
		assert.Equal(t, observer.State("compute"), r.advance(24*time.Hour).Observation.State)
	})
	inBubble(t, func(t *testing.T, r *harness) {
		id := r.leased(policy.Compute, status.Terms{Confirm: time.Minute})
		begun, letGo := held(r)
		r.advance(time.Minute + time.Second)
		<-begun
		assert.ErrorIs(t, r.Confirm(t.Context(), id, status.Confirmation{}), status.ErrNotCancellable)
		letGo()
		assert.Equal(t, observer.State("desktop"), r.settle().Observation.State)
	})
}

// After a way back that failed behind its point of no return desired is the
// desktop already: who confirms then requests compute.
func TestConfirmAfterFailure(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		id := r.leased(policy.Compute, status.Terms{Confirm: time.Minute})
		r.failing(func(_ context.Context, when, what string) error {
			if what == "apply isolate-desktop" && when == "before" {
				return errBroken
			}
			return nil
		})
		r.advance(time.Minute + 10*time.Second)
		v := r.settle()
		require.Equal(t, status.RolledBack, v.Last.Result)
		require.Equal(t, policy.Desktop, v.Desired.Mode, "its guards had passed")
		require.NoError(t, r.Confirm(t.Context(), id, status.Confirmation{By: "uid 1000 (alice)"}))
		v = r.advance(time.Hour)
		assert.Equal(t, policy.Compute, v.Desired.Mode)
		assert.Equal(t, "uid 1000 (alice)", v.Desired.By)
		assert.Equal(t, observer.State("compute"), v.Observation.State)
	})
}

func TestWayBackCanceled(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		r.leased(policy.Compute, status.Terms{For: time.Minute})
		r.inhibit(status.Inhibitor{How: status.Delay, Who: "backup", Why: "a snapshot", Holder: ":1.9"})
		v := r.advance(time.Minute + time.Second)
		require.NotNil(t, v.Running)
		require.NoError(t, r.Cancel(t.Context(), v.Running.ID, "uid 0 (root)"))
		v = r.settle()
		assert.Nil(t, v.Lease)
		assert.Equal(t, policy.Compute, v.Desired.Mode)
		assert.Equal(t, v.Last.ID, r.advance(24*time.Hour).Last.ID)
	})
}

// The host was in another mode when polkit checked the requester's rights.
func TestLeaveComputeWithoutRight(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		r.request(policy.Compute)
		r.submit(status.Request{Mode: policy.StudioLocal, Origin: status.OriginOperator, By: "alice", UID: 1000})
		last := r.settle().Last
		require.Equal(t, status.Blocked, last.Result)
		assert.Contains(t, last.Cause, "needs the right to request desktop")
		assert.Equal(t, observer.Of(policy.Compute), r.View().Observation.State)
		r.submit(
			status.Request{Mode: policy.StudioLocal, Origin: status.OriginOperator, By: "alice", UID: 1000, LeaveCompute: true},
		)
		require.Equal(t, status.Success, r.settle().Last.Result)
	})
}

// The host gets into compute between the announcement and the point of no return of a
// request that was let while it was on a desktop.
func TestLeaveComputeRechecked(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		grace := time.Minute
		r.submit(status.Request{
			Mode: policy.StudioLocal, Origin: status.OriginOperator, By: "alice", UID: 1000, Grace: &grace,
		})
		require.Equal(t, status.PhaseAnnounced, r.View().Running.Phase)
		r.host.change(func() {
			unit := r.host.now.Systemd.Units["compute.target"]
			unit.ActiveState = "active"
			r.host.now.Systemd.Units["compute.target"] = unit
		})
		time.Sleep(grace)
		last := r.settle().Last
		require.Equal(t, status.Blocked, last.Result)
		assert.Contains(t, last.Cause, "needs the right to request desktop")
	})
}
