package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/plans"
	"github.com/dubnium/dubnium/policy"
)

// cancellation ends a transition on purpose, before its point of no return. It is not a
// failure: what was prepared is taken back, and the result says why.
type cancellation struct {
	result status.Result
	cause  string
}

func (h cancellation) Error() string { return h.cause }

// cancelCause says why ctx, which has ended, ended: the transition was halted, or the
// daemon is told to stop.
func cancelCause(ctx context.Context) error {
	var h cancellation
	if errors.As(context.Cause(ctx), &h) {
		return h
	}
	return errStopping
}

// maxPostponed is how often a transition can be put off.
const maxPostponed = 3

// announcement is the wait between a transition's announcement and its point of no
// return. It belongs to the engine's goroutine; the execution waits for over.
type announcement struct {
	// grace is until when people have been given time, and bound until when delay
	// inhibitors can hold the transition up.
	grace, bound time.Time
	postponed    int
	putOff       time.Duration
	timer        *time.Timer
	// over is closed when the wait has ended. It begins again, with another channel,
	// when somebody postpones or delays the transition before its point of no return.
	over chan struct{}
}

// recheckWait ends the wait when its time has come, begins it again when there is a reason
// to, or has it looked at again when it may end. It returns the deadline, the zero time
// when the wait is over.
func (a *announcement) recheckWait(delayed bool) time.Time {
	if a == nil {
		return time.Time{}
	}
	now, until := time.Now(), a.grace
	if delayed && a.bound.After(until) {
		until = a.bound
	}
	ended := false
	select {
	case <-a.over:
		ended = true
	default:
	}
	switch waiting := now.Before(until); {
	case waiting:
		a.timer.Reset(until.Sub(now))
		if ended {
			a.over = make(chan struct{})
		}
		return until
	case !ended:
		a.timer.Stop()
		close(a.over)
	}
	return time.Time{}
}

// late reports whether it is too late for a delay inhibitor to hold the transition up.
func (a *announcement) late() bool { return a != nil && !time.Now().Before(a.bound) }

// due is when the wait has to be looked at again; nil blocks for ever.
func (a *announcement) due() <-chan time.Time {
	if a == nil {
		return nil
	}
	return a.timer.C
}

// announceAndWait tells everybody what is going to happen, and begins to wait.
func (e *Controller) announceAndWait(plan plans.Plan, grace time.Duration, wait bool) {
	now := time.Now()
	a := &announcement{grace: now.Add(grace), bound: now, timer: time.NewTimer(0), over: make(chan struct{})}
	if wait {
		a.bound = now.Add(e.policy.Announce.MaxDelay.D())
	}
	running := *e.state.Running
	running.Phase, e.state.Running, e.announced = status.PhaseAnnounced, &running, a
	running.Deadline = a.recheckWait(e.delayed())
	e.emit(status.Event{Prepare: &status.Prepare{
		Begin: true, ID: running.ID, From: running.From, To: running.To, Deadline: running.Deadline, EndsSessions: plan.EndsSessions(),
	}})
}

// updateDeadline follows a change of what holds the announced transition up.
func (e *Controller) updateDeadline() {
	deadline := e.announced.recheckWait(e.delayed())
	if e.announced == nil || e.state.Running.Phase != status.PhaseAnnounced {
		return
	}
	running := *e.state.Running
	running.Deadline = deadline
	e.state.Running = &running
}

// announceEnd tells those who heard of an announcement that it is over.
func (e *Controller) announceEnd(t status.Transition) {
	if e.announced == nil {
		return
	}
	e.announced.timer.Stop()
	e.announced = nil
	e.emit(status.Event{Prepare: &status.Prepare{ID: t.ID, From: t.From, To: t.To}})
}

// Cancel halts a transition before its point of no return; by says who, for the
// record. Errors: status.ErrNoSuchTransition, status.ErrNotCancellable.
func (e *Controller) Cancel(ctx context.Context, id uint64, by string) (err error) {
	callErr := e.call(ctx, func() {
		if err = e.cancellable(id); err == nil {
			e.log.Info("a transition is canceled", zap.Uint64("transition", id), zap.String("by", by))
			e.cancelRunning(cancellation{status.Canceled, "canceled by " + by})
		}
	})
	return errors.Join(callErr, err)
}

// Postpone puts an announced transition off: it goes on later than it would have, by d.
// Errors: status.ErrNoSuchTransition, status.ErrNotPostponable when it is not announced,
// or was put off often or long enough.
func (e *Controller) Postpone(ctx context.Context, id uint64, d time.Duration) (err error) {
	callErr := e.call(ctx, func() {
		err = e.postpone(id, d)
		e.publish()
	})
	return errors.Join(callErr, err)
}

