// Package polkit asks the bus who sends a message and polkit what they may do.
//
// Failure semantics: only a clear yes is a yes. An error, a timeout, a reply of
// another shape and a polkit that is not there all mean denied.
package polkit

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/busapi"
)

const (
	service   = "org.freedesktop.PolicyKit1"
	path      = dbus.ObjectPath("/org/freedesktop/PolicyKit1/Authority")
	authority = service + ".Authority"
)

// allowUserInteraction is a bit of CheckAuthorizationFlags.
const allowUserInteraction uint32 = 1

// cancelTimeout bounds the call that takes a password prompt away.
const cancelTimeout = 5 * time.Second

// Authority is polkit, seen from one connection. A connection of its own keeps
// people who take their time over a password from using up the replies that the
// daemon may wait for on another.
type Authority struct {
	conn *dbus.Conn
	// prompts numbers the checks, so that each can be cancelled.
	prompts atomic.Uint64
}

// New makes an Authority that asks over conn.
func New(conn *dbus.Conn) *Authority { return &Authority{conn: conn} }

// UID asks the bus which user owns a unique name. The bus knows it from the
// socket; the client has no say in it.
func (a *Authority) UID(ctx context.Context, sender string) (uint32, error) {
	var uid uint32
	err := a.conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.GetConnectionUnixUser", 0, sender).Store(&uid)
	if err != nil {
		return 0, fmt.Errorf("cannot ask the bus for the user of %s: %w", sender, err)
	}
	return uid, nil
}

// subject is polkit's (sa{sv}).
type subject struct {
	Kind    string
	Details map[string]dbus.Variant
}

// result is polkit's (bba{ss}).
type result struct {
	Authorized bool
	Challenge  bool
	Details    map[string]string
}

// Authorize returns nil if and only if polkit says that sender may do action.
// The subject is the bus name, never a pid: a pid can be another process by the
// time polkit looks.
//
// polkit puts the details into the action's message, where that names them, as in
// $(mode).
func (a *Authority) Authorize(
	ctx context.Context, sender, action string, details map[string]string, interactive bool,
) error {
	if details == nil {
		details = map[string]string{}
	}
	var flags uint32
	if interactive {
		flags = allowUserInteraction
	}
	cancellation := "dubnium-" + strconv.FormatUint(a.prompts.Add(1), 10)
	who := subject{"system-bus-name", map[string]dbus.Variant{"name": dbus.MakeVariant(sender)}}
	var answer result
	err := a.conn.Object(service, path).CallWithContext(ctx, authority+".CheckAuthorization", 0,
		who, action, details, flags, cancellation).Store(&answer)
	switch {
	case ctx.Err() != nil:
		a.cancel(context.WithoutCancel(ctx), cancellation)
		return busapi.Refuse(busapi.ErrAccessDenied, "%s was not granted: nobody answered in time", action)
	case err != nil:
		return busapi.Refuse(busapi.ErrAccessDenied, "%s was not granted: cannot ask polkit: %v", action, err)
	case answer.Authorized:
		return nil
	case answer.Challenge && !interactive:
		return busapi.Refuse(busapi.ErrInteractionRequired, "%s needs authentication", action)
	}
	return busapi.Refuse(busapi.ErrAccessDenied, "%s was not granted", action)
}

// cancel takes the prompt of a check that nobody waits for off the screen. That
// it fails changes nothing: the check counts as denied already.
func (a *Authority) cancel(ctx context.Context, cancellation string) {
	ctx, stop := context.WithTimeout(ctx, cancelTimeout)
	defer stop()
	_ = a.conn.Object(service, path).CallWithContext(ctx, authority+".CancelCheckAuthorization", 0, cancellation).Err
}
