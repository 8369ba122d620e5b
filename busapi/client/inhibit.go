package client

import (
	"context"

	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
)

// Inhibit takes an inhibitor, which lasts until it is released or the client is
// closed. It waits as long as a person needs for a password; ctx bounds it.
func (c *Client) Inhibit(ctx context.Context, i status.Inhibitor) (cookie uint32, err error) {
	call := c.daemon().CallWithContext(ctx, busapi.Interface+".Inhibit", dbus.FlagNoAutoStart,
		string(i.Mode), i.Who, i.Why, string(i.How), noFlags, noOptions)
	return cookie, problem(call.Store(&cookie))
}

// Keep takes the inhibitor again each time the daemon has been away, until ctx
// ends. note hears of each loss, by the error, and of each return, by nil. Follow
// comes first.
func (c *Client) Keep(ctx context.Context, i status.Inhibitor, note func(error)) {
	away := false
	for {
		select {
		case <-c.signals.wake:
		case <-ctx.Done():
			return
		}
		_, _, lost := c.signals.take()
		if !lost {
			continue
		}
		if !away {
			away = true
			note(ErrNotRunning)
		}
		if err := c.learnOwner(ctx); err != nil {
			continue // it is announced when it is back
		}
		if _, err := c.Inhibit(ctx, i); err != nil {
			note(err)
			return
		}
		away = false
		note(nil)
	}
}

// Release gives an inhibitor back.
func (c *Client) Release(ctx context.Context, cookie uint32) error {
	return problem(c.call(ctx, readTimeout, busapi.Interface+".ReleaseInhibitor", cookie, noFlags, noOptions).Err)
}

// Cancel halts the transition of that id before its point of no return. It waits
// as long as a person needs for a password; ctx bounds it.
func (c *Client) Cancel(ctx context.Context, id uint64) error {
	return problem(
		c.daemon().CallWithContext(
			ctx, busapi.Interface+".CancelTransition", dbus.FlagNoAutoStart, id, noFlags, noOptions,
		).Err,
	)
}

// Confirm lets the mode stay that the transition of that id led to. It waits as long
// as a person needs for a password; ctx bounds it.
func (c *Client) Confirm(ctx context.Context, id uint64) error {
	return problem(
		c.daemon().CallWithContext(ctx, busapi.Interface+".ConfirmMode", dbus.FlagNoAutoStart, id, noFlags, noOptions).Err,
	)
}

// Postpone puts the announced transition of that id off for so many seconds.
func (c *Client) Postpone(ctx context.Context, id uint64, seconds uint32) error {
	return problem(c.call(ctx, readTimeout, busapi.Interface+".PostponeTransition", id, seconds, noFlags, noOptions).Err)
}
