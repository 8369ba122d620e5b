package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dubnium/dubnium/internal/zap"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/plans"
	"github.com/dubnium/dubnium/policy"
)

// halt ends a transition on purpose, before its point of no return. It is not a
// failure: what was prepared is taken back, and the result says why.
type halt struct {
	result status.Result
	cause  string
}

func (h halt) Error() string { return h.cause }

// stopped says why ctx, which has ended, ended: the transition was halted, or the
// daemon is told to stop.
func stopped(ctx context.Context) error {
	var h halt
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
	over         chan struct{}
}

// reconsider ends the wait when its time has come, or has it look again when that
// may be. It returns until when it goes on at the latest, the zero time for over.
func (a *announcement) reconsider(delayed bool) time.Time {
	if a == nil {
		return time.Time{}
	}
	now, until := time.Now(), a.grace
	if delayed && a.bound.After(until) {
		until = a.bound
	}
	if now.Before(until) {
		a.timer.Reset(until.Sub(now))
		return until
	}
	a.timer.Stop()
	select {
	case <-a.over:
	default:
		close(a.over)
	}
	return time.Time{}
}

// due is when the wait has to be looked at again; nil blocks for ever.
func (a *announcement) due() <-chan time.Time {
	if a == nil {
		return nil
	}
	return a.timer.C
}

// announce tells everybody what is going to happen, and returns a channel that is
// closed when it may.
func (e *Engine) announce(plan plans.Plan, grace time.Duration, wait bool) <-chan struct{} {
	now := time.Now()
	a := &announcement{grace: now.Add(grace), bound: now, timer: time.NewTimer(0), over: make(chan struct{})}
	if wait {
		a.bound = now.Add(e.policy.Announce.MaxDelay.D())
	}
	running := *e.state.Running
	running.Phase, e.state.Running, e.announced = status.PhaseAnnounced, &running, a
	running.Deadline = a.reconsider(e.delayed())
	e.emit(status.Event{Prepare: &status.Prepare{
		Begin: true, ID: running.ID, From: running.From, To: running.To, Deadline: running.Deadline, EndsSessions: plan.EndsSessions(),
	}})
	return a.over
}

// resettle follows a change of what holds the announced transition up.
func (e *Engine) resettle() {
	deadline := e.announced.reconsider(e.delayed())
	if e.announced == nil || e.state.Running.Phase != status.PhaseAnnounced {
		return
	}
	running := *e.state.Running
	running.Deadline = deadline
	e.state.Running = &running
}

// concluded tells those who heard of an announcement that it is over.
func (e *Engine) concluded(t status.Transition) {
	if e.announced == nil {
		return
	}
	e.announced.timer.Stop()
	e.announced = nil
	e.emit(status.Event{Prepare: &status.Prepare{ID: t.ID, From: t.From, To: t.To}})
}

// Cancel halts a transition before its point of no return; by says who, for the
// record. Errors: status.ErrNoSuchTransition, status.ErrNotCancellable.
func (e *Engine) Cancel(ctx context.Context, id uint64, by string) (err error) {
	callErr := e.call(ctx, func() {
		if err = e.haltable(id); err == nil {
			e.log.Info("a transition is canceled", zap.Uint64("transition", id), zap.String("by", by))
			e.halt(halt{status.Canceled, "canceled by " + by})
		}
	})
	return errors.Join(callErr, err)
}

// Postpone puts an announced transition off by d. Errors:
// status.ErrNoSuchTransition, status.ErrNotCancellable when it is not announced, or
// was put off often or long enough.
func (e *Engine) Postpone(ctx context.Context, id uint64, d time.Duration) (err error) {
	callErr := e.call(ctx, func() {
		if err = e.haltable(id); err == nil {
			err = e.postpone(d)
		}
		e.publish()
	})
	return errors.Join(callErr, err)
}

func (e *Engine) postpone(d time.Duration) error {
	a, most := e.announced, e.policy.Announce.MaxPostpone.D()
	switch {
	case a == nil || e.state.Running.Phase != status.PhaseAnnounced:
		return fmt.Errorf("%w: it can be put off only while it is announced", status.ErrNotCancellable)
	case a.postponed >= maxPostponed:
		return fmt.Errorf("%w: it was put off %d times already", status.ErrNotCancellable, a.postponed)
	case d > most-a.putOff:
		return fmt.Errorf("%w: it can be put off by %s, of which %s are left", status.ErrNotCancellable, most, most-a.putOff)
	}
	a.postponed, a.putOff = a.postponed+1, a.putOff+d
	a.grace = time.Now().Add(d)
	e.resettle()
	return nil
}

// haltable: the transition of that id runs and can still be halted.
func (e *Engine) haltable(id uint64) error {
	running := e.state.Running
	switch {
	case running == nil || running.ID != id:
		return fmt.Errorf("%w is running under the id %d", status.ErrNoSuchTransition, id)
	case !running.Cancellable:
		return fmt.Errorf("%w: %d is past its point of no return", status.ErrNotCancellable, id)
	}
	return nil
}

// pass is the point of no return: from here on nobody can halt the transition. It
// fails for one that was halted, and reports whether somebody blocks it since its
// guards were judged.
func (e *Engine) pass(x *execution) (blocked bool, err error) {
	if x.halting.Err() != nil {
		return false, stopped(x.halting)
	}
	if !slices.Contains(x.request.Skip, policy.CheckNoInhibitor) && inhibits(e.state.Inhibitors, x.request.Mode) {
		return true, nil
	}
	if err := e.grant(x.request); err != nil {
		return false, err
	}
	running := *e.state.Running
	running.Cancellable, running.Deadline = false, time.Time{}
	e.state.Running = &running
	return false, nil
}

// approach leads to the point of no return: it prepares, announces, waits, and
// then looks and judges again if anything took time, or if sessions will end: whose
// those are, and whether the requester may end them, is of that very moment. What it has begun when it
// fails is undone by goBack.
func (x *execution) approach(noReturn int) error {
	if err := x.forward(x.halting, noReturn); err != nil {
		return err
	}
	waited, err := x.warn()
	if err != nil {
		return err
	}
	for again := waited || noReturn > 0 || x.plan.EndsSessions(); ; again = true {
		if again {
			if err := x.reconsider(noReturn); err != nil {
				return err
			}
		}
		var blocked bool
		x.engine(func(e *Engine) { blocked, err = e.pass(x) })
		if err != nil || !blocked {
			return err
		}
	}
}

// warn announces the transition and waits until it may go on; it reports whether
// it had to wait.
func (x *execution) warn() (waited bool, err error) {
	var over <-chan struct{}
	x.engine(func(e *Engine) { over = e.announce(x.plan, x.grace(), !x.request.NoWait) })
	select {
	case <-over:
		return false, nil
	default:
	}
	select {
	case <-over:
		return true, nil
	case <-x.halting.Done():
		return true, stopped(x.halting)
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

// reconsider looks and judges again. What the facts ask for now is what will be
// done, unless one plan was agreed to: then it has to be that one still, and else
// nothing is done and nothing was asked. What was prepared stays.
func (x *execution) reconsider(noReturn int) error {
	ahead, err := x.look()
	if err != nil {
		return stopped(x.halting)
	}
	if x.agreed != nil && !x.agreed.covers(ahead) {
		return halt{status.Canceled, status.ErrStalePlan.Error() + " any more"}
	}
	if refusal := x.judge(ahead); refusal != nil {
		return *refusal
	}
	x.adopt(ahead.Plan, noReturn)
	return nil
}
