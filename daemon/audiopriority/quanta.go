package audiopriority

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.uber.org/zap"

	"github.com/dubnium/dubnium/internal/busconn"
	"github.com/dubnium/dubnium/internal/busconn/systemd1"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/observer/logind"
)

// quanta are the units that force a quantum, one for each user with a graphical session.
// Each runs as that user, without privileges, and has BindsTo=audio-priority.service.
type quanta struct {
	bus     *busconn.Bus
	samples int
	log     *zap.Logger
	held    map[uint32]bool
}

// Unit is the name of the unit that forces the quantum of one user's PipeWire while it is
// active.
func Unit(uid uint32) string { return fmt.Sprintf("dubnium-quantum@%d.service", uid) }

// hold starts the units of the present users, and returns a function that follows the
// sessions. held describes what is held.
func (q *quanta) hold(ctx context.Context) (watch func(context.Context) error, held []string, err error) {
	if q.samples == 0 {
		return untilDone, nil, nil
	}
	users, err := q.users(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, uid := range users {
		if err := q.start(ctx, uid); err != nil {
			return nil, nil, errors.Join(err, q.release(ctx))
		}
	}
	return q.follow, []string{fmt.Sprintf("quantum %d for uids %v", q.samples, users)}, nil
}

func (q *quanta) users(ctx context.Context) ([]uint32, error) {
	var s observer.Snapshot
	logind.New(q.bus).Read(ctx).Into(&s)
	if !s.Logind.Known() {
		return nil, fmt.Errorf("cannot determine the users whose quantum to force: %s", s.Logind.Reason)
	}
	return s.Logind.GraphicalUsers(), nil
}

// start starts the unit of a user, and returns when the quantum is forced. systemd
// restarts a unit that fails.
func (q *quanta) start(ctx context.Context, uid uint32) error {
	q.held[uid] = true
	if err := systemd1.NewUnits(q.bus).Start(ctx, Unit(uid)); err != nil {
		return fmt.Errorf("cannot force the quantum of uid %d: %s: %w", uid, Unit(uid), err)
	}
	return nil
}

func (q *quanta) stop(ctx context.Context, uid uint32) error {
	// BindsTo= may have stopped it already.
	if err := systemd1.NewUnits(q.bus).Stop(ctx, Unit(uid)); err != nil && !systemd1.NoUnit(err) {
		return fmt.Errorf("cannot release the quantum of uid %d: %w", uid, err)
	}
	delete(q.held, uid)
	return nil
}

// follow starts and stops units as sessions begin and end. A failure is logged, and does
// not affect the units of other users.
func (q *quanta) follow(ctx context.Context) error {
	changed := make(chan struct{}, 1)
	watching := make(chan error, 1)
	go func() {
		watching <- logind.New(q.bus).Watch(ctx, func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		})
	}()
	for {
		select {
		case err := <-watching:
			return err
		case <-changed:
			if err := q.adjust(ctx); err != nil && ctx.Err() == nil {
				q.log.Warn("cannot apply the policy's quantum to all users", zap.Error(err))
			}
		}
	}
}

func (q *quanta) adjust(ctx context.Context) error {
	users, err := q.users(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, uid := range users {
		if !q.held[uid] {
			errs = append(errs, q.start(ctx, uid))
		}
	}
	for uid := range q.held {
		if !slices.Contains(users, uid) {
			errs = append(errs, q.stop(ctx, uid))
		}
	}
	return errors.Join(errs...)
}

// release stops the units and waits until each has restored its quantum, so that
// audio-priority.service is inactive only after that. Without it BindsTo= would stop them.
func (q *quanta) release(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	var errs []error
	for uid := range q.held {
		errs = append(errs, q.stop(ctx, uid))
	}
	return errors.Join(errs...)
}
