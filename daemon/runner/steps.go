package runner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/daemon/transition"
	"github.com/dubnium/dubnium/internal/message"
	"github.com/dubnium/dubnium/internal/stepreport"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/plans"
	"github.com/dubnium/dubnium/policy"
)

// forward does those of the first steps that are not finished, in order. It stops at the
// first that fails and is not optional.
func (x *Runner) forward(ctx context.Context, first int) error {
	for i := range first {
		if x.finished(i) {
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

// finished reports whether nothing is left to do for step i. An optional step that
// failed is recorded, and not tried again.
func (x *Runner) finished(i int) bool {
	s := x.entry.Record.Steps[i].Status
	return s == status.StepDone || s == status.StepFailed && x.entry.Steps[i].Optional
}

// do carries out step i. What its undo needs is on disk before the host is touched. The
// step is done when its postcondition was observed.
func (x *Runner) do(parent context.Context, i int) error {
	step := x.entry.Steps[i]
	handler := x.Handlers[step.Kind]
	ctx, cancel := context.WithTimeout(x.reporting(parent, i), step.Timeout)
	defer cancel()
	before, err := handler.Prepare(ctx, step)
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
		x.recordStep(i) // it was not done
		return err
	}
	if err = handler.Apply(ctx, step); err == nil {
		err = handler.Verify(ctx, step)
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

// undo undoes every step that has begun, the failed one included, in reverse order. Then
// it reads the host. The result is rolled-back when the host was observed where it came
// from, failed when a person's session stands on the way back, and rollback-failed
// otherwise. The errors of single steps do not decide: the host does.
func (x *Runner) undo(
	ctx context.Context, now observer.Snapshot,
) (o observer.Observation, result status.Result, err error) {
	x.report(transition.Undoing, len(x.entry.Steps), nil)
	kept := firstUndoable(x.entry.OriginMode, x.entry.Steps, observer.Derive(x.Policy, now))
	var failures []error
	for i := len(x.entry.Steps) - 1; i >= kept; i-- {
		if ctx.Err() != nil {
			return o, "", ErrStopping
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
	case errors.Is(err, ErrStopping):
		return o, "", err
	case err != nil && kept == 0 && !(o.Inferred == x.entry.OriginMode && o.Degraded()):
		failures = append(
			failures, fmt.Errorf("the way back was not observed, the host is %s (%s)", o.State, texts(o.Reasons)),
		)
		result = status.RollbackFailed
	}
	return o, result, errors.Join(failures...)
}

var errNotToCompute = fmt.Errorf("not taken back to compute: %w", plans.ErrSessionInTheWay)

// firstUndoable returns how many of the first steps must not be undone. On the way out of
// compute a person may be logged in as soon as desktop.target was isolated. To undo that
// would end their session, or put compute beside it, which nobody requested.
func firstUndoable(origin policy.Mode, steps []plans.Step, f observer.Facts) int {
	if origin != policy.Compute || f.Is(observer.GraphicalSession) == observer.False {
		return 0
	}
	return 1 + slices.IndexFunc(steps, func(s plans.Step) bool { return s.Kind == plans.Isolate })
}

// undoStep has its own time: the failure may have used up that of the step. A daemon
// that is told to stop finishes the undo of the step. lost says what the undo does not
// bring back.
func (x *Runner) undoStep(ctx context.Context, i int, lost string) error {
	step := x.entry.Steps[i]
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.reporting(ctx, i)), step.Timeout)
	defer cancel()
	x.entry.Record.Steps[i].UndoStarted = time.Now()
	err := x.Handlers[step.Kind].Undo(ctx, step, x.entry.Before[i])
	outcome, reason := status.StepUndone, err
	switch {
	case err != nil:
		err = fmt.Errorf("cannot undo step %s: %w", step.ID, err)
		outcome, reason = status.StepUndoFailed, err
	case lost != "" && step.Kind.Irreversible() != "":
		outcome, reason = status.StepNotUndoable, errors.New(lost)
	case lost != "" && !x.lossRecorded(): // by the step behind it, which did not begin
		stepreport.Note(ctx, lost, nil)
	}
	// The undo goes on where the journal cannot be written: the host comes first.
	if err := x.mark(i, outcome, reason); err != nil {
		x.Log.Error("cannot journal an undo", zap.String("step", step.ID), zap.Error(err))
	}
	return err
}

// lossRecorded reports whether a step records already what cannot be undone.
func (x *Runner) lossRecorded() bool {
	return slices.ContainsFunc(x.entry.Record.Steps, func(s status.Step) bool {
		return s.Status == status.StepNotUndoable
	})
}

// isRolledBack reports whether the host is in the mode it was in, or in the state for a
// host that was in no mode.
func (x *Runner) isRolledBack(o observer.Observation) bool {
	if x.entry.OriginMode == "" {
		return o.State == x.entry.Record.From
	}
	return o.Is(x.entry.OriginMode) || o.State == x.entry.Record.From
}

// phaseOf is the phase in which a step runs.
func (x *Runner) phaseOf(i int, s status.StepStatus) transition.Phase {
	switch {
	case s.OfUndo():
		return transition.Undoing
	case i < x.plan.CommitIndex:
		return transition.Preparing
	}
	return transition.Committed
}

// mark sets the status of step i, saves the journal and tells the controller.
func (x *Runner) mark(i int, s status.StepStatus, cause error) error {
	x.set(i, s, cause)
	x.report(x.phaseOf(i, s), i, &status.StepEvent{
		ID: x.entry.Record.ID, Index: i, Count: len(x.entry.Steps), Step: x.entry.Steps[i].ID, Status: s,
	})
	err := x.save()
	if err == nil || s != status.StepDoing {
		x.recordStep(i)
	}
	log := x.Log.With(zap.Uint64("transition", x.entry.Record.ID), zap.String("mode", string(x.entry.Record.To)),
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

// recordStep puts the status of step i into the history.
func (x *Runner) recordStep(i int) {
	x.History.Step(x.entry.Record.ID, i, x.entry.Steps[i].Guard, x.entry.Record.Steps[i])
}

func (x *Runner) set(i int, s status.StepStatus, cause error) {
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
	case status.StepUndone, status.StepUndoFailed, status.StepNotUndoable: // the result of the step itself stays
		step.UndoFinished, step.UndoError = now, reason
	default:
		step.Finished, step.Error = now, reason
	}
}

// reporting returns a context in which the handler of step i can report.
func (x *Runner) reporting(ctx context.Context, i int) context.Context {
	return stepreport.With(ctx, &reporter{runner: x, step: i})
}

// reporter takes what a handler reports while it runs.
type reporter struct {
	runner *Runner
	step   int
	said   string
}

// Progress tells the controller each text once: a handler may say the same with each
// read.
func (r *reporter) Progress(text string) {
	if text == r.said {
		return
	}
	r.said = text
	r.runner.Send(Said{r.step, text})
}

// Residual puts what a release has left in use into the record, as Note does.
func (r *reporter) Residual(inUse []observer.GPUMemory) {
	r.runner.entry.Record.Steps[r.step].Residual = inUse
}

// Note puts a text into the record. It is on disk with the next mark of the step.
func (r *reporter) Note(text string, secrets []observer.Secret) {
	x := r.runner
	x.addRedactions(secrets...)
	step := &x.entry.Record.Steps[r.step]
	if !slices.Contains(step.Notes, text) {
		step.Notes = append(step.Notes, text)
	}
	x.Log.Warn("a step has a note", message.WithMessageID(message.StepNoted), zap.Uint64("transition", x.entry.Record.ID),
		zap.String("mode", string(x.entry.Record.To)), zap.String("step", step.ID), zap.String("note", text))
}
