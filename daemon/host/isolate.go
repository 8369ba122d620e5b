package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dubnium/dubnium/internal/busconn"
	"github.com/dubnium/dubnium/internal/busconn/login1"
	"github.com/dubnium/dubnium/internal/busconn/systemd1"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/plans"
)

// isolate is plans.Isolate: it starts a target and stops whatever the target
// does not want.
type isolate struct {
	units
	modeTargets []string
	// modeUnits lists, by target, the units that belong to its mode and to no other.
	modeUnits map[string][]string
	// maintenance are the units that studio-local stops. Every mode target wants
	// those timers again, be it started or isolated.
	maintenance []string
	// headless is the target that nobody may sit at, and logind knows who does.
	headless string
	logind   *login1.Client
}

// isolateBefore is what ran before.
type isolateBefore struct {
	// Target is the mode target that was active, empty for none.
	Target string `json:"target"`
	// Active are the units that isolate could stop and that were active. What runs
	// a transient unit is gone with it; it is listed to be told, not started again.
	Active    []string `json:"active"`
	Transient []string `json:"transient,omitempty"`
}

// stoppable knows the unit types that isolate stops: the others ignore it by
// default (systemd.unit(5), IgnoreOnIsolate=).
func stoppable(unit string) bool {
	return slices.Contains(
		[]string{"service", "socket", "timer", "path", "target"}, unit[strings.LastIndexByte(unit, '.')+1:],
	)
}

