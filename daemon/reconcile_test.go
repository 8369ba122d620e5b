package daemon

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// reconciling is onDesktop with a daemon that makes requests by itself.
func reconciling(t *testing.T, f func(*testing.T, *harness)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		p := testPolicy(dir)
		p.Reconcile.Enabled = true
		r := startHarnessWith(t, newFakeHost(p), p, thisBoot)
		r.dir = dir
		defer r.stop()
		require.Equal(t, observer.State("desktop"), r.settle().Observation.State)
		f(t, r)
	})
}

func TestReconcileDisabled(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		r.request(policy.Compute)
		r.host.change(func() { r.host.stop("vllm.service") })
		last := r.settle().Last.ID
		v := r.advance(48 * time.Hour)
		assert.Equal(t, last, v.Last.ID)
		assert.Equal(t, status.AutoReconcile{}, v.Reconcile)
	})
}

func TestReconcile(t *testing.T) {
	reconciling(t, func(t *testing.T, r *harness) {
		r.request(policy.Compute)
		assert.Equal(t, status.AutoReconcile{Enabled: true}, r.advance(time.Second).Reconcile)
		r.host.change(func() { r.host.stop("vllm.service"); r.host.applied = nil })
		v := r.settle()
		require.Equal(t, observer.State("degraded-compute"), v.Observation.State)
		assert.True(t, v.Reconcile.Armed)
		assert.WithinDuration(t, time.Now().Add(time.Minute), v.Reconcile.Next, 2*time.Second)
		r.advance(55 * time.Second)
		require.Empty(t, r.applied(), "it may come back by itself")
		r.advance(6 * time.Second)
		v = r.settle()
		assert.Equal(t, observer.State("compute"), v.Observation.State)
		assert.Equal(t, []string{"apply start-vllm"}, r.applied())
		assert.Equal(t, status.OriginRecovery, v.Last.Origin)
		assert.Equal(t, byDaemon, v.Last.By)
		assert.Equal(t, "the host is degraded-compute, and compute was requested by test", v.Last.Why)
		assert.Equal(t, status.OriginOperator, v.Desired.Origin, "the origin is that of the first request")
		v = r.advance(time.Hour)
		assert.Equal(t, status.AutoReconcile{Enabled: true}, v.Reconcile)
	})
}

// What a person requested and was refused is requested again, where policy has it so and
// nobody loses anything by it.
func TestReconcileBlocked(t *testing.T) {
	reconciling(t, func(t *testing.T, r *harness) {
		r.request(policy.Compute)
		cookie := r.inhibit(status.Inhibitor{How: status.Block, Who: "backup", Why: "a snapshot", Holder: ":1.9"})
		require.Equal(t, status.Inhibited, r.request(policy.Desktop).Result)
		v := r.advance(90 * time.Second)
		assert.Equal(t, 1, v.Reconcile.Attempts)
		assert.Contains(t, v.Reconcile.Refusal, "ended inhibited: check_no_inhibitor")
		require.NoError(t, r.Release(t.Context(), cookie, func(status.Inhibitor) bool { return true }))
		r.advance(3 * time.Minute)
		assert.Equal(t, observer.State("desktop"), r.settle().Observation.State)
	})
}

// A session ends on the word of a person, or not at all.
func TestReconcileEndsNoSession(t *testing.T) {
	reconciling(t, func(t *testing.T, r *harness) {
		r.host.unhealthy = true
		require.Equal(t, status.RolledBack, r.request(policy.Compute).Result)
		r.host.change(func() { r.host.unhealthy = false; r.host.applied = nil })
		last := r.View().Last.ID
		v := r.advance(48 * time.Hour)
		assert.Equal(t, last, v.Last.ID)
		assert.Empty(t, r.applied())
		assert.False(t, v.Reconcile.Armed)
		assert.Equal(
			t, "the way to compute ends sessions or the login screen (stop-display-manager): only a person may request that",
			v.Reconcile.Refusal,
		)
		assert.Equal(t, policy.Compute, v.Desired.Mode)
		require.Equal(t, status.Success, r.request(policy.Compute).Result, "a person may")
	})
}

// What comes between the decision and the plan is seen by the plan: the guards see
// to sessions, and nobody but this to the place where one could begin.
func TestReconcileLoginScreen(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		r.host.change(r.host.endSessions)
		require.NoError(t, r.call(t.Context(), func() {
			r.begin(status.Request{Mode: policy.Compute, Origin: status.OriginRecovery, By: byDaemon}, nil)
		}))
		v := r.settle()
		assert.Equal(t, status.Blocked, v.Last.Result)
		assert.Contains(t, v.Last.Cause, "only a person may request that")
		assert.Empty(t, r.applied())
	})
}

func TestReconcileAfterCancel(t *testing.T) {
	reconciling(t, func(t *testing.T, r *harness) {
		r.request(policy.Compute)
		r.host.change(func() { r.host.stop("vllm.service"); r.host.applied = nil })
		r.inhibit(status.Inhibitor{How: status.Delay, Who: "backup", Why: "a snapshot", Holder: ":1.9"})
		v := r.advance(62 * time.Second)
		require.NotNil(t, v.Running)
		require.NoError(t, r.Cancel(t.Context(), v.Running.ID, "uid 0 (root)"))
		last := r.settle().Last.ID
		v = r.advance(48 * time.Hour)
		assert.Equal(t, last, v.Last.ID)
		assert.Equal(t, policy.Compute, v.Desired.Mode)
		assert.Equal(t, "canceled by uid 0 (root)", v.Reconcile.Refusal)
		assert.False(t, v.Reconcile.Armed)
		assert.Equal(t, status.Success, r.request(policy.Compute).Result)
	})
}

