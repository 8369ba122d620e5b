package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dubnium/dubnium/plans"
)

// maintenance has what the handlers of Quiesce and Resume share.
type maintenance struct {
	units
	saved *SavedState
}

// quiescedBefore is the state before a step: which of its units were active, and which
// were saved as quiesced.
type quiescedBefore struct {
	Up       []string `json:"up"`
	Quiesced []string `json:"quiesced"`
}

func (h maintenance) prepare(ctx context.Context, s plans.Step) (json.RawMessage, error) {
	saved, err := h.saved.read()
	if err != nil {
		return nil, err
	}
	up, err := h.up(ctx, s.Units)
	if err != nil {
		return nil, err
	}
	return encodeUndo(quiescedBefore{up, saved.Quiesced})
}

// up lists those of the units that are not down.
func (h maintenance) up(ctx context.Context, wanted []string) ([]string, error) {
	up := []string{}
	for _, unit := range wanted {
		now, err := h.manager.Unit(ctx, unit)
		if err != nil {
			return nil, err
		}
		if !now.Down() {
			up = append(up, unit)
		}
	}
	return up, nil
}

// stopAll stops units in their order: a timer is stopped before what it starts.
func (h maintenance) stopAll(ctx context.Context, list []string) error {
	for _, unit := range list {
		if err := h.stop(ctx, unit); err != nil {
			return err
		}
	}
	return nil
}

// startAll starts units in the reverse order, and continues after a failure. It does not
// wait for the job of a service, since maintenance may run for hours. A unit that can no
// longer be loaded, because its file is gone or it is masked, is left out.
func (h maintenance) startAll(ctx context.Context, list []string) error {
	var errs []error
	for _, unit := range slices.Backward(list) {
		now, err := h.manager.Unit(ctx, unit)
		switch {
		case err != nil:
			errs = append(errs, err)
		case !now.Loaded() || now.Active() || now.ActiveState == "activating":
		case !isService(unit):
			errs = append(errs, h.start(ctx, unit, replace))
		default:
			if _, err := h.manager.Start(ctx, unit, replace); err != nil {
				errs = append(errs, fmt.Errorf("cannot start %s: %w", unit, err))
			}
		}
	}
	return errors.Join(errs...)
}

func isService(unit string) bool { return strings.HasSuffix(unit, ".service") }

// quiesce handles plans.Quiesce.
type quiesce struct{ maintenance }

func (h quiesce) Prepare(ctx context.Context, s plans.Step) (json.RawMessage, error) {
	return h.prepare(ctx, s)
}

// Apply saves which units are up and stops them. It reads them again, since a timer may
// have started a service after Prepare.
func (h quiesce) Apply(ctx context.Context, s plans.Step) error {
	up, err := h.up(ctx, s.Units)
	if err != nil {
		return err
	}
	if err := h.saved.change(func(v *savedValues) { v.quiesce(up...) }); err != nil {
		return err
	}
	return h.stopAll(ctx, up)
}

// Undo starts the units that were up, and those that the step has saved besides.
func (h quiesce) Undo(ctx context.Context, s plans.Step, before json.RawMessage) error {
	var was quiescedBefore
	if known, err := decodeUndo(before, &was); err != nil || !known {
		return err
	}
	saved, err := h.saved.read()
	if err != nil {
		return err
	}
	stopped := slices.DeleteFunc(slices.Clone(s.Units), func(unit string) bool {
		savedByStep := slices.Contains(saved.Quiesced, unit) && !slices.Contains(was.Quiesced, unit)
		return !savedByStep && !slices.Contains(was.Up, unit)
	})
	if err := h.startAll(ctx, stopped); err != nil {
		return err
	}
	return h.saved.change(func(v *savedValues) { v.Quiesced = was.Quiesced })
}

func (h quiesce) Verify(ctx context.Context, s plans.Step) error {
	up, err := h.up(ctx, s.Units)
	if err == nil && len(up) > 0 {
		err = fmt.Errorf("%s still runs", strings.Join(up, ", "))
	}
	return err
}

// resume handles plans.Resume.
type resume struct{ maintenance }

func (h resume) Prepare(ctx context.Context, s plans.Step) (json.RawMessage, error) {
	return h.prepare(ctx, s)
}

// Apply starts the quiesced units, and then removes them from the saved state.
func (h resume) Apply(ctx context.Context, s plans.Step) error {
	if err := h.startAll(ctx, s.Units); err != nil {
		return err
	}
	return h.saved.change(func(v *savedValues) {
		v.Quiesced = slices.DeleteFunc(v.Quiesced, func(unit string) bool { return slices.Contains(s.Units, unit) })
	})
}

// Undo saves the quiesced units again, and then stops those that were down.
func (h resume) Undo(ctx context.Context, s plans.Step, before json.RawMessage) error {
	var was quiescedBefore
	if known, err := decodeUndo(before, &was); err != nil || !known {
		return err
	}
	if err := h.saved.change(func(v *savedValues) { v.Quiesced = was.Quiesced }); err != nil {
		return err
	}
	return h.stopAll(
		ctx, slices.DeleteFunc(slices.Clone(s.Units), func(unit string) bool { return slices.Contains(was.Up, unit) }),
	)
}

// Verify fails unless every unit that can be loaded is up, except services: one may have
// exited by now, and its failure is not a failure of the step.
func (h resume) Verify(ctx context.Context, s plans.Step) error {
	for _, unit := range s.Units {
		now, err := h.manager.Unit(ctx, unit)
		if err != nil {
			return err
		}
		if now.Loaded() && now.Down() && !isService(unit) {
			return fmt.Errorf("%s is %s", unit, now.ActiveState)
		}
	}
	return nil
}
