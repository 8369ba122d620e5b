// Package transition is the state machine of the transition that runs: one phase, and
// what clients may do to the transition in it. It is pure.
//
//	checking -> preparing -> announced -> rechecking -> committed -> verifying
//	                             ^            |
//	                             +------------+ postponed or delayed meanwhile
//
// Each phase before committed leads to undoing when the transition is canceled, blocked
// or fails. So do committed and verifying when it fails. A transition that the daemon
// died in begins in recovering.
package transition

import (
	"fmt"
	"time"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/policy"
)

// Phase is where the transition is.
type Phase int

// The phases.
const (
	Checking   Phase = iota // the host is read and the guards are evaluated
	Preparing               // steps run that can be undone without anybody noticing
	Announced               // people are warned, and may postpone or delay it
	Rechecking              // the host is read and the guards are evaluated again
	Committed               // steps run that end sessions or stop services
	Verifying               // the target mode is waited for
	Undoing                 // steps are undone
	Recovering              // what a daemon left that died is found out
)

// words are the phases as clients read them. A client sees no difference between
// announced and rechecking: in both it may postpone.
var words = map[Phase]status.Phase{
	Checking: status.PhaseObserving, Preparing: status.PhaseActing, Announced: status.PhaseAnnounced,
	Rechecking: status.PhaseAnnounced, Committed: status.PhaseActing, Verifying: status.PhaseVerifying,
	Undoing: status.PhaseUndoing, Recovering: status.PhaseRecovering,
}

// maxPostponed is how often a transition can be postponed.
const maxPostponed = 3

// State is the transition that runs. Its methods return a changed copy.
type State struct {
	// Of status.Transition these are used: ID, From, To, Origin, By, UID, Started, Step,
	// StepIndex, StepCount and Progress. The phase decides about the others.
	status.Transition
	Request status.Request

	phase Phase
	// closed: how it ends is decided.
	closed bool
	// announced: it was announced at some time.
	announced bool
	// grace is until when people have time, and bound until when delay inhibitors can
	// delay the transition.
	grace, bound time.Time
	postponed    int           // how often
	added        time.Duration // by all postponements
}

// Begin returns a transition in its first phase.
func Begin(t status.Transition, r status.Request, recovering bool) State {
	s := State{Transition: t, Request: r}
	if recovering {
		s.phase = Recovering
	}
	return s
}

// Phase is the phase.
func (s State) Phase() Phase { return s.phase }

// WasAnnounced reports whether people were told of it.
func (s State) WasAnnounced() bool { return s.announced }

// Cancellable reports whether the transition can be canceled.
func (s State) Cancellable() bool { return s.phase <= Rechecking && !s.closed }

// Close makes sure that nothing is accepted any more that could change how the
// transition ends.
func (s State) Close() State {
	s.closed = true
	return s
}

// Joinable reports whether a request that asks for the same may join it.
func (s State) Joinable(r status.Request) bool {
	return r.Joins(s.Request) && s.phase != Recovering && s.phase != Undoing
}

// Public is the transition for clients. delayed: a delay inhibitor applies to it.
func (s State) Public(now time.Time, delayed bool) status.Transition {
	t := s.Transition
	t.Phase, t.Cancellable, t.Deadline = words[s.phase], s.Cancellable(), s.Deadline(now, delayed)
	return t
}

// Deadline is until when the transition waits, the zero time when it does not.
func (s State) Deadline(now time.Time, delayed bool) time.Time {
	until := s.grace
	if delayed && s.bound.After(until) {
		until = s.bound
	}
	if s.phase != Announced && s.phase != Rechecking || !now.Before(until) {
		return time.Time{}
	}
	return until
}

// Progress notes a step. What is said of the step before is forgotten.
func (s State) Progress(p Phase, index, count int, step string) State {
	s.phase, s.StepIndex, s.StepCount, s.Step, s.Transition.Progress = p, index, count, step, ""
	return s
}

// Say notes how far the step is that runs.
func (s State) Say(text string) State {
	s.Transition.Progress = text
	return s
}

