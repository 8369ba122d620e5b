package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/observer"
)

// recover ends a transition in which the daemon, or the machine, died. It looks
// first. It never takes up actions where they were left: a target that was
// reached is kept, a mere wait is resumed, everything else goes back. The result
// is interrupted, whatever the host turned out to be; the final state says that.
func (x *execution) recover(ctx context.Context) (status.Record, error) {
	if x.entry.Record.Result != "" {
		x.record()
		return x.entry.Record, nil
	}
	x.report(status.PhaseRecovering, 0, nil)
	died := fmt.Errorf("the daemon ended %s", x.whereabouts())
	if x.entry.BootID != x.bootID {
		return x.end(ctx, status.Interrupted, fmt.Errorf("the machine restarted: %w", died))
	}
	snapshot, err := x.eyes.Fresh(ctx)
	if err != nil {
		return status.Record{}, errStopping
	}
	if !x.touched() || x.settled(snapshot).Is(x.entry.Record.To) {
		return x.end(ctx, status.Interrupted, died)
	}
	if x.onlyWaitsLeft() {
		switch reached, err := x.resume(ctx); {
		case errors.Is(err, errStopping):
			return status.Record{}, err
		case reached:
			return x.end(ctx, status.Interrupted, died)
		}
	}
	result, err := x.undo(ctx)
	switch {
	case errors.Is(err, errStopping):
		return status.Record{}, err
	case result != status.RollbackFailed:
		result = status.Interrupted
	}
	return x.end(ctx, result, errors.Join(died, err))
}

// onlyWaitsLeft reports whether every action is done and seen, and nothing has
// been taken back yet.
func (x *execution) onlyWaitsLeft() bool {
	for i, s := range x.entry.Record.Steps {
		if s.Status != status.StepDone && !x.entry.Steps[i].Waits() {
			return false
		}
	}
	return !slices.ContainsFunc(x.entry.Record.Steps, func(s status.Step) bool {
		return s.Status == status.StepFailed || s.Status == status.StepUndone || s.Status == status.StepUndoFailed
	})
}

// resume takes up the waits and the verification.
func (x *execution) resume(ctx context.Context) (reached bool, err error) {
	if err := x.forward(ctx); err != nil {
		return false, err
	}
	to := x.entry.Record.To
	o, err := x.await(ctx, func(o observer.Observation) bool { return o.Is(to) })
	if errors.Is(err, errStopping) {
		return false, err
	}
	return o.Is(to), nil
}

// whereabouts says in words how far the transition had come.
func (x *execution) whereabouts() string {
	for i := len(x.entry.Record.Steps) - 1; i >= 0; i-- {
		if s := x.entry.Record.Steps[i]; s.Status != status.StepPending {
			return fmt.Sprintf("in step %s (%s)", s.ID, s.Status)
		}
	}
	return "before the first step"
}
