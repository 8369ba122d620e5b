package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/internal/message"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// start begins an execution in its own goroutine, under the lock that scripts
// look at. A lock that cannot be had fails the transition in its own record; a recovery
// waits for it.
func (e *Controller) start(ctx context.Context, x *execution, run func(context.Context) (status.Record, error)) {
	r := x.entry.Record
	e.state.Running = &status.Transition{
		ID: r.ID, From: cmp.Or(r.From, e.state.Observation.State), To: r.To, Origin: r.Origin, By: r.By,
		Phase: status.PhaseObserving, StepCount: len(r.Steps), Started: r.Started,
		Cancellable: e.interruptedEntry == nil, UID: x.request.UID,
	}
	e.request, e.tell = x.request, x.tell
	e.emit(status.Event{Started: e.state.Running})
	x.view = e.View
	x.inController = func(f func(*Controller)) {
		done := make(chan struct{})
		e.calls <- func() { f(e); close(done) }
		<-done
	}
	halting, cancel := context.WithCancelCause(ctx)
	x.cancelCtx, e.cancelRunning = halting, func(h cancellation) { cancel(h) }
	done := make(chan outcome, 1)
	e.outcomes = done
	recovering := e.interruptedEntry != nil
	var unlock func() error
	var lockErr error
	if !recovering {
		unlock, lockErr = e.files.lock()
	}
	release, err := lockRebuildShared(e.policy.Paths.RebuildLock)
	if err != nil {
		e.log.Warn("a nixos-rebuild is not kept from running", zap.Error(err))
	}
	go func() {
		if recovering {
			unlock, lockErr = x.awaitLock(ctx, e.files.lock)
		}
		record, err := e.locked(ctx, x, run, lockErr)
		for _, free := range []func() error{release, unlock} {
			if free == nil {
				continue
			}
			if err := free(); err != nil {
				e.log.Error("cannot release a lock", zap.Error(err))
			}
		}
		done <- outcome{record, err}
	}()
	e.classify()
}

func (e *Controller) locked(ctx context.Context, x *execution, run func(context.Context) (status.Record, error), lockErr error) (status.Record, error) {
	if lockErr == nil {
		return run(ctx)
	}
	if errors.Is(lockErr, errStopping) {
		return status.Record{}, errStopping
	}
	snapshot, err := e.monitor.Fresh(ctx)
	if err != nil {
		return status.Record{}, errStopping
	}
	now := x.classify(snapshot)
	x.entry.Record.From = now.State
	if lock := snapshot.Locks.Transition; lock.Held && !lock.Own {
		lockErr = fmt.Errorf("%w (pid %d)", lockErr, lock.PID)
	}
	return x.end(now, status.Failed, lockErr)
}

// progress notes how far the running transition is.
func (e *Controller) progress(phase status.Phase, index, count int, step *status.StepEvent) {
	running := *e.state.Running
	running.Phase, running.StepIndex, running.StepCount = phase, index, count
	running.Deadline = time.Time{}
	running.Step, running.Progress = "", ""
	if step != nil {
		running.Step = step.Step
		e.emit(status.Event{Step: step})
	}
	e.state.Running = &running
}

// advanced notes how far the step is that runs.
func (e *Controller) advanced(index int, text string) {
	running := *e.state.Running
	running.Progress = text
	e.state.Running = &running
	e.emit(status.Event{Progress: &status.StepProgress{
		ID: running.ID, Index: index, Count: running.StepCount, Step: running.Step, Text: text,
	}})
}

// finish takes in how an execution ended.
func (e *Controller) finish(end outcome) {
	e.announceEnd(*e.state.Running)
	e.cancelRunning(cancellation{}) // frees the context; nobody waits for it any more
	e.outcomes, e.state.Running, e.interruptedEntry = nil, nil, nil
	if end.err != nil {
		e.log.Warn("a transition was left to its journal", zap.Error(end.err))
		return
	}
	r := end.record
	e.state.Last, e.lastRecordDirty, e.canceled = &r, true, r.Result == status.Canceled && e.previous.Mode != ""
	e.state.BlockedBy = nil
	if r.Result == status.Blocked || r.Result == status.Inhibited {
		e.state.BlockedBy = guards.Blocking(r.Guards)
	}
	e.writeLast()
	e.judgeLease(r)
	e.judgeReconcile(r)
	e.log.Info("transition ended", message.WithMessageID(message.Finished(r.Result)), zap.Uint64("transition", r.ID), zap.String("from", string(r.From)),
		zap.String("mode", string(r.To)), zap.String("result", string(r.Result)),
		zap.String("final", string(r.Final)), zap.String("cause", r.Cause))
	e.emit(status.Event{Finished: &r})
	e.classify()
	e.beginLease(e.now())
}

