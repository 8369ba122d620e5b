package daemon

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/observer/unitgraph"
	"github.com/dubnium/dubnium/plans"
	"github.com/dubnium/dubnium/policy"
)

// errStopping: the daemon was told to stop. It is not a failure of a step: the
// journal stays, and the next start recovers from it.
var errStopping = errors.New("the daemon is stopping")

// transitionDeps is what every transition works with.
type transitionDeps struct {
	policy   policy.Policy
	monitor  *Monitor
	graph    GraphReader
	handlers map[plans.Kind]StepHandler
	journal  journal
	history  *history
	bootID   string
	log      *zap.Logger
}

// execution carries one transition from its acceptance to its record, in a
// goroutine of its own. It touches nothing of the engine's: what the engine
// should know it reports.
type execution struct {
	transitionDeps
	request status.Request
	entry   journalEntry
	// redactions are the secrets of everything that the record's texts may be about, by
	// their texts.
	redactions map[string]observer.Secret
	// pinned is the one plan to carry out, nil for whatever the host needs.
	pinned *pinnedPlan
	plan   plans.Plan
	// cancelCtx ends when the transition is halted before its point of no return, or
	// with the daemon.
	cancelCtx context.Context
	// tell writes the request into the history, once. One that turns out to be a noop,
	// and that nobody joined, has only its outcome there: whoever may ask for a mode
	// could fill the files with noops.
	tell func()
	// inController runs a function in the engine's goroutine, and waits for it; view is
	// what the engine has published.
	inController func(func(*Controller))
	view         func() status.View
}

func newExecution(m transitionDeps, id uint64, r status.Request) *execution {
	tell := sync.OnceFunc(func() { m.history.requested(id, r, false) })
	return &execution{transitionDeps: m, request: r, tell: tell, entry: journalEntry{
		Format: journalFormat, BootID: m.bootID,
		Record: status.Record{
			ID: id, To: r.Mode, Origin: r.Origin, By: r.By, UID: &r.UID, Authorization: r.Authorization, Why: r.Why, Started: time.Now(),
		},
	}}
}

// run decides, acts and judges. The only error is errStopping; everything else
// is a record, whose result claims no more than was observed.
func (x *execution) run(ctx context.Context) (status.Record, error) {
	ahead, err := x.assess()
	if err != nil {
		return x.goBack(ctx, cancelCause(x.cancelCtx))
	}
	before := ahead.now
	x.entry.Record.From, x.entry.OriginMode = before.State, before.Inferred
	if err := x.save(); err != nil {
		return x.end(before, status.Failed, err)
	}
	if ahead.Reached {
		return x.end(before, status.Noop, nil)
	}
	x.tell()
	if refusal := x.judge(ahead); refusal != nil {
		return x.end(before, refusal.result, refusal)
	}
	x.adopt(ahead.Plan, 0)
	if err := x.runUntilCommit(ahead.CommitIndex); err != nil {
		return x.goBack(ctx, err)
	}
	if err := x.forward(ctx, len(x.entry.Steps)); err != nil {
		return x.goBack(ctx, err)
	}
	return x.verify(ctx)
}

// assess is what there is to do, by the look with which a plan was agreed to, where
// one was, since another could show another plan; else by a fresh one. The error is
// that of halting.
func (x *execution) assess() (assessment, error) {
	if x.pinned != nil {
		x.addRedactions(observer.Secrets(x.pinned.Snapshot)...)
		return x.pinned.assessment, nil
	}
	return x.look()
}

// look is what there is to do, by a fresh look. The error is that of halting.
func (x *execution) look() (assessment, error) {
	snapshot, err := x.monitor.Fresh(x.cancelCtx)
	if err != nil {
		return assessment{}, err
	}
	x.addRedactions(observer.Secrets(snapshot)...)
	return x.graph.assess(x.cancelCtx, x.policy, snapshot, x.request, x.view().Inhibitors), x.cancelCtx.Err()
}

// judge takes the verdicts into the record, and says what stands in the way; nil
// for nothing.
func (x *execution) judge(ahead assessment) *cancellation {
	if !reflect.DeepEqual(x.entry.Record.Guards, ahead.verdicts) { // else it is written down already
		x.history.judged(x.entry.Record.ID, ahead.verdicts)
	}
	x.entry.Record.Guards, x.entry.Record.Judged, x.entry.Record.Forced = ahead.verdicts, time.Now(), nil
	blocking := slices.DeleteFunc(guards.Blocking(ahead.verdicts), func(v guards.Verdict) bool {
		forced := !v.Hard && slices.Contains(x.request.Skip, v.Guard)
		if forced {
			x.entry.Record.Forced = append(x.entry.Record.Forced, v.Guard)
		}
		return forced
	})
	if len(blocking) == 0 {
		return x.unauthorized(ahead)
	}
	refusal := cancellation{status.Blocked, fmt.Sprintf("%s: %s", blocking[0].Guard, blocking[0].Reason)}
	if blocking[0].Guard == policy.CheckNoInhibitor {
		refusal.result = status.Inhibited
	}
	return &refusal
}

