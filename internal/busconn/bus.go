// Package busconn connects to the system bus, calls systemd and logind, and receives
// their signals.
//
// Any user on the host can send this process a signal that looks like systemd's. So a
// signal is accepted only from the connection that owns the service's name, and its
// content is not trusted: it is a hint to read again. (go-systemd's signal code checks
// neither sender nor body: one forged signal crashes it or completes a job.)
//
// Failure semantics: every call ends with its context or with the connection, whichever
// is first. A connection is not restored: Done is closed, and the process is expected to
// exit and to be restarted.
package busconn

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/internal/fault"
)

// Bus is a private connection to the system bus, so that traffic with clients does not
// delay calls to systemd.
type Bus struct {
	conn    *dbus.Conn
	absence time.Duration

	mu        sync.RWMutex
	listeners map[*Listener]struct{}
}

// maxReply is the longest message that a system bus passes on, in bytes: systemd lists all
// units of a host in one reply.
const maxReply = 32 << 20

// Connect connects to the system bus, or the bus of DBUS_SYSTEM_BUS_ADDRESS, and takes a
// name there.
func Connect(name string) (*Bus, error) { return connect(Options{Name: name}) }

// Dial connects to the bus at address.
func Dial(address string) (*Bus, error) { return connect(Options{Address: address}) }

func connect(o Options) (*Bus, error) {
	b := &Bus{absence: absence, listeners: map[*Listener]struct{}{}}
	o.MaxReply, o.Library = maxReply, []dbus.ConnOption{dbus.WithSignalHandler(b)}
	conn, err := Open(o)
	if err != nil {
		return nil, err
	}
	b.conn = conn
	return b, nil
}

// Close closes the connection, which ends every call and every wait.
func (b *Bus) Close() error { return b.conn.Close() }

// Done is closed when the connection has ended.
func (b *Bus) Done() <-chan struct{} { return b.conn.Context().Done() }

// SetAbsence sets how long Listener.Wait tolerates the absence of a service. It is for
// tests, and must be called before any wait.
func (b *Bus) SetAbsence(d time.Duration) { b.absence = d }

// UniqueName is the connection's own name on the bus.
func (b *Bus) UniqueName() string { return b.conn.Names()[0] }

// ErrDisconnected: the connection to the bus has ended.
var ErrDisconnected = errors.New("the connection to the bus is gone")

// ErrAbsent: the service is not on the bus, or left it before it replied. The call may
// have taken effect.
var ErrAbsent = errors.New("not on the bus")

// Call calls a method and returns the values of the reply. It does not start a service
// that is not running: a read must not change the host.
func (b *Bus) Call(ctx context.Context, name string, at dbus.ObjectPath, method string, args ...any) ([]any, error) {
	if err := fault.At(ctx, method, "call"); err != nil {
		return nil, err
	}
	call := b.conn.Object(name, at).CallWithContext(ctx, method, dbus.FlagNoAutoStart, args...)
	if call.Err == nil {
		call.Err = fault.At(ctx, method, "answered")
	}
	return call.Body, b.explain(ctx, name, call.Err)
}

// Activate starts a service that is activated by the bus. Errors: the reply of the bus, or
// as of Call.
func (b *Bus) Activate(ctx context.Context, name string) error {
	call := b.conn.BusObject().CallWithContext(ctx, busName+".StartServiceByName", 0, name, uint32(0))
	if IsError(call.Err, busName+".Error.ServiceUnknown") {
		return call.Err // explain would lose which error it is
	}
	return b.explain(ctx, busName, call.Err)
}

// Property reads one property.
func (b *Bus) Property(
	ctx context.Context, name string, at dbus.ObjectPath, iface, property string,
) (dbus.Variant, error) {
	return Single[dbus.Variant](b.Call(ctx, name, at, "org.freedesktop.DBus.Properties.Get", iface, property))
}

// Properties reads all properties of an interface.
func (b *Bus) Properties(ctx context.Context, name string, at dbus.ObjectPath, iface string) (Properties, error) {
	all, err := Single[map[string]dbus.Variant](b.Call(ctx, name, at, "org.freedesktop.DBus.Properties.GetAll", iface))
	return all, err
}

// Single returns the only value of a reply, of the Go type that the bus library decodes.
// dbus.Store would copy it, which costs as much as receiving it.
func Single[T any](body []any, err error) (value T, _ error) {
	if err != nil {
		return value, err
	}
	if len(body) == 1 {
		if value, ok := body[0].(T); ok {
			return value, nil
		}
	}
	return value, fmt.Errorf("the reply has an unexpected type")
}

// explain words the errors that are not an error reply of the service.
func (b *Bus) explain(ctx context.Context, name string, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("no reply from %s: %w", name, ctx.Err())
	case b.conn.Context().Err() != nil:
		return ErrDisconnected
	case IsError(err, "org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NameHasNoOwner"):
		return fmt.Errorf("%s is %w", name, ErrAbsent)
	case IsError(err, "org.freedesktop.DBus.Error.NoReply"): // the service left the bus before it replied
		return fmt.Errorf("%s is %w any more", name, ErrAbsent)
	}
	return err
}

// IsError reports whether err is a reply with one of these error names.
func IsError(err error, names ...string) bool {
	var reply dbus.Error
	if !errors.As(err, &reply) {
		return false
	}
	for _, name := range names {
		if reply.Name == name {
			return true
		}
	}
	return false
}

// parallel is the number of concurrent calls of Parallel. The bus allows 128 pending
// replies on one connection.
const parallel = 32

// Parallel calls do for 0 to n-1, several at a time, and returns the first error in that
// order.
func Parallel(n int, do func(i int) error) error {
	if n == 1 {
		return do(0)
	}
	errs := make([]error, n)
	slots := make(chan struct{}, parallel)
	var group sync.WaitGroup
	for i := range n {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			errs[i] = do(i)
		})
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
