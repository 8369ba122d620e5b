package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/dubnium/dubnium/internal/busconn/login1"
	"github.com/dubnium/dubnium/internal/stepreport"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/plans"
	"github.com/dubnium/dubnium/policy"
)

// endManagers is plans.EndManagers. logind stops the user manager of somebody who is
// gone, some seconds later; it leaves that of somebody who lingers or is logged in
// elsewhere as well, with whatever compositor runs there.
type endManagers struct {
	units
	logind *login1.Client
	eyes   SnapshotWaiter
	policy policy.Policy
}

// managersBefore are the users whose manager ran.
type managersBefore struct {
	Up []uint32 `json:"up"`
}

func (a endManagers) Prepare(ctx context.Context, s plans.Step) (json.RawMessage, error) {
	var before managersBefore
	for _, uid := range s.Users {
		now, err := a.manager.Unit(ctx, observer.UserManager(uid))
		if err != nil {
			return nil, err
		}
		if isUp(now) {
			before.Up = append(before.Up, uid)
		}
	}
	return encodeUndo(before)
}

// Apply waits until no manager of the users holds a display GPU, and stops those that
// still do when the grace is over. A new one would start the same audio server: whoever
// is logged in elsewhere as well has none until the next login.
func (a endManagers) Apply(ctx context.Context, s plans.Step) error {
	bounded, cancel := context.WithTimeout(ctx, s.Grace)
	defer cancel()
	var holding []observer.Holder
	var secrets []observer.Secret
	err := a.eyes.Until(bounded, func(seen observer.Snapshot) bool {
		holding, secrets = a.holding(s, seen), observer.Secrets(seen)
		return seen.Processes.Known() && len(holding) == 0
	}, observer.SourceHolders)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return err
	}
	var errs []error
	for _, uid := range s.Users {
		i := slices.IndexFunc(holding, func(h observer.Holder) bool { return h.UnderManagerOf(uid) })
		if i < 0 {
			continue
		}
		unit, h := observer.UserManager(uid), holding[i]
		stepreport.Note(
			ctx, fmt.Sprintf("%s held %s for %s after the session was gone, and %s was stopped", h, h.GPU, s.Grace,
				unit),
			secrets,
		)
		errs = append(errs, a.stop(ctx, unit))
	}
	return errors.Join(errs...)
}

func (a endManagers) holding(s plans.Step, seen observer.Snapshot) []observer.Holder {
	var all []observer.Holder
	for _, uid := range s.Users {
		all = append(all, observer.ManagerHolds(a.policy, seen.Processes, uid)...)
	}
	return all
}

// Undo starts the managers that ran and that logind keeps for somebody, who lingers or
// is logged in elsewhere. One that it does not keep would be nobody's to end again.
func (a endManagers) Undo(ctx context.Context, _ plans.Step, before json.RawMessage) error {
	var was managersBefore
	if known, err := decodeUndo(before, &was); err != nil || !known {
		return err
	}
	kept, err := a.logind.Users(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, uid := range was.Up {
		if slices.Contains(kept, uid) {
			errs = append(errs, a.start(ctx, observer.UserManager(uid), replace))
		}
	}
	return errors.Join(errs...)
}

func (a endManagers) Verify(ctx context.Context, s plans.Step) error {
	var err error
	looked := a.eyes.Until(ctx, func(seen observer.Snapshot) bool {
		holding := a.holding(s, seen)
		switch {
		case !seen.Processes.Known():
			err = fmt.Errorf("who holds the display GPUs could not be found out: %s", seen.Processes.Reason)
		case len(holding) > 0:
			err = fmt.Errorf("%s still holds %s", holding[0], holding[0].GPU)
		default:
			err = nil
		}
		return true
	}, observer.SourceHolders)
	return errors.Join(looked, err)
}
