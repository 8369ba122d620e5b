package client

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/policy"
)

// ProgressHandler hears how a request goes on, in order, from one goroutine. Any
// function may be nil.
type ProgressHandler struct {
	// Accepted: the request has this id.
	Accepted func(id uint64)
	// Prepare: the transition was announced.
	Prepare func(status.Prepare)
	// Step: a step of the transition got further.
	Step func(status.StepEvent)
	// Progress: a step that takes long is so far.
	Progress func(status.StepProgress)
}

// RequestOptions are the options of a request. The zero value sets none.
type RequestOptions struct {
	// Why is the reason for the record.
	Why string
	// Grace is the warning period, in whole seconds; nil for that of the policy.
	Grace *time.Duration
	// Skip are soft guards whose verdicts are ignored.
	Skip []policy.GuardID
	// NoWait ignores delay inhibitors (root).
	NoWait bool
	// Plan is the fingerprint of the only plan that may run; empty for any plan.
	Plan string
	// Terms limit how long the mode lasts, in whole seconds.
	Terms status.Terms
}

func (r RequestOptions) encode() (flags uint64, options busapi.Dict) {
	options = busapi.Dict{}
	if r.Why != "" {
		options[busapi.OptionReason] = dbus.MakeVariant(r.Why)
	}
	if r.Plan != "" {
		options[busapi.OptionPlan] = dbus.MakeVariant(r.Plan)
	}
	if r.Grace != nil {
		options[busapi.OptionGrace] = seconds(*r.Grace)
	}
	for key, term := range map[string]time.Duration{
		busapi.OptionFor: r.Terms.For, busapi.OptionUntilIdle: r.Terms.UntilIdle, busapi.OptionConfirm: r.Terms.Confirm,
	} {
		if term != 0 {
			options[key] = seconds(term)
		}
	}
	if r.NoWait {
		flags |= busapi.FlagNoWait
	}
	return flags, options
}

func seconds(d time.Duration) dbus.Variant {
	return dbus.MakeVariant(uint32(min(max(0, d.Seconds()), math.MaxUint32)))
}

// Request requests a mode and waits until the transition has ended. It returns the
// record whatever the result; an error means that there was no transition, or that its
// outcome is not known.
func (c *Client) Request(
	ctx context.Context, mode policy.Mode, r RequestOptions, follower ProgressHandler,
) (status.Record, error) {
	// Subscribe first: a short transition ends before the reply is read.
	if err := c.follow(ctx); err != nil {
		return status.Record{}, err
	}
	id, err := c.Submit(ctx, mode, r)
	if err != nil {
		return status.Record{}, err
	}
	if follower.Accepted != nil {
		follower.Accepted(id)
	}
	return c.wait(ctx, id, follower)
}

// follow subscribes to the daemon's signals and learns which connection is the
// daemon's.
func (c *Client) follow(ctx context.Context) error {
	ctx, stop := context.WithTimeout(ctx, readTimeout)
	defer stop()
	err := c.conn.AddMatchSignalContext(ctx, dbus.WithMatchSender(busDaemon), dbus.WithMatchInterface(busDaemon),
		dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, busapi.BusName))
	if err == nil {
		err = c.conn.AddMatchSignalContext(ctx, dbus.WithMatchSender(busapi.BusName),
			dbus.WithMatchInterface(busapi.Interface), dbus.WithMatchObjectPath(busapi.Path))
	}
	if err != nil {
		return problem(err)
	}
	return c.learnOwner(ctx)
}

// learnOwner asks the bus which connection is the daemon's.
func (c *Client) learnOwner(ctx context.Context) error {
	mark := c.signals.mark()
	var owner string
	if err := c.conn.BusObject().CallWithContext(
		ctx, busDaemon+".GetNameOwner", 0, busapi.BusName,
	).Store(&owner); err != nil {
		return problem(err)
	}
	c.signals.own(owner, mark)
	return nil
}

// wait returns the record of the transition. It asks once at the start: the
// transition may have ended before (a request that changed nothing, or one that
// joined). Then it waits for the signal.
func (c *Client) wait(ctx context.Context, id uint64, follower ProgressHandler) (status.Record, error) {
	outcome, err := c.Transition(ctx, id)
	if err != nil {
		return status.Record{}, afterAccepted(err, id)
	}
	if outcome.Finished != nil {
		_, _, err := c.progress(id, follower)
		return *outcome.Finished, err
	}
	announced, err := c.awaitFinished(ctx, id, follower)
	if err != nil {
		return status.Record{}, err
	}
	// The record that is kept is the last word; the announced one is as good when
	// the daemon has gone since.
	if outcome, err := c.Transition(ctx, id); err == nil && outcome.Finished != nil {
		return *outcome.Finished, nil
	}
	return announced, nil
}

// awaitFinished returns the record with which the transition's end was announced.
func (c *Client) awaitFinished(ctx context.Context, id uint64, follower ProgressHandler) (status.Record, error) {
	for {
		finished, lost, err := c.progress(id, follower)
		switch {
		case finished != nil:
			return *finished, nil
		case err != nil:
			return status.Record{}, err
		case lost:
			return status.Record{}, outcomeUnknown(id)
		}
		select {
		case <-c.signals.wake:
		case <-ctx.Done():
			return status.Record{}, stoppedWaiting(id)
		}
	}
}

// progress passes on what has come of the transition. A signal that cannot be
// read is an error: waiting on past it could be for ever.
func (c *Client) progress(id uint64, follower ProgressHandler) (finished *status.Record, lost bool, err error) {
	events, faults, lost := c.signals.take()
	for _, e := range events {
		switch {
		case e.Step != nil && e.Step.ID == id && follower.Step != nil:
			follower.Step(*e.Step)
		case e.Progress != nil && e.Progress.ID == id && follower.Progress != nil:
			follower.Progress(*e.Progress)
		case e.Prepare != nil && e.Prepare.Begin && e.Prepare.ID == id && follower.Prepare != nil:
			follower.Prepare(*e.Prepare)
		case e.Finished != nil && e.Finished.ID == id:
			finished = e.Finished
		}
	}
	return finished, lost, errors.Join(faults...)
}

// Follow subscribes to the daemon's changes; Changed waits for them from then on.
func (c *Client) Follow(ctx context.Context) error {
	err := c.conn.AddMatchSignalContext(ctx, dbus.WithMatchSender(busapi.BusName),
		dbus.WithMatchInterface(busapi.PropertiesInterface), dbus.WithMatchObjectPath(busapi.Path))
	if err != nil {
		return problem(err)
	}
	return c.follow(ctx)
}

// Changed returns when the daemon has announced anything since the last call.
// Errors: ErrStopped when ctx ends, ErrNotRunning when the daemon has gone.
func (c *Client) Changed(ctx context.Context) error {
	select {
	case <-c.signals.wake:
	case <-ctx.Done():
		return fmt.Errorf("%w for a change", ErrStopped)
	}
	if _, _, lost := c.signals.take(); lost {
		return ErrNotRunning
	}
	return nil
}

// afterAccepted turns an error that came after the request was accepted into what
// it means for the transition.
func afterAccepted(err error, id uint64) error {
	switch {
	case errors.Is(err, ErrNotRunning) || errors.Is(err, ErrNoBus):
		return outcomeUnknown(id)
	case errors.Is(err, ErrStopped):
		return stoppedWaiting(id)
	}
	return err
}

func outcomeUnknown(id uint64) error {
	return fmt.Errorf("transition %d: %w", id, ErrOutcomeUnknown)
}

func stoppedWaiting(id uint64) error {
	return fmt.Errorf("%w, transition %d goes on", ErrStopped, id)
}
