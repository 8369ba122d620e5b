// Package runner carries out one transition, from its acceptance to its record, in a
// goroutine of its own. It shares nothing with the controller: it sends messages.
//
// A transition reaches a mode that was observed, or goes back to one that was observed,
// or says that it could do neither. After a crash the journal tells what had begun; the
// next start reads the host first, then keeps, resumes or undoes, and never continues an
// action where it was left.
package runner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/dubnium/dubnium/daemon/assess"
	"github.com/dubnium/dubnium/daemon/history"
	"github.com/dubnium/dubnium/daemon/monitor"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/daemon/transition"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/plans"
	"github.com/dubnium/dubnium/policy"
)

// ErrStopping: the daemon was told to stop. No step has failed by it: the journal stays,
// and the next start recovers from it.
var ErrStopping = errors.New("the daemon is stopping")

// Deps are what every transition works with.
type Deps struct {
	Policy   policy.Policy
	Monitor  *monitor.Monitor
	Graph    assess.GraphReader
	Handlers map[plans.Kind]plans.StepHandler
	Journal  Journal
	History  *history.History
	BootID   string
	Log      *zap.Logger
	// Inhibitors returns those that are held now.
	Inhibitors func() []status.Inhibitor
	// Send hands a message to the controller. It returns when the message was handled.
	Send func(Message)
}

// Cancellation ends a transition on purpose before its point of no return. What was
// prepared is undone, and the result says why.
type Cancellation struct {
	Result status.Result
	Cause  string
}

func (c Cancellation) Error() string { return c.Cause }

// cancelCause says why ctx has ended: the transition was canceled, or the daemon stops.
func cancelCause(ctx context.Context) error {
	var c Cancellation
	if errors.As(context.Cause(ctx), &c) {
		return c
	}
	return ErrStopping
}

// Runner is one transition. Make it with New or Resume, and Start it once.
type Runner struct {
	Deps
	request status.Request
	entry   Entry
	// redactions are the sensitive texts that the record may contain.
	redactions map[string]observer.Secret
	// pinned is the one plan that may be carried out, nil for whatever the host needs.
	pinned *assess.PinnedPlan
	plan   plans.Plan
	// cancelable ends when the transition is canceled, or with the daemon.
	cancelable context.Context
	cancel     context.CancelCauseFunc
	requested  func()
	closed     bool
}

// New returns the transition that serves a request.
func New(d Deps, id uint64, r status.Request, pinned *assess.PinnedPlan) *Runner {
	record := status.Record{
		ID: id, To: r.Mode, Origin: r.Origin, By: r.By, UID: &r.UID, Authorization: r.Authorization, Why: r.Why,
		Started: time.Now(),
	}
	return &Runner{
		Deps: d, request: r, pinned: pinned,
		entry:     Entry{Format: journalFormat, BootID: d.BootID, Record: record},
		requested: sync.OnceFunc(func() { d.History.Requested(id, r, false) }),
	}
}

// Resume returns the recovery of a transition that a daemon died in.
func Resume(d Deps, e Entry) *Runner {
	return &Runner{Deps: d, entry: e, requested: func() {}} // the daemon that died has recorded the request
}

// Record is the record as far as it is known before Start.
func (x *Runner) Record() status.Record { return x.entry.Record }

// RecordRequest records the request in the history, once. A request that turns out to be
// a noop and that nobody joins has only its outcome there: otherwise whoever may request
// a mode could fill the files with noops.
func (x *Runner) RecordRequest() { x.requested() }

// Cancel cancels the transition. Call it after Start, and only while the transition is
// cancelable.
func (x *Runner) Cancel(c Cancellation) { x.cancel(c) }

// Start takes the locks and runs the transition in a goroutine. Its last message is
// Ended. recovering is for what Resume returned.
func (x *Runner) Start(ctx context.Context, recovering bool) {
	x.cancelable, x.cancel = context.WithCancelCause(ctx)
	locks := &locks{runtime: x.Policy.Paths.Runtime, log: x.Log}
	locks.takeRebuild(x.Policy.Paths.RebuildLock)
	var lockErr error
	if !recovering {
		lockErr = locks.take()
	}
	go func() {
		record, err := x.locked(ctx, locks, lockErr, recovering)
		locks.release()
		x.cancel(nil)
		x.Send(Ended{record, err})
	}()
}

