// Package client speaks the contract of busapi for programs that ask: it returns
// the same values that the daemon publishes.
//
// Failure semantics: an error wraps a sentinel of busapi or daemon/status when
// the daemon refused, ErrNoBus when there is no bus to ask over, ErrNotRunning
// when nobody has the daemon's name, ErrNoAnswer when whoever has it is stuck, and
// ErrOutcomeUnknown when the daemon went away while a transition was being waited
// for. Signals are believed only from
// the connection that owns the daemon's name.
package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/internal/busconn"
	"github.com/dubnium/dubnium/internal/errtext"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// The failures that are not the daemon's refusals.
var (
	// ErrNoBus: there is no system bus, or it does not talk to us.
	ErrNoBus = errors.New("cannot reach the system bus")
	// ErrNotRunning: the bus is there and the daemon is not.
	ErrNotRunning = errors.New("dubniumd is not running")
	// ErrNoAnswer: the daemon has its name and does not answer.
	ErrNoAnswer = errors.New("dubniumd does not answer")
	// ErrStopped: the caller's context ended first. What was accepted goes on.
	ErrStopped = errors.New("stopped waiting")
	// ErrOutcomeUnknown: the daemon went away during a transition. What became of
	// it is known when the daemon is back and has looked.
	ErrOutcomeUnknown = errors.New("dubniumd went away during the transition, its outcome is not known")
)

// readTimeout bounds a read. A daemon answers reads in under a millisecond; one
// that does not within this time never will.
const readTimeout = 10 * time.Second

// maxMessage is the longest message that a system bus passes on, 32 MiB: a history is
// long, and so is the record of a transition.
const maxMessage = 32 << 20

// lookTimeout bounds a fresh look, which the daemon bounds itself.
const lookTimeout = 90 * time.Second

// What a call says that asks for nothing special.
var (
	noFlags   uint64
	noOptions = busapi.Dict{}
)

// Client is a connection of its own to the system bus. Its methods may be called
// from many goroutines, but only one may wait for a transition.
type Client struct {
	conn    *dbus.Conn
	signals *signals
}

// Options are what a client may choose.
type Options struct {
	// Interactive lets polkit ask a person for a password.
	Interactive bool
}

// Open connects to the system bus (DBUS_SYSTEM_BUS_ADDRESS, where set). Its
// errors wrap ErrNoBus.
func Open(ctx context.Context, options Options) (*Client, error) {
	c := &Client{signals: newSignals()}
	connecting, stop := context.WithTimeout(ctx, readTimeout)
	defer stop()
	type opened struct {
		conn *dbus.Conn
		err  error
	}
	// godbus connects without a context; a bus that accepts and never answers
	// would hold us for ever.
	done := make(chan opened, 1)
	go func() {
		conn, err := busconn.Open(busconn.Options{MaxReply: maxMessage, MaxSignal: maxMessage, Library: []dbus.ConnOption{
			dbus.WithSignalHandler(c.signals), dbus.WithOutgoingInterceptor(flagsFor(options)),
		}})
		done <- opened{conn, err}
	}()
	select {
	case o := <-done:
		if o.err != nil {
			return nil, noBus(o.err)
		}
		c.conn = o.conn
		return c, nil
	case <-connecting.Done():
		go func() {
			if late := <-done; late.conn != nil {
				_ = late.conn.Close()
			}
		}()
		return nil, noBus(connecting.Err())
	}
}

func noBus(err error) error { return fmt.Errorf("%w: %s", ErrNoBus, errtext.Of(err)) }

