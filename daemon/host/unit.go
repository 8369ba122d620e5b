package host

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/internal/busconn/systemd1"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/plans"
)

// replace is the job mode of all jobs but isolate: a conflicting queued job is replaced.
// With the mode fail, a job that anybody has queued would make the transition fail.
const replace = "replace"

// units runs jobs and waits for them.
type units struct{ manager *systemd1.Client }

// unitBefore is the state before the start or stop of a unit.
type unitBefore struct {
	// Up: it was active, reloading or activating.
	Up bool `json:"up"`
}

func (u units) prepare(ctx context.Context, unit string) (json.RawMessage, error) {
	now, err := u.manager.Unit(ctx, unit)
	if err != nil {
		return nil, err
	}
	return encodeUndo(unitBefore{Up: isUp(now)})
}

func isUp(u observer.Unit) bool { return u.Active() || u.ActiveState == "activating" }

// start starts a unit and waits for its job.
func (u units) start(ctx context.Context, unit, mode string) error {
	jobs, err := u.manager.WatchJobs(ctx)
	if err != nil {
		return fmt.Errorf("cannot start %s: %w", unit, err)
	}
	defer jobs.Close()
	job, err := u.manager.Start(ctx, unit, mode)
	if err != nil {
		return fmt.Errorf("cannot start %s: %w", unit, err)
	}
	return u.started(ctx, jobs, unit, job)
}

// started waits for a start job.
func (u units) started(ctx context.Context, jobs *systemd1.Jobs, unit string, job dbus.ObjectPath) error {
	result, err := jobs.Wait(ctx, job)
	if err != nil {
		return fmt.Errorf("cannot start %s: %w", unit, err)
	}
	switch result {
	case systemd1.ResultDone:
		return nil
	case systemd1.ResultLost:
		if err := u.confirmActive(ctx, unit); err != nil {
			return fmt.Errorf("cannot start %s: its job was lost when systemd restarted: %w", unit, err)
		}
		return nil
	}
	return fmt.Errorf("cannot start %s: job %s%s", unit, result, u.detail(ctx, unit))
}

// stop stops a unit and waits for its job. A unit that is not loaded is down.
func (u units) stop(ctx context.Context, unit string) error {
	jobs, err := u.manager.WatchJobs(ctx)
	if err != nil {
		return fmt.Errorf("cannot stop %s: %w", unit, err)
	}
	defer jobs.Close()
	job, err := u.manager.Stop(ctx, unit, replace)
	if systemd1.NoUnit(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot stop %s: %w", unit, err)
	}
	return u.stopped(ctx, jobs, unit, job)
}

// stopped waits for a stop job. A unit that fails while it stops is down as well, so the
// state of the unit decides, not the result of the job.
func (u units) stopped(ctx context.Context, jobs *systemd1.Jobs, unit string, job dbus.ObjectPath) error {
	result, err := jobs.Wait(ctx, job)
	if err != nil {
		return fmt.Errorf("cannot stop %s: %w", unit, err)
	}
	if result == systemd1.ResultDone {
		return nil
	}
	if err := u.confirmDown(ctx, unit); err != nil {
		return fmt.Errorf("cannot stop %s: job %s%s", unit, result, u.detail(ctx, unit))
	}
	return nil
}

// detail returns the result of the unit's last run in brackets, empty for success.
func (u units) detail(ctx context.Context, unit string) string {
	if result := u.manager.Result(ctx, unit); result != "" && result != "success" {
		return " (" + result + ")"
	}
	return ""
}

// confirmActive fails unless the unit is active.
func (u units) confirmActive(ctx context.Context, unit string) error {
	now, err := u.manager.Unit(ctx, unit)
	if err != nil || now.Active() {
		return err
	}
	return fmt.Errorf("%s is %s", unit, now.ActiveState)
}

// confirmUp fails unless the unit is active, or is a oneshot service that has exited
// successfully and has no RemainAfterExit=.
func (u units) confirmUp(ctx context.Context, unit string) error {
	now, err := u.manager.Unit(ctx, unit)
	switch {
	case err != nil:
		return err
	case now.Active():
		return nil
	case now.ActiveState == "inactive" && u.hasRun(ctx, unit):
		return nil
	case !now.Loaded():
		return fmt.Errorf("%s is %s (%s)", unit, now.ActiveState, now.LoadState)
	}
	return fmt.Errorf("%s is %s%s", unit, now.ActiveState, u.detail(ctx, unit))
}

func (u units) hasRun(ctx context.Context, unit string) bool {
	s, err := u.manager.Service(ctx, unit)
	return err == nil && s.Type == "oneshot" && !s.RemainAfterExit && s.Result == "success"
}

// confirmDown fails unless the unit is down.
func (u units) confirmDown(ctx context.Context, unit string) error {
	now, err := u.manager.Unit(ctx, unit)
	if err != nil {
		return err
	}
	if !now.Down() {
		return fmt.Errorf("%s is %s", unit, now.ActiveState)
	}
	return nil
}

// startUnit handles plans.StartUnit.
type startUnit struct{ units }

func (h startUnit) Prepare(ctx context.Context, s plans.Step) (json.RawMessage, error) {
	return h.prepare(ctx, s.Unit)
}

func (h startUnit) Apply(ctx context.Context, s plans.Step) error {
	return h.start(ctx, s.Unit, replace)
}

func (h startUnit) Undo(ctx context.Context, s plans.Step, before json.RawMessage) error {
	var was unitBefore
	if known, err := decodeUndo(before, &was); err != nil || !known || was.Up {
		return err
	}
	return h.stop(ctx, s.Unit)
}

func (h startUnit) Verify(ctx context.Context, s plans.Step) error { return h.confirmUp(ctx, s.Unit) }

// stopUnit handles plans.StopUnit.
type stopUnit struct{ units }

func (h stopUnit) Prepare(ctx context.Context, s plans.Step) (json.RawMessage, error) {
	return h.prepare(ctx, s.Unit)
}

func (h stopUnit) Apply(ctx context.Context, s plans.Step) error { return h.stop(ctx, s.Unit) }

func (h stopUnit) Undo(ctx context.Context, s plans.Step, before json.RawMessage) error {
	var was unitBefore
	if known, err := decodeUndo(before, &was); err != nil || !known || !was.Up {
		return err
	}
	return h.start(ctx, s.Unit, replace)
}

func (h stopUnit) Verify(ctx context.Context, s plans.Step) error { return h.confirmDown(ctx, s.Unit) }