func (x *Runner) locked(ctx context.Context, l *locks, lockErr error, recovering bool) (status.Record, error) {
	switch {
	case recovering:
		if err := x.awaitLock(ctx, l); err != nil {
			return status.Record{}, err
		}
		return x.recover(ctx)
	case lockErr != nil:
		return x.refuseLocked(ctx, lockErr)
	}
	return x.run(ctx)
}

// refuseLocked ends a transition whose lock somebody else holds.
func (x *Runner) refuseLocked(ctx context.Context, lockErr error) (status.Record, error) {
	snapshot, err := x.Monitor.Fresh(ctx)
	if err != nil {
		return status.Record{}, ErrStopping
	}
	now := x.classify(snapshot)
	x.entry.Record.From = now.State
	if lock := snapshot.Locks.Transition; lock.Held && !lock.Own {
		lockErr = fmt.Errorf("%w (pid %d)", lockErr, lock.PID)
	}
	return x.end(now, status.Failed, lockErr)
}

// run decides, acts and verifies. The only error is ErrStopping. Everything else is a
// record, whose result claims no more than was observed.
func (x *Runner) run(ctx context.Context) (status.Record, error) {
	now, err := x.assess()
	if err != nil {
		return x.goBack(ctx, cancelCause(x.cancelable))
	}
	before := now.Now
	x.entry.Record.From, x.entry.OriginMode = before.State, before.Inferred
	if err := x.save(); err != nil {
		return x.end(before, status.Failed, err)
	}
	if now.Reached {
		return x.end(before, status.Noop, nil)
	}
	x.requested()
	if refusal := x.judge(now); refusal != nil {
		return x.end(before, refusal.Result, refusal)
	}
	x.adopt(now.Plan, 0)
	if err := x.runUntilCommit(now.CommitIndex); err != nil {
		return x.goBack(ctx, err)
	}
	if err := x.forward(ctx, len(x.entry.Steps)); err != nil {
		return x.goBack(ctx, err)
	}
	return x.verify(ctx)
}

// verify waits until the target is observed. A target that is only degraded when its
// time is over is the result degraded. One that is not reached is undone.
func (x *Runner) verify(ctx context.Context) (status.Record, error) {
	x.report(transition.Verifying, len(x.entry.Steps), nil)
	to := x.entry.Record.To
	o, err := x.await(ctx, func(o observer.Observation) bool { return o.Is(to) })
	switch {
	case errors.Is(err, ErrStopping):
		return status.Record{}, err
	case err == nil:
		return x.end(o, status.Success, nil)
	case o.Inferred == to && o.Degraded():
		return x.end(o, status.Degraded, fmt.Errorf("the host is %s: %s", o.State, texts(o.Reasons)))
	}
	return x.goBack(ctx, fmt.Errorf("%s was not observed, the host is %s (%s): %w", to, o.State, texts(o.Reasons), err))
}

// await reads until the host is as wanted, within the policy's bound for it. It returns
// the last observation and, when the bound has passed, a deadline error.
func (x *Runner) await(ctx context.Context, wanted func(observer.Observation) bool) (observer.Observation, error) {
	bounded, cancel := context.WithTimeout(ctx, x.Policy.Timeouts.Verify.D())
	defer cancel()
	var o observer.Observation
	err := x.Monitor.Until(bounded, func(s observer.Snapshot) bool {
		o = x.classify(s)
		return wanted(o)
	})
	if ctx.Err() != nil {
		return o, ErrStopping
	}
	return o, err
}