// classify names the present anew. Listeners and files hear of it with the next
// publish, and only when it says something else than before; what was looked at,
// and when, is always that of the last look.
func (e *Controller) classify() {
	now := time.Now()
	e.state.Snapshot = e.monitor.Snapshot()
	next := observer.Classify(e.policy, e.state.Snapshot, e.state.Context(), now)
	old := e.state.Observation
	e.state.Observation = next
	if next.State != observer.Boot && next.Inferred != "" {
		e.bootRuleApplied = true // into a mode, whoever looked: if that goes, somebody has taken it
	}
	e.awaitExpiry(now)
	e.publishPlacement()
	if next.Same(old) {
		return
	}
	e.currentDirty = true
	if next.State != old.State {
		e.state.ObservedSince = now
		e.emit(status.Event{StateChanged: &status.StateChanged{
			Old: old.State, New: next.State, Reasons: next.Reasons, Private: observer.Secrets(e.state.Snapshot),
		}})
	}
}

// writeCurrent puts what is observed into the files, if they say something else.
func (e *Controller) writeCurrent() {
	if !e.currentDirty {
		return
	}
	err := e.files.setCurrent(e.state.Public().Observation)
	e.currentDirty = err != nil // else it is tried again with the next look
	if err != nil {
		e.log.Error("cannot write the observed state", zap.Error(err))
	}
}

// writeLast takes a canceled wish back and puts how the last transition ended into
// the files, if that is still to be done, and only then ends its journal: until then
// a crash must not make anybody forget the end. What fails is tried again with the
// next look.
func (e *Controller) writeLast() {
	if !e.lastRecordDirty {
		return
	}
	if e.canceled {
		if err := e.setDesired(e.previous); err != nil {
			e.log.Error("a canceled wish stays for now", zap.Error(err))
			return
		}
		e.canceled = false
	}
	if err := e.files.setLast(*e.state.Last); err != nil {
		e.log.Error("cannot write the last transition", zap.Error(err))
		return
	}
	e.lastRecordDirty = false
	if e.state.Running != nil {
		return // the journal is that one's
	}
	if err := e.journal.clear(); err != nil {
		e.log.Error("cannot end the journal", zap.Uint64("transition", e.state.Last.ID), zap.Error(err))
	}
}

// awaitExpiry has the loop classify again when a fact becomes too old to be
// relied on, should nobody have looked by then. Where no fact can, nothing wakes.
func (e *Controller) awaitExpiry(now time.Time) {
	e.staleTimer.Stop()
	if at := e.state.Observation.Expires; !at.IsZero() {
		e.staleTimer.Reset(at.Sub(now) + time.Millisecond) // older than its bound, not as old
	}
}

func (e *Controller) emit(event status.Event) { e.events = append(e.events, event) }

// publish hands out the view with what happened since the last one. Files and logs
// come after it, since nobody is to wait for a disk to hear of a change; but whoever
// hears that a transition ended finds its end in the files, and on the consoles.
func (e *Controller) publish() {
	if slices.ContainsFunc(e.events, func(event status.Event) bool { return event.Finished != nil }) {
		e.writeCurrent()
		e.showConsole(e.state)
	}
	e.state.Warnings = e.warnings()
	view := e.state
	e.view.Store(&view)
	events := e.events
	e.events = nil
	if e.listener != nil {
		e.listener.Notify(view, events)
	}
	e.writeCurrent()
	e.writeLast()
	if e.showConsole(view) {
		defer e.publish() // with another warning
	}
	for _, event := range events {
		if c := event.StateChanged; c != nil {
			e.log.Info("observed state changed", message.WithMessageID(message.StateChanged), zap.String("old", string(c.Old)), zap.String("new", string(c.New)),
				zap.Any("reasons", c.Reasons))
		}
	}
}

// applyBootDefault is the boot rule: a machine that came up to its graphical target
// without a mode gets the default mode's target started, once, and nothing else.
// It is never isolated, and nothing is done for a wish of anybody's.
func (e *Controller) applyBootDefault() {
	if e.bootRuleApplied || e.state.Running != nil || e.ending || !bootStart(e.policy, e.state) {
		return
	}
	e.bootRuleApplied = true
	e.askItself(status.Request{Mode: e.state.Desired.Mode, Origin: status.OriginBoot, By: byDaemon, Authorization: status.ByPolicy})
}

// bootStart reports whether the boot rule applies.
func bootStart(p policy.Policy, v status.View) bool {
	facts := v.Observation.Facts
	return v.Desired.Origin == status.OriginBoot && v.Observation.State == observer.StateUnknown &&
		facts.Is(observer.ManagerStarted) == observer.True &&
		facts.Is(observer.GraphicalTarget) == observer.True &&
		facts.Is(observer.DesktopTarget) == observer.False &&
		facts.Is(observer.ComputeTarget) == observer.False &&
		p.Transitions.Allows(v.Desired.Mode, false)
}
