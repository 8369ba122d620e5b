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

// endSessions handles plans.EndSessions: it endings every graphical session and every
// greeter. A session has ended when logind has removed it. One in the state closing may
// stay so for ever and hold the GPU; logind reports the type tty once its compositor has
// exited. user@UID.service outlives the session; endManagers handles it.
type endSessions struct{ logind *login1.Client }

func (h endSessions) Prepare(ctx context.Context, step plans.Step) (json.RawMessage, error) {
	ending, err := h.ending(ctx, step)
	if err != nil {
		return nil, err
	}
	return encodeUndo(ending) // for the record only
}

// ending lists the sessions that have to end.
func (h endSessions) ending(ctx context.Context, step plans.Step) ([]observer.Session, error) {
	sessions, err := h.logind.Sessions(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(sessions, func(s observer.Session) bool {
		return s.Kind() != observer.KindGraphical && s.Kind() != observer.KindGreeter &&
			!slices.Contains(step.Sessions, s.ID)
	}), nil
}

// Apply terminates each session, kills those that outlive the grace, and waits until
// logind has removed them all, those that begin meanwhile included. It fails if a user
// logs in whom the guards have not judged, unless the step includes newcomers.
func (h endSessions) Apply(ctx context.Context, s plans.Step) error {
	signals, err := h.logind.Listen(ctx, nil)
	if err != nil {
		return fmt.Errorf("cannot end sessions: %w", err)
	}
	defer signals.Close()
	endings := map[string]*ending{}
	var left []observer.Session
	for {
		now, err := h.ending(ctx, s)
		switch {
		case errors.Is(err, busconn.ErrAbsent): // logind restarts: its sessions stay
		case err != nil:
			return fmt.Errorf("cannot end %s: %w", describe(left), errors.Join(err, endErrors(endings)))
		case len(now) == 0:
			return nil
		case !s.Newcomers && len(otherUsersSessions(now, s.Users)) > 0:
			return fmt.Errorf("%s began after the guards were evaluated", describe(otherUsersSessions(now, s.Users)))
		default:
			left = now
			h.terminateOrKill(ctx, left, endings, s.Grace)
		}
		if err := awaitChange(ctx, signals, endings); err != nil {
			return fmt.Errorf("cannot end %s: %w", describe(left), errors.Join(err, endErrors(endings)))
		}
	}
}

// otherUsersSessions are the graphical sessions of users that are not among users.
// Greeters are left out.
func otherUsersSessions(sessions []observer.Session, users []uint32) []observer.Session {
	return slices.DeleteFunc(slices.Clone(sessions), func(s observer.Session) bool {
		return s.Kind() != observer.KindGraphical || slices.Contains(users, s.UID)
	})
}

// ending is the progress of ending one session.
type ending struct {
	grace  time.Time // when it will be killed
	killed bool
	err    error // of logind, returned if the session stays
}

// terminateOrKill terminates each session that was not terminated yet, and kills it after
// its grace. It removes those that are gone from endings.
func (h endSessions) terminateOrKill(
	ctx context.Context, left []observer.Session, endings map[string]*ending, grace time.Duration,
) {
	maps.DeleteFunc(endings, func(id string, _ *ending) bool {
		return !slices.ContainsFunc(left, func(s observer.Session) bool { return s.ID == id })
	})
	for _, s := range left {
		e := endings[s.ID]
		switch {
		case e == nil:
			endings[s.ID] = &ending{grace: time.Now().Add(grace), err: h.logind.Terminate(ctx, s.ID)}
		case !e.killed && !time.Now().Before(e.grace):
			e.killed = true
			e.err = errors.Join(e.err, h.logind.Kill(ctx, s.ID, int32(unix.SIGKILL)))
		}
	}
}

// awaitChange waits for a signal of logind or for the end of a grace.
func awaitChange(ctx context.Context, signals *busconn.Listener, endings map[string]*ending) error {
	var graceEnd <-chan time.Time
	if at, waiting := firstGrace(endings); waiting {
		timer := time.NewTimer(time.Until(at))
		defer timer.Stop()
		graceEnd = timer.C
	}
	return signals.Wait(ctx, graceEnd)
}

func firstGrace(endings map[string]*ending) (at time.Time, waiting bool) {
	for _, e := range endings {
		if !e.killed && (!waiting || e.grace.Before(at)) {
			at, waiting = e.grace, true
		}
	}
	return at, waiting
}

func endErrors(endings map[string]*ending) error {
	var errs []error
	for _, e := range endings {
		errs = append(errs, e.err)
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

// Undo does nothing: only the user can log in again. The undo of the step that stopped
// the display manager brings the login screen back.
func (h endSessions) Undo(context.Context, plans.Step, json.RawMessage) error { return nil }

func (h endSessions) Verify(ctx context.Context, s plans.Step) error {
	left, err := h.ending(ctx, s)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("%s still exists", describe(left))
	}
	return nil
}
