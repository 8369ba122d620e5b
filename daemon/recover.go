package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/internal/message"
	"github.com/dubnium/dubnium/observer"
)

// recover ends a transition in which the daemon, or the machine, died. It looks
// first. It never takes up actions where they were left: a target that was
// reached is kept, a mere wait is resumed, everything else goes back. The result
// is interrupted, whatever the host turned out to be; the final state says that.
func (x *execution) recover(ctx context.Context) (status.Record, error) {
	if ended, _, err := x.history.scan(ctx, isRecord(x.entry.Record.ID), orPast(x.entry.Record.ID)); err == nil &&
		len(ended) > 0 && ended[0].Started.Equal(x.entry.Record.Started) {
		x.entry.Record = ended[0] // only the journal could not be told
	}
	x.entry.Record.Restarted = x.entry.BootID != x.bootID
	if x.entry.Record.Result != "" {
		x.record()
		return x.entry.Record, nil
	}
	x.report(status.PhaseRecovering, 0, nil)
	died := fmt.Errorf("the daemon ended %s", x.progressText())
	x.log.Warn("recovering a transition in which the daemon ended", message.WithMessageID(message.Recovery), zap.Uint64("transition", x.entry.Record.ID),
		zap.String("mode", string(x.entry.Record.To)), zap.String("where", x.progressText()))
	snapshot, err := x.monitor.Fresh(ctx)
	if err != nil {
		return status.Record{}, errStopping
	}
	o := x.classify(snapshot)
	if x.entry.Record.Restarted {
		return x.end(o, status.Interrupted, fmt.Errorf("the machine restarted: %w", died))
	}
	if !x.touched() || x.reached(o, snapshot) {
		return x.end(o, status.Interrupted, died)
	}
	if x.onlyWaitsLeft() {
		switch o, err := x.resume(ctx); {
		case errors.Is(err, errStopping):
			return status.Record{}, err
		case o.Is(x.entry.Record.To):
			return x.end(o, status.Interrupted, died)
		}
	}
	if snapshot, err = x.monitor.Fresh(ctx); err != nil {
		return status.Record{}, errStopping
	}
	o, result, err := x.undo(ctx, snapshot)
	switch {
	case errors.Is(err, errStopping):
		return status.Record{}, err
	case result != status.RollbackFailed:
		result = status.Interrupted
	}
	return x.end(o, result, errors.Join(died, err))
}

// lockRetry is how long a recovery waits until it tries to take the lock again.
const lockRetry = time.Second

// awaitLock takes the lock, and waits while somebody else holds it: a recovery that gave
// up would leave the host where the crash left it, and forget what is to be undone. It
// says so in the status and, once, in the log. Its only error is errStopping.
func (x *execution) awaitLock(ctx context.Context, lock func() (func() error, error)) (unlock func() error, err error) {
	said := ""
	for {
		unlock, err := lock()
		if err == nil {
			return unlock, nil
		}
		if text := "waiting to recover: " + err.Error(); text != said {
			said = text
			x.log.Warn("a recovery waits for the lock", message.WithMessageID(message.Recovery), zap.Uint64("transition", x.entry.Record.ID),
				zap.String("mode", string(x.entry.Record.To)), zap.Error(err))
			x.inController(func(e *Controller) {
				e.progress(status.PhaseRecovering, 0, len(x.entry.Steps), nil)
				e.advanced(0, text)
			})
		}
		select {
		case <-time.After(lockRetry):
		case <-ctx.Done():
			return nil, errStopping
		}
	}
}

// onlyWaitsLeft reports whether every action is done and seen, and nothing has
// been taken back yet.
func (x *execution) onlyWaitsLeft() bool {
	for i, s := range x.entry.Record.Steps {
		pending := s.Status == status.StepPending || s.Status == status.StepDoing
		if !x.finishedStep(i) && !(pending && x.entry.Steps[i].Waits()) {
			return false
		}
	}
	return true
}

// finishedStep: there is nothing to be done for step i any more. One that may fail and
// did is told, and not tried again.
func (x *execution) finishedStep(i int) bool {
	s := x.entry.Record.Steps[i].Status
	return s == status.StepDone || s == status.StepFailed && x.entry.Steps[i].Optional
}

// resume takes up the waits and the verification, and returns the last look.
func (x *execution) resume(ctx context.Context) (observer.Observation, error) {
	if err := x.forward(ctx, len(x.entry.Steps)); err != nil {
		return observer.Observation{}, err
	}
	return x.await(ctx, func(o observer.Observation) bool { return o.Is(x.entry.Record.To) })
}

// progressText says in words how far the transition had come.
func (x *execution) progressText() string {
	for i := len(x.entry.Record.Steps) - 1; i >= 0; i-- {
		if s := x.entry.Record.Steps[i]; s.Status != status.StepPending {
			return fmt.Sprintf("in step %s (%s)", s.ID, s.Status)
		}
	}
	return "before the first step"
}
