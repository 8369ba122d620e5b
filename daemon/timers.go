package daemon

import (
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/dubnium/dubnium/daemon/history"
	"github.com/dubnium/dubnium/daemon/intent"
	"github.com/dubnium/dubnium/daemon/reconcile"
	"github.com/dubnium/dubnium/daemon/runner"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/plans"
)

// timers wake the loop when something is due that nothing signals.
type timers struct {
	timer *time.Timer
	// historyRetry is when lines of the history that wait are written again, the zero
	// time when none wait.
	historyRetry time.Time
}

// runTimers does what is due, and sets the timer for the next time. It is called after
// everything that the loop does.
func (e *Controller) runTimers() {
	boot, wall := e.boottime(), time.Now()
	var waits []time.Duration
	for _, at := range []time.Duration{e.checkDue(boot), e.sinks.RetryAt()} {
		if at != 0 {
			waits = append(waits, at-boot)
		}
	}
	for _, at := range []time.Time{e.staleAt(), e.deadline(), e.retryHistoryAt(wall)} {
		if !at.IsZero() {
			waits = append(waits, at.Sub(wall))
		}
	}
	e.timer.Stop()
	if len(waits) > 0 {
		// The timer stands still while the machine sleeps, and the boot clock does not. When
		// the machine wakes up, everything is read again, which leads here.
		e.timer.Reset(max(slices.Min(waits), time.Millisecond))
	}
}

// checkDue does what is due by the boot clock. It returns when to call it again, 0 for
// after the next change.
func (e *Controller) checkDue(now time.Duration) time.Duration {
	if e.ending || e.state.Observation.State == observer.Boot {
		return 0
	}
	return intent.Earlier(e.checkIntent(now), e.checkReconcile(now))
}

// staleAt is when a fact becomes too old to be relied on, should nobody have read it by
// then.
func (e *Controller) staleAt() time.Time {
	at := e.state.Observation.Expires
	if at.IsZero() {
		return at
	}
	return at.Add(time.Millisecond) // older than its bound, not as old
}

func (e *Controller) deadline() time.Time {
	if e.state.Running == nil {
		return time.Time{}
	}
	return e.state.Running.Deadline
}

func (e *Controller) retryHistoryAt(now time.Time) time.Time {
	switch {
	case e.deps.History.Warning() == "":
		e.historyRetry = time.Time{}
	case !e.historyRetry.After(now):
		e.historyRetry = now.Add(history.RetryAfter)
	}
	return e.historyRetry
}

// checkIntent begins and ends leases. It returns when to call it again, 0 for after the
// next change.
func (e *Controller) checkIntent(now time.Duration) time.Duration {
	if e.intent.Lease == nil {
		return 0
	}
	t := e.state.Policy.Timeouts
	effects := e.intend(intent.Checked{
		Now: now, State: e.state.Observation.State, Running: e.running != nil,
		Inference: e.state.Snapshot.Inference, Patience: t.Recheck.D() + 2*t.Look.D(), By: byDaemon,
	})
	if effects.WayBack != nil {
		e.begin(*effects.WayBack, nil)
	}
	return effects.Check
}

// checkReconcile requests the desired mode where the policy says so and nothing speaks
// against it. It returns when to call it again, 0 for after the next change.
func (e *Controller) checkReconcile(now time.Duration) (again time.Duration) {
	p, v := e.state.Policy.Reconcile, e.state
	attempt := false
	switch {
	case !p.Enabled:
		e.reconciler, e.state.Reconcile = reconcile.State{}, status.AutoReconcile{}
		return 0
	case e.running != nil:
	case e.intent.Lease != nil && e.intent.Lease.Expired != "": // the lease leads back
		e.reconciler = e.reconciler.Pause()
	default:
		e.reconciler, attempt, again = e.reconciler.Decide(now, reconcile.Inputs{
			Policy: p, Converged: v.Converged(), Blocked: e.reconcileBlocked,
		})
	}
	if attempt {
		e.deps.Log.Info("the host is not what was requested: requesting it again",
			zap.String("mode", string(v.Desired.Mode)), zap.String("observed", string(v.Observation.State)),
			zap.Int("attempt", e.reconciler.Attempts()))
		e.begin(status.Request{
			Mode: v.Desired.Mode, Origin: status.OriginRecovery, By: byDaemon, Authorization: status.ByPolicy,
			Why: fmt.Sprintf("the host is %s, and %s was requested by %s", v.Observation.State, v.Desired.Mode, v.Desired.By),
		}, nil)
	}
	e.state.Reconcile = e.reconciler.Published(e.state.Reconcile, now, e.running != nil)
	return again
}

// reconcileBlocked says why the daemon does not request the desired mode by itself now,
// empty when it may.
func (e *Controller) reconcileBlocked() string {
	v := e.state
	leaves := v.Observation.Facts.Is(observer.ComputeTarget) != observer.False
	switch {
	case v.Last != nil && v.Last.Result == status.Canceled && v.Last.Origin != status.OriginLease:
		return fmt.Sprintf("transition %d was canceled, and nobody has made a request since", v.Last.ID)
	case !v.Policy.Transitions.Allows(v.Desired.Mode, leaves):
		return fmt.Sprintf("the policy does not allow it: transitions = %q", v.Policy.Transitions)
	}
	p := v.Policy.Policy
	return runner.NeedsOperator(p, plans.Build(p, v.Snapshot, v.Desired.Mode))
}

// boottime is how long this boot has lasted (CLOCK_BOOTTIME). It goes on while the
// machine sleeps, and nobody sets it. Leases use it, since they outlive the daemon and
// its monotonic clock does not.
func boottime() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		panic(fmt.Sprintf("the kernel has no CLOCK_BOOTTIME: %v", err)) // Linux has it since 2.6.39
	}
	return time.Duration(now.Nano())
}
