package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dubnium/dubnium/daemon/status"
)

// Confirm ends the clock of a mode that goes back unless somebody confirms it. A
// person who is late is in time until the way back is past its point of no return.
// Errors: status.ErrNoSuchTransition when none of that id waits for it;
// status.ErrBusy before the mode was reached; status.ErrNotCancellable.
func (e *Controller) Confirm(ctx context.Context, id uint64, c status.Confirmation) (err error) {
	callErr := e.call(ctx, func() {
		if err = e.confirm(id, c); err == nil {
			e.publish()
		}
	})
	return errors.Join(callErr, err)
}

func (e *Controller) confirm(id uint64, c status.Confirmation) error {
	l, running := e.lease, e.state.Running
	returning := running != nil && running.Origin == status.OriginLease
	switch {
	case l == nil || l.ID != id || l.Terms.Confirm == 0:
		return fmt.Errorf("%w waits to be confirmed under the id %d", status.ErrNoSuchTransition, id)
	case l.Reached == 0:
		return fmt.Errorf("%w: %s is not reached yet", status.ErrBusy, l.Mode)
	case returning && !running.Cancellable:
		return fmt.Errorf("%w: the way back to %s is past its point of no return", status.ErrNotCancellable, l.BackTo)
	}
	if e.state.Desired.Mode != l.Mode { // a way back that failed has wished already
		if err := e.setDesired(status.Desired{Mode: l.Mode, Origin: status.OriginOperator, By: c.By, Since: time.Now()}); err != nil {
			return err
		}
	}
	e.history.confirmed(id, l.Mode, c)
	if returning {
		e.previous = e.state.Desired
		e.cancelRunning(cancellation{status.Canceled, fmt.Sprintf("%s was confirmed by %s", l.Mode, c.By)})
	}
	if (status.Terms{Confirm: l.Terms.Confirm}) == l.Terms {
		e.endLease("it was confirmed by " + c.By)
		return nil
	}
	e.updateLease(func(l *lease) {
		l.Terms.Confirm, l.ExpiredReason, l.LastFailure, l.Attempts, l.Next = 0, "", "", 0, 0
	})
	return nil
}
