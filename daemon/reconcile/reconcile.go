// Package reconcile decides when the daemon requests the desired mode by itself. It is
// pure. Its state does not outlive the daemon: one that starts waits for the whole delay.
package reconcile

import (
	"fmt"
	"maps"
	"time"

	"github.com/dubnium/dubnium/daemon/intent"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/policy"
)

// State is what is known of the attempts so far. Its times are of the boot clock; 0 is
// none.
type State struct {
	// divergedSince is since when the host is not what is desired, and convergedSince
	// since when it is.
	divergedSince, convergedSince time.Duration
	next                          time.Duration // of the next attempt
	attempts                      int           // all of them
	failures                      map[string]int
	last                          string // how the last attempt ended, if it failed
	// reached: the last attempt reached the mode.
	reached bool
	// gaveUp says why automatic attempts have stopped until an operator makes a request.
	// blocked says why no attempt is made in the current state.
	gaveUp, blocked string
}

// causeNotLasting is the cause of an attempt that reached the mode, and of the need for
// another one soon after.
const causeNotLasting = "it did not last"

// Inputs are what deciding depends on beside the state itself.
type Inputs struct {
	Policy    policy.Reconcile
	Converged bool
	// Blocked says why no attempt may be made now, empty when it may. It is called when
	// an attempt is due.
	Blocked func() string
}

// Attempts is how many attempts were made.
func (r State) Attempts() int { return r.attempts }

// Pause starts the delay anew.
func (r State) Pause() State {
	r.divergedSince = 0
	return r
}

// Decide returns the next state, whether to make an attempt now, and when to decide
// again, 0 for after the next change.
func (r State) Decide(now time.Duration, in Inputs) (next State, attempt bool, again time.Duration) {
	if in.Converged {
		next, again = r.converged(now, in.Policy)
		return next, false, again
	}
	if r.divergedSince == 0 {
		r.divergedSince, r.convergedSince, r.next = now, 0, now+in.Policy.Delay.D()
		if r.reached {
			r = r.failed(now, in.Policy, causeNotLasting)
		}
	}
	r.blocked = ""
	switch {
	case r.gaveUp != "":
		return r, false, 0
	case now < r.next:
		return r, false, r.next
	}
	if r.blocked = in.Blocked(); r.blocked != "" {
		return r, false, 0
	}
	r.attempts++
	return r, true, 0
}

// converged is Decide for a host that is what is desired. Failures are forgotten once it
// has been so for long enough.
func (r State) converged(now time.Duration, p policy.Reconcile) (next State, again time.Duration) {
	if r.attempts == 0 {
		return State{}, 0
	}
	if r.convergedSince == 0 {
		r.convergedSince = now
	}
	r.divergedSince, r.blocked, r.last = 0, "", ""
	if forget := r.convergedSince + p.MaxDelay.D(); now < forget {
		return r, forget
	}
	return State{}, 0
}

// failed counts one more failure of a cause.
func (r State) failed(now time.Duration, p policy.Reconcile, cause string) State {
	counts := maps.Clone(r.failures)
	if counts == nil {
		counts = map[string]int{}
	}
	counts[cause]++
	n := counts[cause]
	r.failures, r.reached, r.next = counts, false, now+intent.Backoff(p.Delay.D(), p.MaxDelay.D(), n+1)
	if n >= p.Attempts {
		r.gaveUp = fmt.Sprintf("given up after %d attempts: %s", n, cause)
	}
	return r
}

// Ended takes in how an attempt ended.
func (r State) Ended(now time.Duration, p policy.Reconcile, record status.Record) State {
	if record.Result == status.Canceled {
		r.gaveUp = record.Cause
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

// causeOf is what the failures of an attempt are counted by: the guard that blocked it,
// the step that failed, else the result.
func causeOf(r status.Record) string {
	if blocking := guards.Blocking(r.Guards); len(blocking) > 0 &&
		(r.Result == status.Blocked || r.Result == status.Inhibited) {
		return string(blocking[0].Guard)
	}
	for _, s := range r.Steps {
		if s.Error != "" {
			return s.ID
		}
	}
	return string(r.Result)
}

// Published is the state for clients. before is what is published now.
func (r State) Published(before status.AutoReconcile, now time.Duration, running bool) status.AutoReconcile {
	next := status.AutoReconcile{Enabled: true, Attempts: r.attempts, Refusal: r.last}
	switch {
	case r.gaveUp != "" && r.divergedSince > 0:
		next.Refusal = r.gaveUp
	case r.blocked != "":
		next.Refusal = r.blocked
	case r.divergedSince > 0 && !running:
		next.Armed, next.Next = true, intent.WallTime(before.Next, r.next, now)
	}
	return next
}