// flagsFor sets the flag that godbus's Call strips from its arguments. Without
// it nobody is ever asked for a password.
func flagsFor(options Options) dbus.Interceptor {
	return func(msg *dbus.Message) {
		to, _ := msg.Headers[dbus.FieldDestination].Value().(string)
		if options.Interactive && msg.Type == dbus.TypeMethodCall && to == busapi.BusName {
			msg.Flags |= dbus.FlagAllowInteractiveAuthorization
		}
	}
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Properties reads everything the daemon publishes, at one moment.
func (c *Client) Properties(ctx context.Context) (busapi.Properties, error) {
	var all busapi.Dict
	if err := c.call(ctx, readTimeout, busapi.PropertiesInterface+".GetAll", busapi.Interface).Store(&all); err != nil {
		return busapi.Properties{}, problem(err)
	}
	return busapi.DecodeProperties(all)
}

// Observe has the daemon look afresh and returns the evidence in full.
func (c *Client) Observe(ctx context.Context) (busapi.Evidence, error) {
	var evidence busapi.Dict
	if err := c.call(ctx, lookTimeout, busapi.Interface+".Observe", noFlags, noOptions).Store(&evidence); err != nil {
		return busapi.Evidence{}, problem(err)
	}
	return busapi.DecodeEvidence(evidence)
}

// Explain says why the host is called what it is called, and what stands against
// mode, or against each mode when it is empty.
func (c *Client) Explain(ctx context.Context, mode policy.Mode) (observer.Explanation, error) {
	var explanation busapi.Dict
	if err := c.call(
		ctx, readTimeout, busapi.Interface+".Explain", string(mode), noFlags, noOptions,
	).Store(&explanation); err != nil {
		return observer.Explanation{}, problem(err)
	}
	return busapi.DecodeExplanation(explanation)
}

// Guards has the daemon look afresh and returns what the guards of a request for
// mode say, or those of the names.
func (c *Client) Guards(ctx context.Context, mode policy.Mode, names ...policy.GuardID) ([]guards.Verdict, error) {
	var verdicts []busapi.Dict
	if err := c.call(
		ctx, lookTimeout, busapi.Interface+".RunGuards", string(mode), guardWords(names), noFlags, noOptions,
	).Store(&verdicts); err != nil {
		return nil, problem(err)
	}
	return busapi.DecodeVerdicts(verdicts)
}

func guardWords(names []policy.GuardID) []string {
	words := make([]string, len(names))
	for i, name := range names {
		words[i] = string(name)
	}
	return words
}

// Policy says what the daemon goes by, and where each value comes from.
func (c *Client) Policy(ctx context.Context) (busapi.Policy, error) {
	var p busapi.Dict
	if err := c.call(ctx, readTimeout, busapi.Interface+".GetPolicy", noFlags, noOptions).Store(&p); err != nil {
		return busapi.Policy{}, problem(err)
	}
	return busapi.DecodePolicy(p)
}

// History returns the newest finished transitions that the filter chooses, the
// latest first.
func (c *Client) History(ctx context.Context, f status.Filter) ([]status.Record, error) {
	most := cmp.Or(f.Limit, busapi.DefaultHistory)
	var all []status.Record
	for more := true; more && len(all) < most; {
		f.Limit = most - len(all)
		var page []busapi.Dict
		if err := c.call(
			ctx, lookTimeout, busapi.Interface+".History", noFlags, busapi.EncodeFilter(f),
		).Store(&page); err != nil {
			return nil, problem(err)
		}
		records, err := busapi.DecodeHistory(page)
		if err != nil {
			return nil, err
		}
		all = append(all, records...)
		if more = len(page) > 0 && page[len(page)-1][busapi.KeyMore].Value() == true; more {
			f.Until = records[len(records)-1].Finished
		}
	}
	return all, nil
}

// Transition says how the transition of that id stands.
func (c *Client) Transition(ctx context.Context, id uint64) (busapi.Outcome, error) {
	var d busapi.Dict
	if err := c.call(ctx, readTimeout, busapi.Interface+".GetTransition", id, noFlags, noOptions).Store(&d); err != nil {
		return busapi.Outcome{}, problem(err)
	}
	return busapi.DecodeOutcome(d)
}

// Plan has the daemon look afresh and tells what a request for mode would do. It
// asks for nothing.
func (c *Client) Plan(ctx context.Context, mode policy.Mode) (status.Preview, error) {
	var plan busapi.Dict
	if err := c.call(
		ctx, lookTimeout, busapi.Interface+".Plan", string(mode), noFlags, noOptions,
	).Store(&plan); err != nil {
		return status.Preview{}, problem(err)
	}
	return busapi.DecodePreview(plan)
}

// Submit requests a mode and returns as soon as the request is accepted. The daemon may
// wait for a password first; only ctx bounds the call.
func (c *Client) Submit(ctx context.Context, mode policy.Mode, r RequestOptions) (id uint64, err error) {
	flags, options := r.encode()
	args := []any{string(mode), flags, options}
	method := ".RequestMode"
	if len(r.Skip) > 0 {
		method, args = ".ForceMode", slices.Insert(args, 1, any(guardWords(r.Skip)))
	}
	call := c.daemon().CallWithContext(ctx, busapi.Interface+method, dbus.FlagNoAutoStart, args...)
	return id, problem(call.Store(&id))
}

func (c *Client) daemon() dbus.BusObject { return c.conn.Object(busapi.BusName, busapi.Path) }

// call makes a bounded call that never starts the daemon: a stopped one stays
// stopped.
func (c *Client) call(ctx context.Context, timeout time.Duration, method string, args ...any) *dbus.Call {
	ctx, stop := context.WithTimeout(ctx, timeout)
	defer stop()
	return c.daemon().CallWithContext(ctx, method, dbus.FlagNoAutoStart, args...)
}

// problem gives a failed call one of this package's or the contract's errors.
func problem(err error) error {
	var reply dbus.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &reply):
		switch reply.Name {
		case "org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NameHasNoOwner":
			return ErrNotRunning
		case "org.freedesktop.DBus.Error.NoReply", "org.freedesktop.DBus.Error.Disconnected":
			return fmt.Errorf("%w: it left without an answer", ErrNotRunning)
		}
		return busapi.FromDBus(err)
	case errors.Is(err, context.DeadlineExceeded):
		return ErrNoAnswer
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%w for an answer", ErrStopped)
	case broken(err):
		return noBus(err)
	}
	return fmt.Errorf("cannot call dubniumd: %w", err)
}

// broken reports whether the connection itself failed.
func broken(err error) bool {
	var network *net.OpError
	return errors.Is(err, dbus.ErrClosed) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &network)
}
