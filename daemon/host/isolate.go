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

// isolate handles plans.Isolate: it starts a target and stops every unit that the target
// does not pull in.
type isolate struct {
	units
	modeTargets []string
	// modeUnits lists, by target, the units that belong to its mode and to no other.
	modeUnits map[string][]string
	// maintenance are the units that studio-local stops. Every mode target wants these
	// timers, and so starts them, whether it is started or isolated.
	maintenance []string
	// headless is the target without graphical sessions.
	headless string
	logind   *login1.Client
}

// isolateBefore is what was active before.
type isolateBefore struct {
	// Target is the mode target that was active, empty for none.
	Target string `json:"target"`
	// Active are the active units that isolate could stop. Transient are those without a
	// file: they cannot be started again, and are listed for the record.
	Active    []string `json:"active"`
	Transient []string `json:"transient,omitempty"`
}

// stoppable reports whether isolate stops units of this type. The others have
// IgnoreOnIsolate= by default (systemd.unit(5)).
func stoppable(unit string) bool {
	return slices.Contains(
		[]string{"service", "socket", "timer", "path", "target"}, unit[strings.LastIndexByte(unit, '.')+1:],
	)
}

func (h isolate) Prepare(ctx context.Context, s plans.Step) (json.RawMessage, error) {
	rows, err := h.active(ctx)
	if err != nil {
		return nil, err
	}
	before := isolateBefore{Target: h.otherTarget(s.Unit, rows)}
	transient := make([]bool, len(rows))
	err = busconn.Parallel(len(rows), func(i int) (err error) {
		transient[i], err = h.manager.Transient(ctx, rows[i].Path)
		if systemd1.NoUnit(err) {
			transient[i], err = true, nil // it was unloaded after it was listed
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot determine which units are transient: %w", err)
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

// active lists the active units that isolate stops. Units that are activating are left
// out: an undo must not run an interrupted oneshot service again.
func (h isolate) active(ctx context.Context) ([]systemd1.Row, error) {
	rows, err := h.manager.List(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(rows, func(r systemd1.Row) bool {
		return !stoppable(r.Name) || r.ActiveState != "active" && r.ActiveState != "reloading"
	}), nil
}

// otherTarget returns the mode target that an undo starts: the active one that is not
// the target to isolate, else that target itself if it is active, else none.
func (h isolate) otherTarget(unit string, active []systemd1.Row) string {
	found := ""
	for _, target := range h.modeTargets {
		if slices.ContainsFunc(active, func(r systemd1.Row) bool { return r.Name == target }) &&
			(found == "" || target != unit) {
			found = target
		}
	}
	return found
}

// Apply waits for the target's job and every stop job of the same transaction: the
// target can be active while units are still stopping. systemd queues all jobs of a
// transaction before it replies.
func (h isolate) Apply(ctx context.Context, s plans.Step) error {
	jobs, err := h.manager.WatchJobs(ctx)
	if err != nil {
		return fmt.Errorf("cannot isolate %s: %w", s.Unit, err)
	}
	defer jobs.Close()
	return h.withUnfinished(ctx, h.change(ctx, jobs, s))
}

func (h isolate) change(ctx context.Context, jobs *systemd1.Jobs, s plans.Step) error {
	job, err := h.manager.Start(ctx, s.Unit, "isolate")
	if err != nil {
		return fmt.Errorf("cannot isolate %s: %w", s.Unit, err)
	}
	queued, err := h.manager.ListJobs(ctx)
	if err != nil {
		return fmt.Errorf("cannot isolate %s: %w", s.Unit, err)
	}
	if err := h.started(ctx, jobs, s.Unit, job); err != nil {
		return err
	}
	for _, q := range queued {
		if q.Type != "stop" || !stoppable(q.Unit) {
			continue
		}
		if err := h.stopped(ctx, jobs, q.Unit, q.Path); err != nil {
			return fmt.Errorf("cannot isolate %s: %w", s.Unit, err)
		}
	}
	return nil
}

// withUnfinished adds the running jobs to the error of a step that timed out: the target
// waits for other units.
func (h isolate) withUnfinished(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), diagnosisTimeout)
	defer cancel()
	queued, listErr := h.manager.ListJobs(ctx)
	if listErr != nil {
		return errors.Join(err, listErr)
	}
	var running []string
	for _, q := range queued {
		if q.State == "running" {
			running = append(running, q.Unit+" ("+q.Type+")")
		}
	}
	if len(running) == 0 {
		return err
	}
	slices.Sort(running)
	return fmt.Errorf("%w; running jobs: %s", err, strings.Join(running, ", "))
}

// diagnosisTimeout bounds the calls that find out why a step has timed out.
const diagnosisTimeout = 2 * time.Second

// Undo stops the mode's own units that were started with the target, starts the mode
// target that was active, whose Conflicts= stops the other, and starts the units that
// were active. It continues after a failure.
func (h isolate) Undo(ctx context.Context, s plans.Step, before json.RawMessage) error {
	var was isolateBefore
	if known, err := decodeUndo(before, &was); err != nil || !known {
		return err
	}
	stopped, stopErr := h.stopModeUnits(ctx, s.Unit, was.Active)
	if was.Target == h.headless {
		// The display manager is stopped, so that no session can begin after this check.
		if err := h.requireNoSession(ctx); err != nil {
			return errors.Join(stopErr, err, h.startAgain(ctx, stopped))
		}
	}
	var targetErr error
	if was.Target == "" { // no mode target was active before
		targetErr = h.stop(ctx, s.Unit)
	} else {
		targetErr = h.start(ctx, was.Target, replace)
	}
	return errors.Join(stopErr, targetErr, h.startAgain(ctx, was.Active), h.stopMaintenance(ctx, was.Active))
}

// stopMaintenance stops the maintenance units that were down before.
func (h isolate) stopMaintenance(ctx context.Context, before []string) error {
	var errs []error
	for _, unit := range h.maintenance {
		now, err := h.manager.Unit(ctx, unit)
		if err == nil && !now.Down() && !slices.Contains(before, now.ID) {
			err = h.stop(ctx, unit)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// requireNoSession fails with plans.ErrSessionInTheWay while a graphical session or one
// of an unknown kind exists.
func (h isolate) requireNoSession(ctx context.Context) error {
	sessions, err := h.logind.Sessions(ctx)
	if err != nil {
		return errors.Join(plans.ErrSessionInTheWay, fmt.Errorf("cannot read the sessions: %w", err))
	}
	for _, s := range sessions {
		if s.Kind() == observer.KindGraphical || s.Kind() == observer.KindUnknown {
			return fmt.Errorf("session %s of %s: %w", s.ID, s.User, plans.ErrSessionInTheWay)
		}
	}
	return nil
}

// stopModeUnits stops the units of the mode that were started with the target, and
// returns them: to stop a target does not stop the units that it wants.
func (h isolate) stopModeUnits(ctx context.Context, target string, before []string) (stopped []string, err error) {
	var errs []error
	for _, unit := range h.modeUnits[target] {
		now, err := h.manager.Unit(ctx, unit)
		if err == nil && !now.Down() && !slices.Contains(before, now.ID) {
			stopped = append(stopped, now.ID)
			err = h.stop(ctx, unit)
		}
		errs = append(errs, err)
	}
	return stopped, errors.Join(errs...)
}

// startAgain starts those of the units that are not active. It queues all jobs before it
// waits, so that systemd orders them.
func (h isolate) startAgain(ctx context.Context, wanted []string) error {
	jobs, err := h.manager.WatchJobs(ctx)
	if err != nil {
		return fmt.Errorf("cannot start again what was stopped: %w", err)
	}
	defer jobs.Close()
	up, err := h.active(ctx)
	if err != nil {
		return fmt.Errorf("cannot start again what was stopped: %w", err)
	}
	var errs []error
	var waits []func() error
	for _, unit := range wanted {
		isUp := slices.ContainsFunc(up, func(r systemd1.Row) bool { return r.Name == unit })
		if isUp || slices.Contains(h.modeTargets, unit) {
			continue
		}
		job, err := h.manager.Start(ctx, unit, replace)
		switch {
		case busconn.IsError(err, systemd1.ErrOnlyByDependency):
			// RefuseManualStart=: the units that need it start it.
		case err != nil:
			errs = append(errs, fmt.Errorf("cannot start %s: %w", unit, err))
		default:
			waits = append(waits, func() error { return h.started(ctx, jobs, unit, job) })
		}
	}
	for _, wait := range waits {
		errs = append(errs, wait())
	}
	return errors.Join(errs...)
}

// Verify fails unless the target is active and no other mode target is.
func (h isolate) Verify(ctx context.Context, s plans.Step) error {
	if err := h.confirmUp(ctx, s.Unit); err != nil {
		return err
	}
	for _, target := range h.modeTargets {
		if target == s.Unit {
			continue
		}
		if err := h.confirmDown(ctx, target); err != nil {
			return err
		}
	}
	return nil
}
