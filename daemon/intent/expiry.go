package intent

import (
	"fmt"
	"time"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/observer"
)

// clockExpiry is when the terms expire that depend on the clock alone, 0 for never, and
// why.
func (l Lease) clockExpiry() (at time.Duration, why string) {
	if l.Terms.For > 0 {
		at, why = l.Reached+l.Terms.For, fmt.Sprintf("it was requested for %s", l.Terms.For)
	}
	if by := l.Reached + l.Terms.Confirm; l.Terms.Confirm > 0 && (at == 0 || by <= at) {
		at, why = by, fmt.Sprintf("nobody confirmed it within %s", l.Terms.Confirm)
	}
	return at, why
}

// expiry says why the mode is to end, empty while it lasts, and when to ask again.
func (l Lease) expiry(now time.Duration, idle Idleness) (why string, again time.Duration) {
	at, because := l.clockExpiry()
	if at > 0 && now >= at {
		return because, 0
	}
	if most := l.Terms.UntilIdle; most > 0 && idle.Since > 0 {
		if now >= idle.Since+most {
			return fmt.Sprintf("vLLM has had no request for %s", most), 0
		}
		at = Earlier(at, idle.Since+most)
	}
	return "", at
}

// Idleness is since when the inference server has had no request, as far as reads can
// tell. Time that nobody has read in does not count.
type Idleness struct {
	Since time.Duration // of the boot clock; 0: it is not idle, or that is not known
	read  time.Time     // the last read that counted
	at    time.Duration // when that was, by the boot clock
}

// seen takes in the latest read.
func (i Idleness) seen(now, patience time.Duration, latest observer.Inference) Idleness {
	followed := now-i.at <= patience
	if latest.At.Equal(i.read) {
		if !followed {
			i.Since = 0
		}
		return i
	}
	next := Idleness{read: latest.At, at: now}
	if requests, known := latest.Requests(); known && requests == 0 {
		next.Since = now
		if i.Since > 0 && followed {
			next.Since = i.Since
		}
	}
	return next
}

// drift is how much a published time may be off before it is published again. It is
// computed anew from the boot clock with each change, and each change is a signal.
const drift = 2 * time.Second

// WallTime is when the boot clock says at, given that it says now. It is the published
// time while that is still right.
func WallTime(published time.Time, at, now time.Duration) time.Time {
	wall := time.Now().Add(at - now).Round(0)
	if off := wall.Sub(published); off > -drift && off < drift {
		return published
	}
	return wall
}

// Earlier is the earlier of two times of the boot clock, where 0 is none.
func Earlier(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// Published is the lease for clients, nil for none. before is what is published now.
func (in Intent) Published(before *status.Lease, now time.Duration) *status.Lease {
	l := in.Lease
	if l == nil {
		return nil
	}
	var told status.Lease
	if before != nil {
		told = *before
	}
	next := status.Lease{
		ID: l.ID, Mode: l.Mode, BackTo: l.BackTo, By: l.By, UID: l.UID,
		For: l.Terms.For, UntilIdle: l.Terms.UntilIdle, Confirm: l.Terms.Confirm,
		ExpiredReason: l.Expired, LastFailure: l.LastFailure, Attempts: l.Attempts,
	}
	if l.Reached > 0 && l.Terms.For > 0 {
		next.Until = WallTime(told.Until, l.Reached+l.Terms.For, now)
	}
	if l.Reached > 0 && l.Terms.Confirm > 0 {
		next.ConfirmBy = WallTime(told.ConfirmBy, l.Reached+l.Terms.Confirm, now)
	}
	if l.Terms.UntilIdle > 0 && in.Idle.Since > 0 {
		next.IdleSince = WallTime(told.IdleSince, in.Idle.Since, now)
	}
	if l.Expired != "" && l.LastFailure != "" {
		next.Next = WallTime(told.Next, l.Next, now)
	}
	return &next
}
