package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dubnium/dubnium/internal/busconn/systemd1"
	"github.com/dubnium/dubnium/plans"
)

// askSessions handles plans.AskSessions: systemd runs the policy's end hook as each of
// the users. A hook that has not exited after the grace is stopped. The next step ends
// the sessions.
type askSessions struct{ units }

// hookUnit is the unit that runs the hook as one user.
func hookUnit(uid uint32) string { return fmt.Sprintf("dubnium-session-end@%d.service", uid) }

func (h askSessions) Prepare(context.Context, plans.Step) (json.RawMessage, error) { return nil, nil }

func (h askSessions) Verify(context.Context, plans.Step) error { return nil }

func (h askSessions) Undo(context.Context, plans.Step, json.RawMessage) error { return nil }

func (h askSessions) Apply(ctx context.Context, s plans.Step) error {
	errs := make([]error, len(s.Users))
	var asked sync.WaitGroup
	for i, uid := range s.Users {
		asked.Go(func() { errs[i] = h.ask(ctx, uid, s.Grace) })
	}
	asked.Wait()
	return errors.Join(errs...)
}

func (h askSessions) ask(ctx context.Context, uid uint32, grace time.Duration) error {
	unit := hookUnit(uid)
	bounded, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	err := h.start(bounded, unit, replace)
	switch {
	case err == nil:
		return nil
	case systemd1.NoUnit(err):
		return fmt.Errorf("cannot run the end hook of uid %d: %w", uid, err)
	case ctx.Err() == nil && bounded.Err() != nil:
		err = fmt.Errorf("it took longer than %s", grace)
	}
	// If ctx has ended, the stop fails at once and does not delay the end of the
	// transition: the unit has a timeout of its own.
	return errors.Join(
		fmt.Errorf("the end hook of uid %d failed (%s): %w", uid, unit, err), h.stop(ctx, unit),
	)
}
