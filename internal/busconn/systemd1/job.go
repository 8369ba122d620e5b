package systemd1

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/internal/busconn"
)

// The results of a job (man 5 org.freedesktop.systemd1, JobRemoved).
const (
	ResultDone     = "done"
	ResultCanceled = "canceled"
	// ResultLost is not of systemd: the manager left the bus while the job ran, and the job
	// was gone when it was back. Only the state of the unit shows how it ended.
	ResultLost = "lost"
)

// Start queues a job that starts the unit, in a job mode of systemd (replace, isolate,
// ...).
func (c *Client) Start(ctx context.Context, unit, mode string) (dbus.ObjectPath, error) {
	return busconn.Single[dbus.ObjectPath](c.call(ctx, "StartUnit", unit, mode))
}

// Stop queues a job that stops the unit.
func (c *Client) Stop(ctx context.Context, unit, mode string) (dbus.ObjectPath, error) {
	return busconn.Single[dbus.ObjectPath](c.call(ctx, "StopUnit", unit, mode))
}

// Kill sends a signal to every process in the unit's control group. A unit that is down
// may have processes left there.
func (c *Client) Kill(ctx context.Context, unit string, signal int32) error {
	_, err := c.call(ctx, "KillUnit", unit, "all", signal)
	if err != nil {
		return fmt.Errorf("cannot kill the processes of %s: %w", unit, err)
	}
	return nil
}

// Job is a queued or running job.
type Job struct {
	ID                uint32
	Unit, Type, State string
	Path, UnitPath    dbus.ObjectPath
}

// ListJobs lists the jobs in the manager's queue.
func (c *Client) ListJobs(ctx context.Context) ([]Job, error) {
	var jobs []Job
	body, err := c.call(ctx, "ListJobs")
	if err == nil {
		err = dbus.Store(body, &jobs)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list jobs: %w", err)
	}
	return jobs, nil
}

// Jobs receives the results of jobs. It has to exist before a job is queued, or the
// result of a quick one is missed.
type Jobs struct {
	client   *Client
	listener *busconn.Listener

	mu    sync.Mutex
	ended map[dbus.ObjectPath]string
	seen  uint64 // the owner's generation whose signals are complete
}

// WatchJobs subscribes to the results of jobs.
func (c *Client) WatchJobs(ctx context.Context) (*Jobs, error) {
	j := &Jobs{client: c, ended: map[dbus.ObjectPath]string{}}
	listener, err := c.bus.Listen(ctx, Name, j.handle, busconn.Rule{
		Path: Path, Interface: managerInterface, Member: "JobRemoved",
	})
	if err != nil {
		return nil, err
	}
	j.listener = listener
	_, j.seen = listener.Owner()
	if err := c.Subscribe(ctx); err != nil {
		listener.Close()
		return nil, fmt.Errorf("cannot subscribe to systemd: %w", err)
	}
	return j, nil
}

// Close ends the subscription.
func (j *Jobs) Close() { j.listener.Close() }

// handle records the result of a job: JobRemoved(u id, o job, s unit, s result).
func (j *Jobs) handle(s *dbus.Signal) {
	if len(s.Body) != 4 {
		return
	}
	job, isPath := s.Body[1].(dbus.ObjectPath)
	result, isString := s.Body[3].(string)
	if !isPath || !isString {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.ended[job] = result
}

func (j *Jobs) result(job dbus.ObjectPath) (string, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	result, ended := j.ended[job]
	return result, ended
}

// Wait waits until the job has ended and returns its result. It fails when ctx or the
// connection ends, or when the manager stays absent from the bus. Only one goroutine may
// wait at a time.
func (j *Jobs) Wait(ctx context.Context, job dbus.ObjectPath) (string, error) {
	for {
		if result, ended := j.result(job); ended {
			return result, nil
		}
		present, generation := j.listener.Owner()
		if present && generation != j.seen {
			gone, err := j.catchUp(ctx, job, generation)
			if err != nil {
				return "", err
			}
			if gone {
				return ResultLost, nil
			}
		}
		if err := j.listener.Wait(ctx, nil); err != nil {
			return "", fmt.Errorf("its job has not ended: %w", err)
		}
	}
}

// catchUp subscribes to a manager that is back, and reports whether the job is gone
// without a signal of its result.
func (j *Jobs) catchUp(ctx context.Context, job dbus.ObjectPath, generation uint64) (gone bool, err error) {
	err = j.client.Subscribe(ctx)
	var jobs []Job
	if err == nil {
		jobs, err = j.client.ListJobs(ctx)
	}
	if err != nil {
		if errors.Is(err, busconn.ErrAbsent) {
			return false, nil // it has left again, which notifies the listener
		}
		return false, fmt.Errorf("cannot read the jobs of systemd: %w", err)
	}
	j.seen = generation
	queued := slices.ContainsFunc(jobs, func(q Job) bool { return q.Path == job })
	// The reply came after every signal that the manager sent before it.
	_, ended := j.result(job)
	return !queued && !ended, nil
}