func (a isolate) Prepare(ctx context.Context, s plans.Step) (json.RawMessage, error) {
	rows, err := a.active(ctx)
	if err != nil {
		return nil, err
	}
	before := isolateBefore{Target: a.otherTarget(s.Unit, rows)}
	transient := make([]bool, len(rows))
	err = busconn.Parallel(len(rows), func(i int) (err error) {
		transient[i], err = a.manager.Transient(ctx, rows[i].Path)
		if systemd1.NoUnit(err) {
			transient[i], err = true, nil // it has gone since it was listed
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot tell which units could come back: %w", err)
	}
	for i, row := range rows {
		if transient[i] {
			before.Transient = append(before.Transient, row.Name)
		} else {
			before.Active = append(before.Active, row.Name)
		}
	}
	return encodeUndo(before)
}

// active lists what is up of the units that isolate stops. What is on its way up
// is left out: a oneshot that was cut off is not to be run again by an undo.
func (a isolate) active(ctx context.Context) ([]systemd1.Row, error) {
	rows, err := a.manager.List(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(rows, func(r systemd1.Row) bool {
		return !stoppable(r.Name) || r.ActiveState != "active" && r.ActiveState != "reloading"
	}), nil
}

// otherTarget names the mode target to go back to: the active one that is not
// the one to isolate, else that one itself if it was active.
func (a isolate) otherTarget(unit string, active []systemd1.Row) string {
	found := ""
	for _, target := range a.modeTargets {
		if slices.ContainsFunc(active, func(r systemd1.Row) bool { return r.Name == target }) &&
			(found == "" || target != unit) {
			found = target
		}
	}
	return found
}

// Apply is done when the target's job is, and every stop job of the same
// transaction: isolate answers while units are still stopping. All jobs of a
// transaction are queued before systemd answers the call.
func (a isolate) Apply(ctx context.Context, s plans.Step) error {
	jobs, err := a.manager.WatchJobs(ctx)
	if err != nil {
		return fmt.Errorf("cannot isolate %s: %w", s.Unit, err)
	}
	defer jobs.Close()
	return a.withUnfinished(ctx, a.change(ctx, jobs, s))
}

func (a isolate) change(ctx context.Context, jobs *systemd1.Jobs, s plans.Step) error {
	job, err := a.manager.Start(ctx, s.Unit, "isolate")
	if err != nil {
		return fmt.Errorf("cannot isolate %s: %w", s.Unit, err)
	}
	queued, err := a.manager.ListJobs(ctx)
	if err != nil {
		return fmt.Errorf("cannot isolate %s: %w", s.Unit, err)
	}
	if err := a.started(ctx, jobs, s.Unit, job); err != nil {
		return err
	}
	for _, q := range queued {
		if q.Type != "stop" || !stoppable(q.Unit) {
			continue
		}
		if err := a.stopped(ctx, jobs, q.Unit, q.Path); err != nil {
			return fmt.Errorf("cannot isolate %s: %w", s.Unit, err)
		}
	}
	return nil
}

// withUnfinished adds to the error of a step whose time is over what systemd is still
// at: the target waits for units that are not it.
func (a isolate) withUnfinished(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), afterwards)
	defer cancel()
	queued, listErr := a.manager.ListJobs(ctx)
	if listErr != nil {
		return errors.Join(err, listErr)
	}
	var at []string
	for _, q := range queued {
		if q.State == "running" {
			at = append(at, q.Unit+" ("+q.Type+")")
		}
	}
	if len(at) == 0 {
		return err
	}
	slices.Sort(at)
	return fmt.Errorf("%w; systemd is still at %s", err, strings.Join(at, ", "))
}

// afterwards is how long may be asked, once a step's time is over, why it is.
const afterwards = 2 * time.Second

// Undo stops the mode's own units that came with the target, goes back to the
// mode target that was active, whose Conflicts= stops the other, and starts again
// what was up. It goes on past what fails.
func (a isolate) Undo(ctx context.Context, s plans.Step, before json.RawMessage) error {
	var was isolateBefore
	if known, err := decodeUndo(before, &was); err != nil || !known {
		return err
	}
	stopped, leave := a.stopModeUnits(ctx, s.Unit, was.Active)
	if was.Target == a.headless {
		// Only now can nobody log in any more.
		if err := a.requireNoSession(ctx); err != nil {
			return errors.Join(leave, err, a.startAgain(ctx, stopped))
		}
	}
	var back error
	switch was.Target {
	case "": // no mode was claimed before, so none is after
		back = a.stop(ctx, s.Unit)
	default:
		back = a.start(ctx, was.Target, replace)
	}
	return errors.Join(leave, back, a.startAgain(ctx, was.Active), a.stopMaintenance(ctx, was.Active))
}

// stopMaintenance stops what of maintenance was down before.
func (a isolate) stopMaintenance(ctx context.Context, before []string) error {
	var errs []error
	for _, unit := range a.maintenance {
		now, err := a.manager.Unit(ctx, unit)
		if err == nil && !now.Down() && !slices.Contains(before, now.ID) {
			err = a.stop(ctx, unit)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// requireNoSession fails with plans.ErrSessionInTheWay while a person's session exists,
// or one of a kind that may be a person's.
func (a isolate) requireNoSession(ctx context.Context) error {
	sessions, err := a.logind.Sessions(ctx)
	if err != nil {
		return errors.Join(plans.ErrSessionInTheWay, fmt.Errorf("cannot tell who is logged in: %w", err))
	}
	for _, s := range sessions {
		if s.Kind() == observer.KindGraphical || s.Kind() == observer.KindUnknown {
			return fmt.Errorf("session %s of %s: %w", s.ID, s.User, plans.ErrSessionInTheWay)
		}
	}
	return nil
}

// stopModeUnits stops what the target brought along, and says what that was: a
// target that wants a unit does not take it with it when it is stopped.
func (a isolate) stopModeUnits(ctx context.Context, target string, before []string) (stopped []string, err error) {
	var errs []error
	for _, unit := range a.modeUnits[target] {
		now, err := a.manager.Unit(ctx, unit)
		if err == nil && !now.Down() && !slices.Contains(before, now.ID) {
			stopped = append(stopped, now.ID)
			err = a.stop(ctx, unit)
		}
		errs = append(errs, err)
	}
	return stopped, errors.Join(errs...)
}

// startAgain starts those of the units that are not up, together, so that
// systemd puts them into their order.
func (a isolate) startAgain(ctx context.Context, wanted []string) error {
	jobs, err := a.manager.WatchJobs(ctx)
	if err != nil {
		return fmt.Errorf("cannot start again what was stopped: %w", err)
	}
	defer jobs.Close()
	up, err := a.active(ctx)
	if err != nil {
		return fmt.Errorf("cannot start again what was stopped: %w", err)
	}
	var errs []error
	var waits []func() error
	for _, unit := range wanted {
		isUp := slices.ContainsFunc(up, func(r systemd1.Row) bool { return r.Name == unit })
		if isUp || slices.Contains(a.modeTargets, unit) {
			continue
		}
		job, err := a.manager.Start(ctx, unit, replace)
		switch {
		case busconn.IsError(err, systemd1.ErrOnlyByDependency):
			// RefuseManualStart=: it comes with what needs it.
		case err != nil:
			errs = append(errs, fmt.Errorf("cannot start %s: %w", unit, err))
		default:
			waits = append(waits, func() error { return a.started(ctx, jobs, unit, job) })
		}
	}
	for _, wait := range waits {
		errs = append(errs, wait())
	}
	return errors.Join(errs...)
}

// Verify wants the target up and no other mode's.
func (a isolate) Verify(ctx context.Context, s plans.Step) error {
	if err := a.confirmUp(ctx, s.Unit); err != nil {
		return err
	}
	for _, target := range a.modeTargets {
		if target == s.Unit {
			continue
		}
		if err := a.confirmDown(ctx, target); err != nil {
			return err
		}
	}
	return nil
}