// unauthorized refuses what the request has no right to, nil for nothing: the host may
// have changed since the requester was asked for a password, or since the daemon
// decided to ask.
func (x *execution) unauthorized(ahead assessment) *cancellation {
	if why := needsOperator(x.policy, ahead.Plan); why != "" && x.request.Origin.IsAutomatic() {
		return &cancellation{status.Blocked, why}
	}
	if x.request.UID != 0 && !x.request.LeaveCompute && observer.LeavesCompute(x.policy, ahead.Snapshot, x.request.Mode) {
		return &cancellation{status.Blocked, "the host is in compute now, and to leave it needs the right to ask for desktop"}
	}
	return nil
}

// reached: a plan to the target would do nothing. What the kernel has for a slice
// only the step looks at, so that its failure stands.
func (x *execution) reached(o observer.Observation, s observer.Snapshot) bool {
	for i, step := range x.entry.Steps {
		if step.Kind == plans.SetSlices && x.entry.Record.Steps[i].Status == status.StepFailed {
			return false
		}
	}
	return reached(x.policy, o, s, x.entry.Record.To)
}

// reached: the mode is observed, and a plan to it would change nothing. A mode is
// more than what it is recognised by: slices, and timers that are stopped.
func reached(p policy.Policy, o observer.Observation, s observer.Snapshot, to policy.Mode) bool {
	return o.Is(to) && len(plans.Build(p, s, to).Steps) == 0
}

func guardRequest(r status.Request, b unitgraph.Impact, held []status.Inhibitor) guards.Request {
	return guards.Request{Target: r.Mode, UID: r.UID, EndOthers: r.EndOthers, Inhibitors: held, Impact: b}
}

// classify classifies a snapshot by its facts alone: whether a transition runs
// and how the last one ended is nothing to the question what the host is.
func (x *execution) classify(s observer.Snapshot) observer.Observation {
	x.addRedactions(observer.Secrets(s)...)
	return classify(x.policy, s)
}

func classify(p policy.Policy, s observer.Snapshot) observer.Observation {
	return observer.Classify(p, s, observer.Context{}, time.Now())
}

// addRedactions notes what the record's texts may tell from now on.
func (x *execution) addRedactions(secrets ...observer.Secret) {
	if x.redactions == nil {
		x.redactions = make(map[string]observer.Secret)
		x.addRedactions(x.entry.Record.Private...) // of the daemon that died in it
	}
	for _, s := range secrets {
		x.redactions[s.Text] = s
	}
}

// save puts the entry on disk, with those secrets that it tells.
func (x *execution) save() error {
	x.addRedactions()
	x.entry.Record.Keep(slices.Collect(maps.Values(x.redactions)))
	return x.journal.save(&x.entry)
}

// adopt makes the plan's steps those of the journal; of a plan that was made anew
// those behind its point of no return, after the first done ones.
func (x *execution) adopt(plan plans.Plan, done int) {
	if x.request.Origin == status.OriginOperator && x.request.UID == 0 {
		plan = plan.WithNewcomers()
	}
	x.plan = plan
	steps := plan.Steps
	if done > 0 {
		steps = slices.Concat(x.entry.Steps[:done], plan.Steps[plan.CommitIndex:])
	}
	before, records := make([]json.RawMessage, len(steps)), make([]status.Step, len(steps))
	for i, s := range steps {
		records[i] = status.Step{ID: s.ID, Status: status.StepPending}
	}
	copy(before, x.entry.Before[:done])
	copy(records, x.entry.Record.Steps[:done])
	x.entry.Steps, x.entry.Before, x.entry.Record.Steps = steps, before, records
}

// report tells the engine how far the transition is.
func (x *execution) report(phase status.Phase, index int, step *status.StepEvent) {
	x.inController(func(e *Controller) { e.progress(phase, index, len(x.entry.Steps), step) })
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
	err := x.monitor.Until(bounded, func(s observer.Snapshot) bool {
		o = x.classify(s)
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
	snapshot, err := x.monitor.Fresh(ctx)
	if err != nil {
		return status.Record{}, errStopping
	}
	o := x.classify(snapshot)
	var halted cancellation
	onPurpose := errors.As(cause, &halted)
	switch {
	case !onPurpose && x.reached(o, snapshot):
		return x.end(o, status.Success, cause)
	case onPurpose && !x.touched():
		return x.end(o, halted.result, cause)
	case !x.touched() && errors.Is(cause, context.DeadlineExceeded):
		return x.end(o, status.TimedOut, cause)
	case !x.touched():
		return x.end(o, status.Failed, cause)
	}
	o, result, err := x.undo(ctx, snapshot)
	if errors.Is(err, errStopping) {
		return status.Record{}, err
	}
	if onPurpose && result == status.RolledBack {
		result = halted.result
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
	if result != status.Noop {
		x.tell()
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

// record puts the end into the journal and into the history; Engine.writeLast ends
// the journal. Each step may be the last before a crash: an entry with a result is
// not acted upon again, and a record that is there already is not written twice.
func (x *execution) record() {
	if err := x.save(); err != nil {
		x.log.Error("cannot record a transition", zap.Uint64("transition", x.entry.Record.ID), zap.Error(err))
	}
	x.history.ended(x.entry.Record)
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