// Announce begins to wait. People have grace from now on, and delay inhibitors at most
// maxDelay.
func (s State) Announce(now time.Time, grace, maxDelay time.Duration) State {
	s.phase, s.announced, s.grace, s.bound = Announced, true, now.Add(grace), now.Add(maxDelay)
	return s
}

// Recheck ends the wait.
func (s State) Recheck() State {
	s.phase = Rechecking
	return s
}

// Postpone makes the transition wait d longer than it would. Errors:
// status.ErrNotPostponable.
func (s State) Postpone(now time.Time, d, most time.Duration) (State, error) {
	switch {
	case !s.Cancellable():
		return s, fmt.Errorf("%w: %d %s", status.ErrNotPostponable, s.ID, s.tooLate())
	case s.phase != Announced && s.phase != Rechecking:
		return s, fmt.Errorf("%w: %d is not announced yet", status.ErrNotPostponable, s.ID)
	case s.postponed >= maxPostponed:
		return s, fmt.Errorf("%w: %d was postponed %d times already", status.ErrNotPostponable, s.ID, s.postponed)
	case d > most-s.added:
		return s, fmt.Errorf(
			"%w: the policy allows %s in all, of which %s is left", status.ErrNotPostponable, most, most-s.added,
		)
	}
	s.postponed, s.added = s.postponed+1, s.added+d
	if s.grace.Before(now) {
		s.grace = now // the wait has ended, or only an inhibitor prolongs it
	}
	s.grace = s.grace.Add(d)
	return s, nil
}

// Inhibit returns why an inhibitor comes too late, nil when it does not. Errors:
// status.ErrBusy.
func (s State) Inhibit(now time.Time, i status.Inhibitor) error {
	switch {
	case !i.Applies(s.To):
	case !s.Cancellable():
		return fmt.Errorf("%w: %d to %s %s", status.ErrBusy, s.ID, s.To, s.tooLate())
	case i.How == status.Delay && s.announced && !now.Before(s.bound):
		return fmt.Errorf("%w: %d to %s does not wait for delay inhibitors any longer", status.ErrBusy, s.ID, s.To)
	}
	return nil
}

// tooLate says why a transition that is not cancellable is not.
func (s State) tooLate() string {
	if s.closed || s.phase == Undoing {
		return "is ending already"
	}
	return "is past its point of no return"
}

// Barrier is what keeps a transition from its point of no return.
type Barrier int

// The barriers.
const (
	None    Barrier = iota
	Blocked         // an inhibitor blocks it since its guards were evaluated
	Waiting         // it was postponed or delayed since the wait ended
)

// Commit passes the point of no return, unless there is a barrier. blocked: an inhibitor
// blocks transitions to its mode, and the request does not skip that guard.
func (s State) Commit(now time.Time, delayed, blocked bool) (State, Barrier) {
	switch {
	case blocked:
		return s, Blocked
	case !s.Deadline(now, delayed).IsZero():
		s.phase = Announced
		return s, Waiting
	}
	s.phase = Committed
	return s, None
}

// Cancel returns why the transition of an id cannot be canceled, nil when it can. s is
// nil when none runs. Errors: status.ErrNoSuchTransition, status.ErrNotCancellable.
func (s *State) Cancel(id uint64) error {
	switch {
	case s == nil || s.ID != id:
		return fmt.Errorf("%w is running under the id %d", status.ErrNoSuchTransition, id)
	case !s.Cancellable():
		return fmt.Errorf("%w: %d %s", status.ErrNotCancellable, id, s.tooLate())
	}
	return nil
}

// Blocks reports whether an inhibitor blocks transitions to mode.
func Blocks(held []status.Inhibitor, mode policy.Mode) bool { return has(held, status.Block, mode) }

// Delays reports whether an inhibitor delays transitions to mode.
func Delays(held []status.Inhibitor, mode policy.Mode) bool { return has(held, status.Delay, mode) }

func has(held []status.Inhibitor, how status.How, mode policy.Mode) bool {
	for _, i := range held {
		if i.How == how && i.Applies(mode) {
			return true
		}
	}
	return false
}
