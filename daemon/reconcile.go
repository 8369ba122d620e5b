package daemon

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/plans"
	"github.com/dubnium/dubnium/policy"
)

// reconciler is what the engine keeps of asking by itself for what was asked before.
// It is not kept over a restart: a daemon that starts waits for the whole delay. Its
// times are of the boot clock, and 0 is none.
type reconciler struct {
	// divergedSince is since when the host is not what was asked, well since when it is.
	divergedSince, convergedSince time.Duration
	next                          time.Duration // when it is asked for
	attempts                      int           // all of them
	failures                      map[string]int
	last                          string // how the last attempt ended, if it failed
	// reached: the last attempt did what it was for.
	reached bool
	// gaveUpReason says why nothing is tried until a person asks, and refusal why it is not
	// tried as things stand.
	gaveUpReason, blockedReason string
}

// causeNotLasting is that of an attempt that reached the mode, and of the need for
// another one soon after.
const causeNotLasting = "it did not last"

// inputs is what deciding rests on beside the reconciler itself.
type inputs struct {
	policy    policy.Reconcile
	converged bool
	// refusal says why the way may not be taken unasked, empty when it may. It is
	// called when the time has come.
	refusal func() string
}

// decide returns what is kept from now on, whether to ask now, and when to decide
// again, 0 for when something changes.
func (r reconciler) decide(now time.Duration, s inputs) (next reconciler, ask bool, again time.Duration) {
	if s.converged {
		return r.convergedLong(now, s.policy)
	}
	if r.divergedSince == 0 {
		r.divergedSince, r.convergedSince, r.next = now, 0, now+s.policy.Delay.D()
		if r.reached {
			r = r.failed(now, s.policy, causeNotLasting)
		}
	}
	r.blockedReason = ""
	switch {
	case r.gaveUpReason != "":
		return r, false, 0
	case now < r.next:
		return r, false, r.next
	}
	if r.blockedReason = s.refusal(); r.blockedReason != "" {
		return r, false, 0
	}
	r.attempts++
	return r, true, 0
}

// convergedLong is decide for a host that is what was asked. What went wrong before is
// forgotten once it has been for long enough.
func (r reconciler) convergedLong(now time.Duration, p policy.Reconcile) (next reconciler, ask bool, again time.Duration) {
	if r.attempts == 0 {
		return reconciler{}, false, 0
	}
	if r.convergedSince == 0 {
		r.convergedSince = now
	}
	r.divergedSince, r.blockedReason, r.last = 0, "", ""
	if forget := r.convergedSince + p.MaxDelay.D(); now < forget {
		return r, false, forget
	}
	return reconciler{}, false, 0
}

// failed counts one more failure of a cause.
func (r reconciler) failed(now time.Duration, p policy.Reconcile, cause string) reconciler {
	counts := maps.Clone(r.failures)
	if counts == nil {
		counts = map[string]int{}
	}
	counts[cause]++
	n := counts[cause]
	r.failures, r.reached, r.next = counts, false, now+backoff(p.Delay.D(), p.MaxDelay.D(), n+1)
	if n >= p.Attempts {
		r.gaveUpReason = fmt.Sprintf("given up after %d attempts: %s", n, cause)
	}
	return r
}

// ended takes in how an attempt ended.
func (r reconciler) ended(now time.Duration, p policy.Reconcile, record status.Record) reconciler {
	if record.Result == status.Canceled {
		r.gaveUpReason = record.Cause
		return r
	}
	if record.Result.Reached() {
		r.reached, r.last = true, ""
		return r
	}
	cause := causeOf(record)
	r.last = fmt.Sprintf("transition %d ended %s: %s", record.ID, record.Result, cause)
	return r.failed(now, p, cause)
}

// causeOf names what an attempt met with, the same word for the same cause: the
// guard, else the step, else the result.
func causeOf(r status.Record) string {
	if blocking := guards.Blocking(r.Guards); len(blocking) > 0 && (r.Result == status.Blocked || r.Result == status.Inhibited) {
		return string(blocking[0].Guard)
	}
	for _, s := range r.Steps {
		if s.Error != "" {
			return s.ID
		}
	}
	return string(r.Result)
}

