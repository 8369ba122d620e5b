package runner

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/daemon/transition"
	"github.com/dubnium/dubnium/internal/message"
	"github.com/dubnium/dubnium/observer"
)

// recover ends a transition in which the daemon, or the machine, died. It reads the host
// first. It never continues an action where it was left: a target that was reached is
// kept, a mere wait is resumed, everything else is undone. The result is interrupted; the
// final state says what the host turned out to be.
func (x *Runner) recover(ctx context.Context) (status.Record, error) {
	r := &x.entry.Record
	if ended, err := x.History.Record(ctx, r.ID); err == nil && ended.Started.Equal(r.Started) {
		*r = ended // the daemon died before it could clear the journal
	}
	r.Restarted = x.entry.BootID != x.BootID
	if r.Result != "" {
		x.record()
		return *r, nil
	}
	x.report(transition.Recovering, 0, nil)
	died := fmt.Errorf("the daemon ended %s", x.progressText())
	x.Log.Warn("recovering a transition in which the daemon ended", message.WithMessageID(message.Recovery),
		zap.Uint64("transition", r.ID), zap.String("mode", string(r.To)), zap.String("where", x.progressText()))
	snapshot, err := x.Monitor.Fresh(ctx)
	if err != nil {
		return status.Record{}, ErrStopping
	}
	o := x.classify(snapshot)
	if r.Restarted {
		return x.end(o, status.Interrupted, fmt.Errorf("the machine restarted: %w", died))
	}
	if !x.touched() || x.reached(o, snapshot) {
		return x.end(o, status.Interrupted, died)
	}
	if x.onlyWaitsLeft() {
		switch o, err := x.resumeWaits(ctx); {
		case errors.Is(err, ErrStopping):
			return status.Record{}, err
		case o.Is(r.To):
			return x.end(o, status.Interrupted, died)
		}
	}
	if snapshot, err = x.Monitor.Fresh(ctx); err != nil {
		return status.Record{}, ErrStopping
	}
	o, result, err := x.undo(ctx, snapshot)
	switch {
	case errors.Is(err, ErrStopping):
		return status.Record{}, err
	case result != status.RollbackFailed:
		result = status.Interrupted
	}
	return x.end(o, result, errors.Join(died, err))
}

// lockRetry is how long a recovery waits before it tries to take the lock again.
const lockRetry = time.Second

// awaitLock takes the lock, and waits while somebody else holds it. A recovery that gave
// up would leave the host where the crash left it, and forget what is to be undone. The
// status and, once, the log say so. Its only error is ErrStopping.
func (x *Runner) awaitLock(ctx context.Context, l *locks) error {
	said := ""
	for {
		err := l.take()
		if err == nil {
			return nil
		}
		if text := "waiting to recover: " + err.Error(); text != said {
			said = text
			x.Log.Warn("a recovery waits for the lock", message.WithMessageID(message.Recovery),
				zap.Uint64("transition", x.entry.Record.ID), zap.String("mode", string(x.entry.Record.To)), zap.Error(err))
			x.report(transition.Recovering, 0, nil)
			x.Send(Said{0, text})
		}
		select {
		case <-time.After(lockRetry):
		case <-ctx.Done():
			return ErrStopping
		}
	}
}

// onlyWaitsLeft reports whether every action is done and observed, and nothing has been
// undone yet.
func (x *Runner) onlyWaitsLeft() bool {
	for i, s := range x.entry.Record.Steps {
		pending := s.Status == status.StepPending || s.Status == status.StepDoing
		if !x.finished(i) && !(pending && x.entry.Steps[i].Waits()) {
			return false
		}
	}
	return true
}

// resumeWaits resumes the waits and the verification, and returns the last observation.
func (x *Runner) resumeWaits(ctx context.Context) (observer.Observation, error) {
	if err := x.forward(ctx, len(x.entry.Steps)); err != nil {
		return observer.Observation{}, err
	}
	return x.await(ctx, func(o observer.Observation) bool { return o.Is(x.entry.Record.To) })
}

// progressText says in words how far the transition had come.
func (x *Runner) progressText() string {
	for i := len(x.entry.Record.Steps) - 1; i >= 0; i-- {
		if s := x.entry.Record.Steps[i]; s.Status != status.StepPending {
			return fmt.Sprintf("in step %s (%s)", s.ID, s.Status)
		}
	}
	return "before the first step"
}
