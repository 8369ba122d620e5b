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

// maintenance is what the steps for quiesced units share.
type maintenance struct {
	units
	saved *SavedState
}

// quiescedBefore is what a step found: which of its units were up, and which were
// written down as quiesced.
type quiescedBefore struct {
	Up       []string `json:"up"`
	Quiesced []string `json:"quiesced"`
}

func (a maintenance) prepare(ctx context.Context, s plans.Step) (json.RawMessage, error) {
	kept, err := a.saved.read()
	if err != nil {
		return nil, err
	}
	up, err := a.up(ctx, s.Units)
	if err != nil {
		return nil, err
	}
	return encodeUndo(quiescedBefore{up, kept.Quiesced})
}

// up lists those of the units of which something runs.
func (a maintenance) up(ctx context.Context, wanted []string) ([]string, error) {
	up := []string{}
	for _, unit := range wanted {
		now, err := a.manager.Unit(ctx, unit)
		if err != nil {
			return nil, err
		}
		if !now.Down() {
			up = append(up, unit)
		}
	}
	return up, nil
}

// stopAll stops units in their order: what starts others goes first.
func (a maintenance) stopAll(ctx context.Context, list []string) error {
	for _, unit := range list {
		if err := a.stop(ctx, unit); err != nil {
			return err
		}
	}
	return nil
}

// startAll starts units, those that start others last, and goes on past what
// fails. A service of maintenance may work for hours, so that nobody waits for
// its job; one that cannot be started any more, because its file has gone or it
// was masked, cannot come back.
func (a maintenance) startAll(ctx context.Context, list []string) error {
	var errs []error
	for _, unit := range slices.Backward(list) {
		now, err := a.manager.Unit(ctx, unit)
		switch {
		case err != nil:
			errs = append(errs, err)
		case !now.Loaded() || now.Active() || now.ActiveState == "activating":
		case !isService(unit):
			errs = append(errs, a.start(ctx, unit, replace))
		default:
			if _, err := a.manager.Start(ctx, unit, replace); err != nil {
				errs = append(errs, fmt.Errorf("cannot start %s: %w", unit, err))
			}
		}
	}
	return errors.Join(errs...)
}

func isService(unit string) bool { return strings.HasSuffix(unit, ".service") }

// quiesce is plans.Quiesce.
type quiesce struct{ maintenance }

func (a quiesce) Prepare(ctx context.Context, s plans.Step) (json.RawMessage, error) {
	return a.prepare(ctx, s)
}

// Apply writes down what is up and stops it; a timer may have started something
// since Prepare.
func (a quiesce) Apply(ctx context.Context, s plans.Step) error {
	up, err := a.up(ctx, s.Units)
	if err != nil {
		return err
	}
	if err := a.saved.change(func(n *savedValues) { n.quiesce(up...) }); err != nil {
		return err
	}
	return a.stopAll(ctx, up)
}

// Undo starts what was up, and what the step has written down besides.
func (a quiesce) Undo(ctx context.Context, s plans.Step, before json.RawMessage) error {
	var was quiescedBefore
	if known, err := decodeUndo(before, &was); err != nil || !known {
		return err
	}
	kept, err := a.saved.read()
	if err != nil {
		return err
	}
	back := slices.DeleteFunc(slices.Clone(s.Units), func(unit string) bool {
		written := slices.Contains(kept.Quiesced, unit) && !slices.Contains(was.Quiesced, unit)
		return !written && !slices.Contains(was.Up, unit)
	})
	if err := a.startAll(ctx, back); err != nil {
		return err
	}
	return a.saved.change(func(n *savedValues) { n.Quiesced = was.Quiesced })
}

func (a quiesce) Verify(ctx context.Context, s plans.Step) error {
	up, err := a.up(ctx, s.Units)
	if err == nil && len(up) > 0 {
		err = fmt.Errorf("%s still runs", strings.Join(up, ", "))
	}
	return err
}

// resume is plans.Resume.
type resume struct{ maintenance }

func (a resume) Prepare(ctx context.Context, s plans.Step) (json.RawMessage, error) {
	return a.prepare(ctx, s)
}

// Apply starts what was quiesced, and forgets it once it is up.
func (a resume) Apply(ctx context.Context, s plans.Step) error {
	if err := a.startAll(ctx, s.Units); err != nil {
		return err
	}
	return a.saved.change(func(n *savedValues) {
		n.Quiesced = slices.DeleteFunc(n.Quiesced, func(unit string) bool { return slices.Contains(s.Units, unit) })
	})
}

// Undo stops what was down, and writes it down again first.
func (a resume) Undo(ctx context.Context, s plans.Step, before json.RawMessage) error {
	var was quiescedBefore
	if known, err := decodeUndo(before, &was); err != nil || !known {
		return err
	}
	if err := a.saved.change(func(n *savedValues) { n.Quiesced = was.Quiesced }); err != nil {
		return err
	}
	return a.stopAll(
		ctx, slices.DeleteFunc(slices.Clone(s.Units), func(unit string) bool { return slices.Contains(was.Up, unit) }),
	)
}

// Verify wants every unit up that can be. Of a service there is nothing to see: it
// may have done its work by now, or failed at it, and that is its own affair.
func (a resume) Verify(ctx context.Context, s plans.Step) error {
	for _, unit := range s.Units {
		now, err := a.manager.Unit(ctx, unit)
		if err != nil {
			return err
		}
		if now.Loaded() && now.Down() && !isService(unit) {
			return fmt.Errorf("%s is %s", unit, now.ActiveState)
		}
	}
	return nil
}
