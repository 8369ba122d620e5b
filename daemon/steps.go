package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/internal/message"
	"github.com/dubnium/dubnium/internal/stepreport"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/plans"
	"github.com/dubnium/dubnium/policy"
)

// forward does those of the first steps that are not done, in order, and stops at
// the first that fails and is not optional.
func (x *execution) forward(ctx context.Context, first int) error {
	for i := range first {
		if x.finishedStep(i) {
			continue
		}
		if ctx.Err() != nil {
			return cancelCause(ctx)
		}
		if err := x.do(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// do carries out step i: what it found is on disk before anything is touched,
// and it is done when its postcondition was seen.
func (x *execution) do(parent context.Context, i int) error {
	step := x.entry.Steps[i]
	actor := x.handlers[step.Kind]
	ctx, cancel := context.WithTimeout(stepreport.With(parent, &listener{x: x, step: i}), step.Timeout)
	defer cancel()
	before, err := actor.Prepare(ctx, step)
	if err != nil {
		err = fmt.Errorf("cannot prepare step %s: %w", step.ID, err)
		if step.Optional {
			return x.mark(i, status.StepFailed, err)
		}
		return err
	}
	x.entry.Before[i] = before
	if err := x.mark(i, status.StepDoing, nil); err != nil {
		x.set(i, status.StepPending, err)
		x.note(i) // that it was not done
		return err
	}
	if err = actor.Apply(ctx, step); err == nil {
		err = actor.Verify(ctx, step)
	}
	switch {
	case err != nil && parent.Err() != nil:
		return cancelCause(parent)
	case err != nil:
		err = fmt.Errorf("step %s failed: %w", step.ID, err)
		marked := x.mark(i, status.StepFailed, err)
		if step.Optional {
			return marked
		}
		return errors.Join(err, marked)
	}
	return x.mark(i, status.StepDone, nil)
}

// undo takes back every step that has begun, the failing one included, in
// reverse, past what cannot be undone; then it looks. The result is rolled-back
// when the host was observed where it came from, failed when a person's session
// stands on the way back, and rollback-failed otherwise. The errors of single
// steps do not decide: the host does.
func (x *execution) undo(ctx context.Context, now observer.Snapshot) (o observer.Observation, result status.Result, err error) {
	x.report(status.PhaseUndoing, len(x.entry.Steps), nil)
	kept := firstUndoableStep(x.entry.OriginMode, x.entry.Steps, observer.Derive(x.policy, now))
	var failures []error
	for i := len(x.entry.Steps) - 1; i >= kept; i-- {
		if ctx.Err() != nil {
			return o, "", errStopping
		}
		s := x.entry.Record.Steps[i].Status
		if s == status.StepPending || s == status.StepUndone || s == status.StepNotUndoable {
			continue
		}
		err := x.undoStep(ctx, i, x.entry.Steps[i].Lost(s == status.StepDone, now.Logind))
		failures = append(failures, err)
		if errors.Is(err, plans.ErrSessionInTheWay) {
			kept = i + 1
		}
	}
	if kept > 0 {
		o, err = x.await(ctx, func(o observer.Observation) bool { return o.Is(policy.Desktop) })
		result, failures = status.Failed, append(failures, errNotToCompute)
	} else {
		o, err = x.await(ctx, x.isRolledBack)
		result = status.RolledBack
	}
	switch {
	case errors.Is(err, errStopping):
		return o, "", err
	case err != nil && kept == 0 && !(o.Inferred == x.entry.OriginMode && o.Degraded()):
		failures = append(failures, fmt.Errorf("the way back was not observed, the host is %s (%s)", o.State, texts(o.Reasons)))
		result = status.RollbackFailed
	}
	return o, result, errors.Join(failures...)
}

var errNotToCompute = fmt.Errorf("not taken back to compute: %w", plans.ErrSessionInTheWay)

// firstUndoableStep returns how many of the first steps must not be undone. On the way
// out of compute a person may be logged in as soon as the desktop target was
// isolated; to go back behind that would end their session or set compute on top
// of it, which nobody asked for.
func firstUndoableStep(home policy.Mode, steps []plans.Step, f observer.Facts) int {
	if home != policy.Compute || f.Is(observer.GraphicalSession) == observer.False {
		return 0
	}
	return 1 + slices.IndexFunc(steps, func(s plans.Step) bool { return s.Kind == plans.Isolate })
}

// undoStep has its own time: what made the step fail may have used up the
// step's, and a daemon that is told to stop finishes the step that it undoes. lost says
// what the undo does not bring back.
func (x *execution) undoStep(ctx context.Context, i int, lost string) error {
	step := x.entry.Steps[i]
	ctx, cancel := context.WithTimeout(context.WithoutCancel(stepreport.With(ctx, &listener{x: x, step: i})), step.Timeout)
	defer cancel()
	x.entry.Record.Steps[i].UndoStarted = time.Now()
	err := x.handlers[step.Kind].Undo(ctx, step, x.entry.Before[i])
	outcome, reason := status.StepUndone, err
	switch {
	case err != nil:
		err = fmt.Errorf("cannot undo step %s: %w", step.ID, err)
		outcome, reason = status.StepUndoFailed, err
	case lost != "" && step.Kind.Irreversible() != "":
		outcome, reason = status.StepNotUndoable, errors.New(lost)
	case lost != "" && !x.toldLoss(): // by the step behind it, which did not begin
		stepreport.Note(ctx, lost, nil)
	}
	// An undo goes on even where the journal cannot be written: the host comes first.
	if err := x.mark(i, outcome, reason); err != nil {
		x.log.Error("cannot journal an undo", zap.String("step", step.ID), zap.Error(err))
	}
	return err
}

// toldLoss reports whether a step says already what cannot be undone.
func (x *execution) toldLoss() bool {
	return slices.ContainsFunc(x.entry.Record.Steps, func(s status.Step) bool {
		return s.Status == status.StepNotUndoable
	})
}

// isRolledBack: the host is back in the mode it was in, or in the state, for one
// that was in no mode.
func (x *execution) isRolledBack(o observer.Observation) bool {
	if x.entry.OriginMode == "" {
		return o.State == x.entry.Record.From
	}
	return o.Is(x.entry.OriginMode) || o.State == x.entry.Record.From
}

// mark sets how far step i is, saves the journal and tells the engine.
func (x *execution) mark(i int, s status.StepStatus, cause error) error {
	x.set(i, s, cause)
	phase := status.PhaseActing
	if s.OfUndo() {
		phase = status.PhaseUndoing
	}
	x.report(phase, i, &status.StepEvent{
		ID: x.entry.Record.ID, Index: i, Count: len(x.entry.Steps), Step: x.entry.Steps[i].ID, Status: s,
	})
	err := x.save()
	if err == nil || s != status.StepDoing {
		x.note(i)
	}
	log := x.log.With(zap.Uint64("transition", x.entry.Record.ID), zap.String("mode", string(x.entry.Record.To)),
		zap.String("step", x.entry.Steps[i].ID), zap.String("status", string(s)))
	switch {
	case s == status.StepNotUndoable:
		log.Warn("a step cannot be undone", message.WithMessageID(message.StepNoted), zap.Error(cause))
	case cause != nil:
		log.Warn("a step failed", message.WithMessageID(message.StepFailed), zap.Error(cause))
	case err == nil:
		log.Info("a step got further")
	}
	return err
}

// listener hears what a step has to tell while it runs.
type listener struct {
	x    *execution
	step int
	said string
}

// Progress tells each text once: a step may say the same as often as it looks.
func (l *listener) Progress(text string) {
	if text == l.said {
		return
	}
	l.said = text
	l.x.inController(func(e *Controller) { e.advanced(l.step, text) })
}

// Note puts a text into the record. It is on disk with the next mark of the step.
func (l *listener) Note(text string, secrets []observer.Secret) {
	l.x.addRedactions(secrets...)
	step := &l.x.entry.Record.Steps[l.step]
	if !slices.Contains(step.Notes, text) {
		step.Notes = append(step.Notes, text)
	}
	l.x.log.Warn("a step has something to tell", message.WithMessageID(message.StepNoted), zap.Uint64("transition", l.x.entry.Record.ID),
		zap.String("mode", string(l.x.entry.Record.To)), zap.String("step", step.ID), zap.String("note", text))
}

// Residual puts what a release left in use into the record, as Note does.
func (l *listener) Residual(inUse []observer.GPUMemory) {
	l.x.entry.Record.Steps[l.step].Residual = inUse
}

// note puts how far step i is into the history.
func (x *execution) note(i int) {
	x.history.step(x.entry.Record.ID, i, x.entry.Steps[i].Guard, x.entry.Record.Steps[i])
}

func (x *execution) set(i int, s status.StepStatus, cause error) {
	step := &x.entry.Record.Steps[i]
	step.Status = s
	var reason string
	if cause != nil {
		reason = cause.Error()
		x.addRedactions(sensitiveOf(cause)...)
	}
	switch now := time.Now(); s {
	case status.StepDoing:
		step.Started = now
	case status.StepUndone, status.StepUndoFailed, status.StepNotUndoable: // how the step itself went stays
		step.UndoFinished, step.UndoError = now, reason
	default:
		step.Finished, step.Error = now, reason
	}
}
