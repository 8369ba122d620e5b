package daemon

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/dubnium/dubnium/daemon/status"
)

// The bounds on what may be held: each one is told to everybody with each change. What
// root holds counts for itself, so that nobody can keep root from holding any.
const (
	maxInhibitors       = 64
	maxInhibitorsOfUser = 16
)

// Inhibit takes an inhibitor for a holder that is on the bus now, and returns its
// cookie. Errors: status.ErrTooMany; status.ErrBusy for one that comes too late
// for the transition that runs: what it asks for can no longer be had.
func (e *Controller) Inhibit(ctx context.Context, i status.Inhibitor) (cookie uint32, err error) {
	callErr := e.call(ctx, func() {
		cookie, err = e.inhibit(i)
		e.publish() // whoever has the cookie must find the inhibitor
	})
	return cookie, errors.Join(callErr, err)
}

func (e *Controller) inhibit(i status.Inhibitor) (uint32, error) {
	held := e.state.Inhibitors
	var own, shared int
	for _, other := range held {
		if other.UID == i.UID {
			own++
		}
		if (other.UID == 0) == (i.UID == 0) {
			shared++
		}
	}
	if shared >= maxInhibitors || i.UID != 0 && own >= maxInhibitorsOfUser {
		return 0, fmt.Errorf("%w inhibitors: %d are held, %d of them by uid %d", status.ErrTooMany, len(held), own, i.UID)
	}
	if e.running != nil {
		if err := e.running.state.Inhibit(time.Now(), i); err != nil {
			return 0, err
		}
	}
	i.ID, i.Since = e.newCookie(), time.Now()
	e.state.Inhibitors = append(slices.Clip(held), i)
	e.refreshRunning() // one that comes after the wait begins it again
	e.deps.Log.Info("an inhibitor is held", zap.Uint32("cookie", i.ID), zap.String("how", string(i.How)),
		zap.String("mode", string(i.Mode)), zap.String("who", i.Who), zap.String("why", i.Why), zap.Uint32("uid", i.UID))
	return i.ID, nil
}

// newCookie is a number that nobody can guess from another.
func (e *Controller) newCookie() uint32 {
	for {
		var random [4]byte
		_, _ = rand.Read(random[:]) // it ends the program rather than fail
		id := binary.NativeEndian.Uint32(random[:])
		taken := func(i status.Inhibitor) bool { return i.ID == id }
		if id != 0 && !slices.ContainsFunc(e.state.Inhibitors, taken) {
			return id
		}
	}
}

// Release gives an inhibitor back. mine tells whether it is the caller's to give
// back. Errors: status.ErrNoSuchInhibitor.
func (e *Controller) Release(ctx context.Context, cookie uint32, mine func(status.Inhibitor) bool) (err error) {
	callErr := e.call(ctx, func() {
		released := e.release(func(i status.Inhibitor) bool { return i.ID == cookie && mine(i) })
		if released == 0 {
			err = fmt.Errorf("%w with the cookie %d is yours", status.ErrNoSuchInhibitor, cookie)
		}
		e.publish()
	})
	return errors.Join(callErr, err)
}

// HolderLeft releases what a connection held that is not on the bus any more.
func (e *Controller) HolderLeft(ctx context.Context, holder string) error {
	return e.call(ctx, func() {
		e.release(func(i status.Inhibitor) bool { return i.Holder == holder })
		e.publish()
	})
}

func (e *Controller) release(which func(status.Inhibitor) bool) (released int) {
	kept := slices.DeleteFunc(slices.Clone(e.state.Inhibitors), func(i status.Inhibitor) bool {
		if !which(i) {
			return false
		}
		e.deps.Log.Info("an inhibitor was released", zap.Uint32("cookie", i.ID), zap.String("who", i.Who))
		return true
	})
	released = len(e.state.Inhibitors) - len(kept)
	e.state.Inhibitors = kept
	e.refreshRunning()
	return released
}