// goBack ends a transition in which something failed. It reads the host, since the
// target may have been reached all the same. Otherwise it undoes what was done and reads
// where that led.
func (x *Runner) goBack(ctx context.Context, cause error) (status.Record, error) {
	if errors.Is(cause, ErrStopping) {
		return status.Record{}, cause
	}
	if c := x.close(); c != nil {
		cause = *c
	}
	snapshot, err := x.Monitor.Fresh(ctx)
	if err != nil {
		return status.Record{}, ErrStopping
	}
	o := x.classify(snapshot)
	var canceled Cancellation
	onPurpose := errors.As(cause, &canceled)
	switch {
	case !onPurpose && x.reached(o, snapshot):
		return x.end(o, status.Success, cause)
	case onPurpose && !x.touched():
		return x.end(o, canceled.Result, cause)
	case !x.touched() && errors.Is(cause, context.DeadlineExceeded):
		return x.end(o, status.TimedOut, cause)
	case !x.touched():
		return x.end(o, status.Failed, cause)
	}
	o, result, err := x.undo(ctx, snapshot)
	if errors.Is(err, ErrStopping) {
		return status.Record{}, err
	}
	if onPurpose && result == status.RolledBack {
		result = canceled.Result
	}
	return x.end(o, result, errors.Join(cause, err))
}

// reached reports whether a plan to the target would do nothing. Only its step reads
// what the kernel has for a slice, so a step of slices that failed counts as not reached.
func (x *Runner) reached(o observer.Observation, s observer.Snapshot) bool {
	for i, step := range x.entry.Steps {
		if step.Kind == plans.SetSlices && x.entry.Record.Steps[i].Status == status.StepFailed {
			return false
		}
	}
	return assess.Reached(x.Policy, o, s, x.entry.Record.To)
}

// touched reports whether a step that changes the host has begun.
func (x *Runner) touched() bool {
	for i, s := range x.entry.Steps {
		if x.entry.Record.Steps[i].Status != status.StepPending && !s.Waits() {
			return true
		}
	}
	return false
}

// classify classifies a snapshot and notes what it contains that is sensitive.
func (x *Runner) classify(s observer.Snapshot) observer.Observation {
	x.addRedactions(observer.Secrets(s)...)
	return assess.Classify(x.Policy, s)
}

// addRedactions notes sensitive texts that the record may contain from now on.
func (x *Runner) addRedactions(secrets ...observer.Secret) {
	if x.redactions == nil {
		x.redactions = make(map[string]observer.Secret)
		x.addRedactions(x.entry.Record.Private...) // of the daemon that died in it
	}
	for _, s := range secrets {
		x.redactions[s.Text] = s
	}
}

// save writes the journal, with those sensitive texts that it contains.
func (x *Runner) save() error {
	x.addRedactions()
	x.entry.Record.Keep(slices.Collect(maps.Values(x.redactions)))
	return x.Journal.Save(&x.entry)
}

// close returns the cancellation that was accepted, nil for none. None is accepted
// afterwards.
func (x *Runner) close() *Cancellation {
	if x.closed {
		return nil
	}
	x.closed = true
	m := &Closing{}
	x.Send(m)
	return m.Canceled
}

// end closes the record on the last observation and writes it down.
func (x *Runner) end(o observer.Observation, result status.Result, cause error) (status.Record, error) {
	if c := x.close(); c != nil {
		result, cause = c.Result, *c
	}
	if result != status.Noop {
		x.requested()
	}
	r := &x.entry.Record
	r.From = cmp.Or(r.From, o.State)
	r.Final, r.Result, r.Finished = o.State, result, time.Now()
	if cause != nil {
		r.Cause = cause.Error()
		x.addRedactions(sensitiveOf(cause)...)
	}
	x.record()
	return *r, nil
}

// record writes the end into the journal and the history; the controller clears the
// journal. The daemon may die between any two of these: an entry that has a result is
// not acted upon again, and a record that is there is not written twice. What cannot be
// written is logged, because a full disk is no reason to forget how a transition ended.
func (x *Runner) record() {
	if err := x.save(); err != nil {
		x.Log.Error("cannot record a transition", zap.Uint64("transition", x.entry.Record.ID), zap.Error(err))
	}
	x.History.Ended(x.entry.Record)
}

// report tells the controller how far the transition is.
func (x *Runner) report(phase transition.Phase, index int, step *status.StepEvent) {
	x.Send(Progressed{phase, index, len(x.entry.Steps), step})
}

func texts(reasons []observer.Reason) string {
	var all string
	for i, r := range reasons {
		if i > 0 {
			all += "; "
		}
		all += r.Text
	}
	return all
}
