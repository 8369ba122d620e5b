package bed

import (
	"context"
	"fmt"
	"time"

	"github.com/dubnium/dubnium/e2e/internal/wire"
)

const (
	// patience is how long a wait lasts when its context has no deadline.
	patience = 60 * time.Second
	// grace lets the agent, which knows what was last seen, be the one who reports a timeout.
	grace = 5 * time.Second
)

// wait has the agent wait until the context's deadline. It is one round trip.
func (v *VM) wait(ctx context.Context, req wire.Wait) error {
	req.Timeout = patience
	if deadline, ok := ctx.Deadline(); ok {
		req.Timeout = time.Until(deadline)
	}
	outer, cancel := context.WithTimeout(context.WithoutCancel(ctx), req.Timeout+grace)
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		if ctx.Err() == context.Canceled {
			cancel()
		}
	})
	defer stop()
	s, err := v.agent.Open(outer, wire.Request{Wait: &req}, nil)
	if err != nil {
		return err
	}
	_, err = s.Wait(outer)
	return err
}

// WaitUnit waits until a systemd unit is in a state: an ActiveState, or "ActiveState/SubState".
func (v *VM) WaitUnit(ctx context.Context, unit, state string) error {
	return v.wait(ctx, wire.Wait{Unit: unit, State: state})
}

// WaitFile waits until a path exists.
func (v *VM) WaitFile(ctx context.Context, path string) error {
	return v.wait(ctx, wire.Wait{Exists: path})
}

// WaitGone waits until a path does not exist.
func (v *VM) WaitGone(ctx context.Context, path string) error {
	return v.wait(ctx, wire.Wait{Gone: path})
}

// WaitProcessEnd waits until the process has ended.
func (v *VM) WaitProcessEnd(ctx context.Context, pid int) error {
	return v.wait(ctx, wire.Wait{PID: pid})
}

// WaitFor waits until a shell script succeeds, which the guest tries every 30 ms. what names the condition in the error.
func (v *VM) WaitFor(ctx context.Context, what, script string) error {
	return v.waitScript(ctx, what, "", script)
}

// WaitForAs is WaitFor as a user, with the user's environment.
func (v *VM) WaitForAs(ctx context.Context, user, what, script string) error {
	return v.waitScript(ctx, what, user, script)
}

func (v *VM) waitScript(ctx context.Context, what, user, script string) error {
	if err := v.wait(ctx, wire.Wait{Script: script, User: user}); err != nil {
		return fmt.Errorf("waited for %s: %w", what, err)
	}
	return nil
}
