package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubnium/dubnium/internal/busconn"
	"github.com/dubnium/dubnium/internal/busconn/login1"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/plans"
)

// endSessions is plans.EndSessions: it ends every graphical session and every
// greeter. A session is gone when logind has removed it; one that is `closing`
// may stay so for ever, and still holds the GPU; logind calls it a tty's as soon as
// its compositor has let go. user@UID.service outlives the session and is not this
// step's business.
type endSessions struct{ logind *login1.Client }

func (a endSessions) Prepare(ctx context.Context, step plans.Step) (json.RawMessage, error) {
	ending, err := a.ending(ctx, step)
	if err != nil {
		return nil, err
	}
	return encodeUndo(ending) // for whoever reads the journal
}

// ending lists the sessions that have to go.
func (a endSessions) ending(ctx context.Context, step plans.Step) ([]observer.Session, error) {
	sessions, err := a.logind.Sessions(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(sessions, func(s observer.Session) bool {
		return s.Kind() != observer.KindGraphical && s.Kind() != observer.KindGreeter &&
			!slices.Contains(step.Sessions, s.ID)
	}), nil
}

// Apply asks each session to end, kills what outlasts its grace, and waits until
// logind has removed them all, those too that begin in the meantime. It fails at
// the session of a person who was not there when the guards judged, unless the
// step takes newcomers in.
func (a endSessions) Apply(ctx context.Context, s plans.Step) error {
	signals, err := a.logind.Listen(ctx, nil)
	if err != nil {
		return fmt.Errorf("cannot end sessions: %w", err)
	}
	defer signals.Close()
	ends := map[string]*end{}
	var left []observer.Session
	for {
		now, err := a.ending(ctx, s)
		switch {
		case errors.Is(err, busconn.ErrAbsent): // logind restarts: its sessions stay
		case err != nil:
			return fmt.Errorf("cannot end %s: %w", describe(left), errors.Join(err, faults(ends)))
		case len(now) == 0:
			return nil
		case !s.Newcomers && len(otherUsersSessions(now, s.Users)) > 0:
			return fmt.Errorf(
				"there is %s now, who was not there when this was decided", describe(otherUsersSessions(now, s.Users)),
			)
		default:
			left = now
			a.terminateOrKill(ctx, left, ends, s.Grace)
		}
		if err := awaitChange(ctx, signals, ends); err != nil {
			return fmt.Errorf("cannot end %s: %w", describe(left), errors.Join(err, faults(ends)))
		}
	}
}

// otherUsersSessions are the sessions of people who are not among users. A greeter is
// nobody's.
func otherUsersSessions(sessions []observer.Session, users []uint32) []observer.Session {
	return slices.DeleteFunc(slices.Clone(sessions), func(s observer.Session) bool {
		return s.Kind() != observer.KindGraphical || slices.Contains(users, s.UID)
	})
}

// end is how far the ending of one session has got.
type end struct {
	grace  time.Time // when it will be killed
	killed bool
	fault  error // logind's refusal, told if the session stays
}

// terminateOrKill asks each session to end that was not asked yet, and kills it when its
// grace is over. It forgets those that are gone.
func (a endSessions) terminateOrKill(
	ctx context.Context, left []observer.Session, ends map[string]*end, grace time.Duration,
) {
	maps.DeleteFunc(ends, func(id string, _ *end) bool {
		return !slices.ContainsFunc(left, func(s observer.Session) bool { return s.ID == id })
	})
	for _, s := range left {
		e := ends[s.ID]
		switch {
		case e == nil:
			ends[s.ID] = &end{grace: time.Now().Add(grace), fault: a.logind.Terminate(ctx, s.ID)}
		case !e.killed && !time.Now().Before(e.grace):
			e.killed = true
			e.fault = errors.Join(e.fault, a.logind.Kill(ctx, s.ID, int32(unix.SIGKILL)))
		}
	}
}

// awaitChange waits until logind has something to say or a grace is over.
func awaitChange(ctx context.Context, signals *busconn.Listener, ends map[string]*end) error {
	var over <-chan time.Time
	if at, waiting := firstGrace(ends); waiting {
		timer := time.NewTimer(time.Until(at))
		defer timer.Stop()
		over = timer.C
	}
	return signals.Wait(ctx, over)
}

func firstGrace(ends map[string]*end) (at time.Time, waiting bool) {
	for _, e := range ends {
		if !e.killed && (!waiting || e.grace.Before(at)) {
			at, waiting = e.grace, true
		}
	}
	return at, waiting
}

func faults(ends map[string]*end) error {
	var errs []error
	for _, e := range ends {
		errs = append(errs, e.fault)
	}
	return errors.Join(errs...)
}

func describe(sessions []observer.Session) string {
	if len(sessions) == 0 {
		return "sessions"
	}
	words := make([]string, len(sessions))
	for i, s := range sessions {
		words[i] = fmt.Sprintf("session %s of %s (%s)", s.ID, s.User, s.State)
	}
	return strings.Join(words, ", ")
}

// Undo does nothing: nobody but the person can log in again. What brings the
// login screen back is the undo of the step that stopped the display manager.
func (a endSessions) Undo(context.Context, plans.Step, json.RawMessage) error { return nil }

func (a endSessions) Verify(ctx context.Context, s plans.Step) error {
	left, err := a.ending(ctx, s)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("there is still %s", describe(left))
	}
	return nil
}
