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

// askSessions is plans.AskSessions: it has systemd run the policy's hook as each of
// the users, and stops what has not come to its end when the grace is over. Whether
// the sessions ended is the next step's business.
type askSessions struct{ units }

// hookUnit runs the hook of one user.
func hookUnit(uid uint32) string { return fmt.Sprintf("dubnium-session-end@%d.service", uid) }

func (a askSessions) Prepare(context.Context, plans.Step) (json.RawMessage, error) { return nil, nil }

func (a askSessions) Verify(context.Context, plans.Step) error { return nil }

func (a askSessions) Undo(context.Context, plans.Step, json.RawMessage) error { return nil }

func (a askSessions) Apply(ctx context.Context, s plans.Step) error {
	errs := make([]error, len(s.Users))
	var asked sync.WaitGroup
	for i, uid := range s.Users {
		asked.Go(func() { errs[i] = a.ask(ctx, uid, s.Grace) })
	}
	asked.Wait()
	return errors.Join(errs...)
}

func (a askSessions) ask(ctx context.Context, uid uint32, grace time.Duration) error {
	unit := hookUnit(uid)
	bounded, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	err := a.start(bounded, unit, replace)
	switch {
	case err == nil:
		return nil
	case systemd1.NoUnit(err):
		return fmt.Errorf("the session of uid %d was not asked to end: %w", uid, err)
	case ctx.Err() == nil && bounded.Err() != nil:
		err = fmt.Errorf("it took longer than %s", grace)
	}
	// Whatever it still does, its time is over. Nobody waits for a transition that is
	// told to stop: the unit has a bound of its own.
	return errors.Join(
		fmt.Errorf("the session of uid %d was asked to end by %s, which failed: %w", uid, unit, err), a.stop(ctx, unit),
	)
}
