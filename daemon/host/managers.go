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

// endManagers handles plans.EndManagers. logind stops the user manager some seconds after
// the user's last session has ended. The manager of a user who lingers or has another
// session keeps running, with a compositor that runs under it.
type endManagers struct {
	units
	logind  *login1.Client
	monitor SnapshotWaiter
	policy  policy.Policy
}

// managersBefore lists the uids whose user manager was active.
type managersBefore struct {
	Up []uint32 `json:"up"`
}

func (h endManagers) Prepare(ctx context.Context, s plans.Step) (json.RawMessage, error) {
	var before managersBefore
	for _, uid := range s.Users {
		now, err := h.manager.Unit(ctx, observer.UserManager(uid))
		if err != nil {
			return nil, err
		}
		if isUp(now) {
			before.Up = append(before.Up, uid)
		}
	}
	return encodeUndo(before)
}

// Apply waits until no user manager of the users holds a display GPU, and stops those
// that still do after the grace. They are not started again, since that would start the
// same audio server: a user with another session has no user manager until the next
// login.
func (h endManagers) Apply(ctx context.Context, s plans.Step) error {
	bounded, cancel := context.WithTimeout(ctx, s.Grace)
	defer cancel()
	var holding []observer.Holder
	var secrets []observer.Secret
	err := h.monitor.Until(bounded, func(seen observer.Snapshot) bool {
		holding, secrets = h.holding(s, seen), observer.Secrets(seen)
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
		i := slices.IndexFunc(holding, func(holder observer.Holder) bool { return holder.UnderManagerOf(uid) })
		if i < 0 {
			continue
		}
		unit, holder := observer.UserManager(uid), holding[i]
		note := fmt.Sprintf("%s held %s for %s after the session had ended, and %s was stopped",
			holder, holder.GPU, s.Grace, unit)
		stepreport.Note(ctx, note, secrets)
		errs = append(errs, h.stop(ctx, unit))
	}
	return errors.Join(errs...)
}

func (h endManagers) holding(s plans.Step, seen observer.Snapshot) []observer.Holder {
	var all []observer.Holder
	for _, uid := range s.Users {
		all = append(all, observer.ManagerHolds(h.policy, seen.Processes, uid)...)
	}
	return all
}

// Undo starts the user managers that were active and that logind keeps, for a user who
// lingers or has another session. Nothing would stop one that logind does not keep.
func (h endManagers) Undo(ctx context.Context, _ plans.Step, before json.RawMessage) error {
	var was managersBefore
	if known, err := decodeUndo(before, &was); err != nil || !known {
		return err
	}
	users, err := h.logind.Users(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, uid := range was.Up {
		if slices.Contains(users, uid) {
			errs = append(errs, h.start(ctx, observer.UserManager(uid), replace))
		}
	}
	return errors.Join(errs...)
}

func (h endManagers) Verify(ctx context.Context, s plans.Step) error {
	var err error
	readErr := h.monitor.Until(ctx, func(seen observer.Snapshot) bool {
		holding := h.holding(s, seen)
		switch {
		case !seen.Processes.Known():
			err = fmt.Errorf("cannot determine which processes hold the display GPUs: %s", seen.Processes.Reason)
		case len(holding) > 0:
			err = fmt.Errorf("%s still holds %s", holding[0], holding[0].GPU)
		default:
			err = nil
		}
		return true
	}, observer.SourceHolders)
	return errors.Join(readErr, err)
}
