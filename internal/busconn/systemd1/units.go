package systemd1

import (
	"context"
	"fmt"

	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/internal/busconn"
)

// Units starts and stops units and waits for the jobs.
type Units struct{ client *Client }

// NewUnits returns Units on bus.
func NewUnits(bus *busconn.Bus) Units { return Units{New(bus)} }

// Start starts a unit and returns when its job has ended.
func (u Units) Start(ctx context.Context, unit string) error {
	return u.run(ctx, unit, u.client.Start)
}

// Stop stops a unit and returns when its job has ended.
func (u Units) Stop(ctx context.Context, unit string) error {
	return u.run(ctx, unit, u.client.Stop)
}

func (u Units) run(
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
	if err == nil && result != ResultDone && result != ResultLost {
		err = fmt.Errorf("the job of %s ended as %s", unit, result)
	}
	return err
}