// The daemon makes no request against what a person canceled.
func TestReconcileCanceled(t *testing.T) {
	reconciling(t, func(t *testing.T, r *harness) {
		r.request(policy.Compute)
		r.host.change(func() { r.host.stop("vllm.service"); r.host.applied = nil })
		cookie := r.inhibit(status.Inhibitor{How: status.Delay, Who: "backup", Why: "a snapshot", Holder: ":1.9"})
		id := r.submit(status.Request{Mode: policy.Desktop, Origin: status.OriginOperator, By: "test"})
		require.NoError(t, r.Cancel(t.Context(), id, "uid 0 (root)"))
		require.Equal(t, status.Canceled, r.settle().Last.Result)
		require.NoError(t, r.Release(t.Context(), cookie, func(status.Inhibitor) bool { return true }))
		v := r.advance(48 * time.Hour)
		assert.Equal(t, id, v.Last.ID)
		assert.Equal(t, "transition 2 was canceled, and nobody has made a request since", v.Reconcile.Refusal)
		assert.Empty(t, r.applied())
	})
}

func TestReconcileNotAllowed(t *testing.T) {
	reconciling(t, func(t *testing.T, r *harness) {
		r.request(policy.Compute)
		last := r.View().Last.ID
		_, err := r.Reload(t.Context(), changed(r, func(p *policy.Policy) { p.Transitions = policy.TrustOverlay }))
		require.NoError(t, err)
		r.host.change(func() { r.host.stop("vllm.service") })
		v := r.advance(48 * time.Hour)
		assert.Equal(t, last, v.Last.ID)
		assert.Equal(t, `the policy does not allow it: transitions = "overlay"`, v.Reconcile.Refusal)
	})
}

// What is requested again is requested on the terms of the first request.
func TestReconcileWithLease(t *testing.T) {
	reconciling(t, func(t *testing.T, r *harness) {
		r.request(policy.Compute)
		cookie := r.inhibit(status.Inhibitor{How: status.Block, Who: "backup", Why: "a snapshot", Holder: ":1.9"})
		require.Equal(t, status.Inhibited, r.requestOn(policy.StudioLocal, status.Terms{For: time.Hour}).Result)
		require.NotNil(t, r.View().Lease)
		require.True(t, r.View().Lease.Until.IsZero(), "it is not there yet")
		require.NoError(t, r.Release(t.Context(), cookie, func(status.Inhibitor) bool { return true }))
		r.advance(10 * time.Minute)
		v := r.settle()
		require.Equal(t, observer.State("studio-local"), v.Observation.State)
		require.NotNil(t, v.Lease)
		assert.False(t, v.Lease.Until.IsZero())
		r.advance(time.Hour)
		assert.Equal(t, observer.State("desktop"), r.settle().Observation.State)
	})
}

// A way back that failed is the lease's to try again, and nobody else's.
func TestReconcileLeavesWayBack(t *testing.T) {
	reconciling(t, func(t *testing.T, r *harness) {
		r.leased(policy.Compute, status.Terms{For: time.Minute})
		r.failing(func(_ context.Context, when, what string) error {
			if what == "apply isolate-desktop" && when == "before" {
				return errBroken
			}
			return nil
		})
		r.advance(6 * time.Hour)
		v := r.settle()
		require.Equal(t, policy.Desktop, v.Desired.Mode)
		require.Equal(t, observer.State("compute"), v.Observation.State)
		records, _, err := r.History(t.Context(), status.Filter{Limit: 1000})
		require.NoError(t, err)
		require.Greater(t, len(records), 30)
		for _, record := range records[:len(records)-1] {
			require.Equal(t, status.OriginLease, record.Origin)
		}
		assert.Zero(t, v.Reconcile.Attempts)
	})
}

// What fails is tried again later each time, and not for ever; a person's request
// begins anew.
func TestReconcileBackoff(t *testing.T) {
	reconciling(t, func(t *testing.T, r *harness) {
		r.request(policy.Compute)
		var begun []time.Time
		r.failing(func(_ context.Context, when, what string) error {
			if when == "before" && what == "apply start-vllm" {
				begun = append(begun, time.Now())
				return errBroken
			}
			return nil
		})
		r.host.change(func() { r.host.stop("vllm.service") })
		v := r.advance(48 * time.Hour)
		require.Len(t, begun, 5)
		for i := 2; i < len(begun); i++ {
			assert.Greater(t, begun[i].Sub(begun[i-1]), begun[i-1].Sub(begun[i-2]))
		}
		assert.Equal(t, "given up after 5 attempts: start-vllm", v.Reconcile.Refusal)
		assert.False(t, v.Reconcile.Armed)
		assert.Equal(t, 5, v.Reconcile.Attempts)

		r.request(policy.Compute)
		v = r.advance(90 * time.Second)
		assert.Equal(t, 1, v.Reconcile.Attempts, "a person made a request")
		r.failing(nil)
		r.advance(time.Hour)
		assert.Equal(t, observer.State("compute"), r.settle().Observation.State)
	})
}

// vLLM that dies again and again is started a few times, not for ever.
func TestReconcileGivesUp(t *testing.T) {
	reconciling(t, func(t *testing.T, r *harness) {
		r.request(policy.Compute)
		starts := 0
		r.failing(func(_ context.Context, when, what string) error {
			if when == "after" && what == "apply start-vllm" {
				starts++
			}
			return nil
		})
		for range 200 {
			r.host.change(func() { r.host.stop("vllm.service") })
			r.advance(3 * time.Minute)
		}
		v := r.settle()
		assert.Equal(t, 5, starts)
		assert.Equal(t, "given up after 5 attempts: it did not last", v.Reconcile.Refusal)
	})
}
