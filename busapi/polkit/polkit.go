// Package polkit reads the user of a sender from the bus and authorizes it with polkit.
//
// Failure semantics: an error, a timeout, a malformed reply and a polkit that is not
// running all mean denied.
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

// cancelTimeout bounds the call that removes a password prompt.
const cancelTimeout = 5 * time.Second

// Authority is polkit, over one connection. It should have its own: the bus bounds the
// pending replies of a connection, and password prompts may stay open for minutes.
type Authority struct {
	conn *dbus.Conn
	// prompts numbers the checks, so that each can be cancelled.
	prompts atomic.Uint64
}

// New makes an Authority that uses conn.
func New(conn *dbus.Conn) *Authority { return &Authority{conn: conn} }

// UID is the user that owns a unique name. The bus reads it from the socket, so that a
// client cannot forge it.
func (a *Authority) UID(ctx context.Context, sender string) (uint32, error) {
	var uid uint32
	err := a.conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.GetConnectionUnixUser", 0, sender).Store(&uid)
	if err != nil {
		return 0, fmt.Errorf("cannot read the user of %s from the bus: %w", sender, err)
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

// Authorize returns nil if and only if polkit authorizes sender for action. The subject
// is the bus name, never a pid: the pid may belong to another process when polkit reads
// it.
//
// polkit replaces $(key) in the message of the action by the details.
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
		return busapi.Refuse(busapi.ErrAccessDenied, "%s was not granted: polkit gave no answer in time", action)
	case err != nil:
		return busapi.Refuse(busapi.ErrAccessDenied, "%s was not granted: cannot call polkit: %v", action, err)
	case answer.Authorized:
		return nil
	case answer.Challenge && !interactive:
		return busapi.Refuse(busapi.ErrInteractionRequired, "%s needs authentication", action)
	}
	return busapi.Refuse(busapi.ErrAccessDenied, "%s was not granted", action)
}

// cancel removes the prompt of a check that timed out. A failure changes nothing: the
// check counts as denied already.
func (a *Authority) cancel(ctx context.Context, cancellation string) {
	ctx, stop := context.WithTimeout(ctx, cancelTimeout)
	defer stop()
	_ = a.conn.Object(service, path).CallWithContext(ctx, authority+".CancelCheckAuthorization", 0, cancellation).Err
}