// needsOperator says why a plan is not for the daemon to carry out of its own accord: it
// takes a session, or the place where one could begin, from people who asked for
// nothing. Empty: it takes nothing. A lease leads to no such plan, and would not be
// let either.
func needsOperator(p policy.Policy, plan plans.Plan) string {
	taking := slices.IndexFunc(plan.Steps, func(s plans.Step) bool {
		return s.Kind == plans.EndSessions || s.Kind == plans.StopUnit && s.Unit == p.Units.DisplayManager
	})
	if taking < 0 {
		return ""
	}
	return fmt.Sprintf("the way to %s ends sessions or the login screen (%s): only a person asks for that", plan.To, plan.Steps[taking].ID)
}

// checkReconcile asks for the desired mode where policy says so and nothing stands in
// the way. It returns when it has to be called again, 0 for when something changes.
func (e *Controller) checkReconcile(now time.Duration) (again time.Duration) {
	p, v := e.policy.Reconcile, e.state
	switch {
	case !p.Enabled:
		e.reconciler, e.state.Reconcile = reconciler{}, status.AutoReconcile{}
		return 0
	case v.Running != nil:
		e.showReconcile(now)
		return 0
	case e.lease != nil && e.lease.ExpiredReason != "": // the way back is the lease's
		e.reconciler.divergedSince = 0
		e.showReconcile(now)
		return 0
	}
	var ask bool
	e.reconciler, ask, again = e.reconciler.decide(now, inputs{p, v.Converged(), e.blockedNow})
	if ask {
		e.log.Info("the host is not what was asked: asking for it", zap.String("mode", string(v.Desired.Mode)),
			zap.String("observed", string(v.Observation.State)), zap.Int("attempt", e.reconciler.attempts))
		e.askItself(status.Request{
			Mode: v.Desired.Mode, Origin: status.OriginRecovery, By: byDaemon, Authorization: status.ByPolicy,
			Why: fmt.Sprintf("the host is %s, and %s was asked by %s", v.Observation.State, v.Desired.Mode, v.Desired.By),
		})
	}
	e.showReconcile(now)
	return again
}

// blockedNow says why the daemon does not ask for the desired mode by itself as
// things stand, empty when it may.
func (e *Controller) blockedNow() string {
	v := e.state
	leaves := v.Observation.Facts.Is(observer.ComputeTarget) != observer.False
	switch {
	case v.Last != nil && v.Last.Result == status.Canceled && v.Last.Origin != status.OriginLease:
		return fmt.Sprintf("transition %d was canceled, and nobody has asked since", v.Last.ID)
	case !e.policy.Transitions.Allows(v.Desired.Mode, leaves):
		return fmt.Sprintf("the policy does not let it: transitions = %q", e.policy.Transitions)
	}
	return needsOperator(e.policy, plans.Build(e.policy, v.Snapshot, v.Desired.Mode))
}

// judgeReconcile takes in how a transition ended.
func (e *Controller) judgeReconcile(r status.Record) {
	if r.Origin == status.OriginRecovery {
		e.reconciler = e.reconciler.ended(e.now(), e.policy.Reconcile, r)
	}
}

// showReconcile publishes what is going to be asked, and what is not.
func (e *Controller) showReconcile(now time.Duration) {
	r := e.reconciler
	next := status.AutoReconcile{Enabled: true, Attempts: r.attempts, Refusal: r.last}
	switch {
	case r.gaveUpReason != "" && r.divergedSince > 0:
		next.Refusal = r.gaveUpReason
	case r.blockedReason != "":
		next.Refusal = r.blockedReason
	case r.divergedSince > 0 && e.state.Running == nil:
		next.Armed, next.Next = true, moment(e.state.Reconcile.Next, r.next, now)
	}
	e.state.Reconcile = next
}
