package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/plans"
	"github.com/dubnium/dubnium/policy"
)

// errStopping: the daemon was told to stop. It is not a failure of a step: the
// journal stays, and the next start recovers from it.
var errStopping = errors.New("the daemon is stopping")

// machinery is what every transition works with.
type machinery struct {
	policy  policy.Policy
	eyes    *Eyes
	actors  map[plans.Kind]Actor
	journal journal
	history *history
	bootID  string
	log     *zap.Logger
}

// execution carries one transition from its acceptance to its record, in a
// goroutine of its own. It touches nothing of the engine's: what the engine
// should know it reports.
type execution struct {
	machinery
	request status.Request
	entry   journalEntry
	// report tells the engine how far the transition is.
	report func(status.Phase, int, *status.StepEvent)
}

func newExecution(m machinery, id uint64, r status.Request) *execution {
	return &execution{machinery: m, request: r, entry: journalEntry{
		Format: journalFormat, BootID: m.bootID,
		Record: status.Record{
			ID: id, To: r.Mode, Origin: r.Origin, By: r.By, UID: &r.UID, Authorization: r.Authorization, Why: r.Why, Started: time.Now(),
		},
	}}
}

// run decides, acts and judges. The only error is errStopping; everything else
// is a record, whose result claims no more than was observed.
func (x *execution) run(ctx context.Context) (status.Record, error) {
	snapshot, err := x.eyes.Fresh(ctx)
	if err != nil {
		return status.Record{}, errStopping
	}
	before := x.settled(snapshot)
	x.entry.Record.From, x.entry.Home = before.State, before.Inferred
	if err := x.journal.save(&x.entry); err != nil {
		return x.end(before, status.Failed, err)
	}
	if before.Is(x.entry.Record.To) {
		return x.end(before, status.Noop, nil)
	}
	plan := plans.Build(x.policy, snapshot, x.entry.Record.To)
	verdicts := guards.Evaluate(x.policy, snapshot, guardRequest(x.request), plan.Guards)
	x.entry.Record.Guards, x.entry.Record.Judged = verdicts, time.Now()
	x.history.judged(x.entry.Record.ID, verdicts)
	if blocking := guards.Blocking(verdicts); len(blocking) > 0 {
		return x.end(before, status.Blocked, fmt.Errorf("%s: %s", blocking[0].Guard, blocking[0].Reason))
	}
	x.adopt(plan)
	if err := x.forward(ctx); err != nil {
		return x.goBack(ctx, err)
	}
	return x.verify(ctx)
}

func guardRequest(r status.Request) guards.Request {
	return guards.Request{Target: r.Mode, UID: r.UID, EndOthers: r.EndOthers}
}

// settled classifies a snapshot by its facts alone: whether a transition runs
// and how the last one ended is nothing to the question what the host is.
func (m machinery) settled(s observer.Snapshot) observer.Observation {
	return observer.Classify(m.policy, s, observer.Context{}, time.Now())
}

// adopt makes the plan's steps those of the journal.
func (x *execution) adopt(plan plans.Plan) {
	x.entry.Steps = plan.Steps
	x.entry.Before = make([]json.RawMessage, len(plan.Steps))
	x.entry.Record.Steps = make([]status.Step, len(plan.Steps))
	for i, s := range plan.Steps {
		x.entry.Record.Steps[i] = status.Step{ID: s.ID, Status: status.StepPending}
	}
}

// verify waits until the target is observed. A target that is only reached in
// part when its time is over is degraded; one that is not reached is gone back
// from.
func (x *execution) verify(ctx context.Context) (status.Record, error) {
	x.report(status.PhaseVerifying, len(x.entry.Steps), nil)
	to := x.entry.Record.To
	o, err := x.await(ctx, func(o observer.Observation) bool { return o.Is(to) })
	switch {
	case errors.Is(err, errStopping):
		return status.Record{}, err
	case err == nil:
		return x.end(o, status.Success, nil)
	case o.Inferred == to && o.Degraded():
		return x.end(o, status.Degraded, fmt.Errorf("the host is %s: %s", o.State, texts(o.Reasons)))
	}
	return x.goBack(ctx, fmt.Errorf("%s was not observed, the host is %s (%s): %w", to, o.State, texts(o.Reasons), err))
}

// await looks until the host is as wanted, within the policy's bound for it. It
// returns the last observation and, when the bound passed, a deadline error.
func (x *execution) await(ctx context.Context, wanted func(observer.Observation) bool) (observer.Observation, error) {
	bounded, cancel := context.WithTimeout(ctx, x.policy.Timeouts.Verify.D())
	defer cancel()
	var o observer.Observation
	err := x.eyes.Until(bounded, func(s observer.Snapshot) bool {
		o = x.settled(s)
		return wanted(o)
	})
	if ctx.Err() != nil {
		return o, errStopping
	}
	return o, err
}

// goBack ends a transition in which something failed: look, since the target may
// have been reached all the same; else undo what was done, look where that led,
// and say so.
func (x *execution) goBack(ctx context.Context, cause error) (status.Record, error) {
	if errors.Is(cause, errStopping) {
		return status.Record{}, cause
	}
	snapshot, err := x.eyes.Fresh(ctx)
	if err != nil {
		return status.Record{}, errStopping
	}
	o := x.settled(snapshot)
	switch {
	case o.Is(x.entry.Record.To):
		return x.end(o, status.Success, cause)
	case !x.touched() && errors.Is(cause, context.DeadlineExceeded):
		return x.end(o, status.TimedOut, cause)
	case !x.touched():
		return x.end(o, status.Failed, cause)
	}
	o, result, err := x.undo(ctx, snapshot)
	if errors.Is(err, errStopping) {
		return status.Record{}, err
	}
	return x.end(o, result, errors.Join(cause, err))
}

// touched reports whether any step that changes the host has begun.
func (x *execution) touched() bool {
	for i, s := range x.entry.Steps {
		if x.entry.Record.Steps[i].Status != status.StepPending && !s.Waits() {
			return true
		}
	}
	return false
}

// end closes the record on the last observation and puts it on disk. What cannot
// be written is logged: a full disk is no reason to forget how a transition ended.
func (x *execution) end(o observer.Observation, result status.Result, cause error) (status.Record, error) {
	r := &x.entry.Record
	r.Final, r.Result, r.Finished = o.State, result, time.Now()
	if cause != nil {
		r.Cause = cause.Error()
	}
	x.record()
	return *r, nil
}

// record moves the entry from the journal to the history. Each of the three
// steps may be the last before a crash: an entry with a result is not acted upon
// again, and a record that is there already is not written twice.
func (x *execution) record() {
	note := func(err error) {
		if err != nil {
			x.log.Error("cannot record a transition", zap.Uint64("transition", x.entry.Record.ID), zap.Error(err))
		}
	}
	note(x.journal.save(&x.entry))
	x.history.ended(x.entry.Record)
	note(x.journal.clear())
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
