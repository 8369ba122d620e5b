package client

import (
	"context"
	"errors"
	"fmt"

	"github.com/dubnium/dubnium/daemon/status"
)

// FollowFinished subscribes to the ends of transitions; AwaitFinished waits for
// them from then on.
func (c *Client) FollowFinished(ctx context.Context) error { return c.follow(ctx) }

// AwaitFinished returns the transitions that ended since the last call, in order,
// and waits until there is one. Errors: ErrStopped when ctx ends, ErrNotRunning
// when the daemon has gone, or an announcement cannot be read.
func (c *Client) AwaitFinished(ctx context.Context) ([]status.Record, error) {
	for {
		events, faults, lost := c.signals.take()
		var finished []status.Record
		for _, e := range events {
			if e.Finished != nil {
				finished = append(finished, *e.Finished)
			}
		}
		switch {
		case len(faults) > 0:
			return finished, errors.Join(faults...)
		case len(finished) > 0:
			return finished, nil
		case lost:
			return nil, ErrNotRunning
		}
		select {
		case <-c.signals.wake:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w for a transition to end", ErrStopped)
		}
	}
}
