package audio

import (
	"context"
	"fmt"

	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/internal/busconn"
	"github.com/dubnium/dubnium/internal/busconn/systemd1"
)

// SystemUnits are units of the system manager.
func SystemUnits(bus *busconn.Bus) Units { return systemUnits{systemd1.New(bus)} }

type systemUnits struct{ client *systemd1.Client }

// Start starts a unit and returns when it is up.
func (u systemUnits) Start(ctx context.Context, unit string) error {
	return u.run(ctx, unit, u.client.Start)
}

// Stop stops a unit and returns when it is down.
func (u systemUnits) Stop(ctx context.Context, unit string) error {
	return u.run(ctx, unit, u.client.Stop)
}

func (u systemUnits) run(
	ctx context.Context, unit string, queue func(context.Context, string, string) (dbus.ObjectPath, error),
) error {
	jobs, err := u.client.WatchJobs(ctx)
	if err != nil {
		return err
	}
	defer jobs.Close()
	job, err := queue(ctx, unit, "replace")
	if err != nil {
		return err
	}
	result, err := jobs.Wait(ctx, job)
	if err == nil && result != systemd1.ResultDone && result != systemd1.ResultLost {
		err = fmt.Errorf("the job of %s ended as %s", unit, result)
	}
	return err
}
