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

// quanta are the units that force a quantum, one for each person at a screen. Each
// runs as that user, without any privilege, and is bound to audio-priority.service.
type quanta struct {
	bus     *busconn.Bus
	samples int
	log     *zap.Logger
	held    map[uint32]bool
}

// Unit forces the quantum of one user's PipeWire for as long as it is up.
func Unit(uid uint32) string { return fmt.Sprintf("dubnium-quantum@%d.service", uid) }

// hold starts the units of those who are there, and returns what follows who comes
// and goes.
func (q *quanta) hold(ctx context.Context) (keeper func(context.Context) error, said []string, err error) {
	if q.samples == 0 {
		return idle, nil, nil
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
	said = []string{fmt.Sprintf("a quantum of %d for the uids %v", q.samples, users)}
	return q.follow, said, nil
}

func (q *quanta) users(ctx context.Context) ([]uint32, error) {
	var s observer.Snapshot
	logind.New(q.bus).Read(ctx).Into(&s)
	if !s.Logind.Known() {
		return nil, fmt.Errorf("cannot tell whose quantum to force: %s", s.Logind.Reason)
	}
	return s.Logind.GraphicalUsers(), nil
}

// start waits until the quantum is forced. A unit that fails tries again by itself.
func (q *quanta) start(ctx context.Context, uid uint32) error {
	q.held[uid] = true
	if err := systemd1.NewUnits(q.bus).Start(ctx, Unit(uid)); err != nil {
		return fmt.Errorf("cannot force the quantum of uid %d: %s: %w", uid, Unit(uid), err)
	}
	return nil
}

func (q *quanta) stop(ctx context.Context, uid uint32) error {
	// Being bound to our unit, it may have gone already.
	if err := systemd1.NewUnits(q.bus).Stop(ctx, Unit(uid)); err != nil && !systemd1.NoUnit(err) {
		return fmt.Errorf("cannot let go of the quantum of uid %d: %w", uid, err)
	}
	delete(q.held, uid)
	return nil
}

// follow starts and stops units as people come and go. What cannot be done for
// somebody who comes later takes nothing from those who are there.
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
				q.log.Warn("quanta are not as policy has them", zap.Error(err))
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

// release waits until every unit has put its quantum back, so that this unit is
// down only after that. Without it they would go all the same, being bound to it.
func (q *quanta) release(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	var errs []error
	for uid := range q.held {
		errs = append(errs, q.stop(ctx, uid))
	}
	return errors.Join(errs...)
}