func (e *Controller) postpone(id uint64, d time.Duration) error {
	running, a, most := e.state.Running, e.announced, e.policy.Announce.MaxPostpone.D()
	switch {
	case running == nil || running.ID != id:
		return fmt.Errorf("%w is running under the id %d", status.ErrNoSuchTransition, id)
	case !running.Cancellable:
		return fmt.Errorf("%w: %d is past its point of no return", status.ErrNotPostponable, id)
	case a == nil || running.Phase != status.PhaseAnnounced:
		return fmt.Errorf("%w: %d is not announced yet", status.ErrNotPostponable, id)
	case a.postponed >= maxPostponed:
		return fmt.Errorf("%w: %d was postponed %d times already", status.ErrNotPostponable, id, a.postponed)
	case d > most-a.putOff:
		return fmt.Errorf("%w: of the %s that the policy allows %s are left", status.ErrNotPostponable, most, most-a.putOff)
	}
	a.postponed, a.putOff = a.postponed+1, a.putOff+d
	if now := time.Now(); a.grace.Before(now) {
		a.grace = now // the wait is over already, or an inhibitor alone prolongs it
	}
	a.grace = a.grace.Add(d)
	e.updateDeadline()
	return nil
}

// cancellable: the transition of that id runs and can still be halted.
func (e *Controller) cancellable(id uint64) error {
	running := e.state.Running
	switch {
	case running == nil || running.ID != id:
		return fmt.Errorf("%w is running under the id %d", status.ErrNoSuchTransition, id)
	case !running.Cancellable:
		return fmt.Errorf("%w: %d is past its point of no return", status.ErrNotCancellable, id)
	}
	return nil
}

// barrier is what stands at the point of no return.
type barrier int

const (
	barrierNone    barrier = iota
	barrierBlocked         // somebody blocks the transition since its guards were judged
	barrierWait            // somebody postponed or delayed it since the wait ended
)

// commit is the point of no return: from here on nobody can halt the transition, unless
// something stands in the way. It fails for one that was halted.
func (e *Controller) commit(x *execution) (barrier, error) {
	if x.cancelCtx.Err() != nil {
		return barrierNone, cancelCause(x.cancelCtx)
	}
	if !slices.Contains(x.request.Skip, policy.CheckNoInhibitor) && inhibits(e.state.Inhibitors, x.request.Mode) {
		return barrierBlocked, nil
	}
	if !e.announced.recheckWait(e.delayed()).IsZero() {
		return barrierWait, nil
	}
	if err := e.commitDesired(x.request); err != nil {
		return barrierNone, err
	}
	running := *e.state.Running
	running.Cancellable, running.Deadline = false, time.Time{}
	e.state.Running = &running
	return barrierNone, nil
}

// runUntilCommit leads to the point of no return: it prepares, announces and waits. Then it
// looks and judges again if anything took time. It always does if sessions will end:
// whose those are, and whether the requester may end them, is judged at that moment.
// What it has begun when it fails is undone by goBack.
func (x *execution) runUntilCommit(noReturn int) error {
	if err := x.forward(x.cancelCtx, noReturn); err != nil {
		return err
	}
	x.inController(func(e *Controller) { e.announceAndWait(x.plan, x.grace(), !x.request.NoWait) })
	waited, err := x.awaitOver()
	if err != nil {
		return err
	}
	for again := waited || noReturn > 0 || x.plan.EndsSessions(); ; again = true {
		if again {
			if err := x.rejudge(noReturn); err != nil {
				return err
			}
		}
		var at barrier
		x.inController(func(e *Controller) { at, err = e.commit(x) })
		if err != nil || at == barrierNone {
			return err
		}
		if _, err := x.awaitOver(); err != nil {
			return err
		}
	}
}

// awaitOver waits until the announced transition may go on; it reports whether it had to
// wait.
func (x *execution) awaitOver() (waited bool, err error) {
	var over <-chan struct{}
	x.inController(func(e *Controller) { over = e.announced.over })
	select {
	case <-over:
		return false, nil
	default:
	}
	select {
	case <-over:
		return true, nil
	case <-x.cancelCtx.Done():
		return true, cancelCause(x.cancelCtx)
	}
}

// grace is how long people are given: what the request says, or, where the session
// of somebody ends who did not ask for it, what policy says.
func (x *execution) grace() time.Duration {
	switch {
	case x.request.Grace != nil:
		return *x.request.Grace
	case x.plan.EndsSessionsOfOthers(x.request.UID):
		return x.policy.Announce.Grace.D()
	}
	return 0
}

// rejudge looks and judges again. What the facts ask for now is what will be
// done, unless one plan was agreed to: then it has to be that one still, and else
// nothing is done and nothing was asked. What was prepared stays.
func (x *execution) rejudge(noReturn int) error {
	ahead, err := x.look()
	if err != nil {
		return cancelCause(x.cancelCtx)
	}
	if x.pinned != nil && !x.pinned.matches(ahead) {
		return cancellation{status.Canceled, status.ErrStalePlan.Error() + " any more"}
	}
	if refusal := x.judge(ahead); refusal != nil {
		return *refusal
	}
	x.adopt(ahead.Plan, noReturn)
	return nil
}
