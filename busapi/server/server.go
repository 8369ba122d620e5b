// Package server puts the daemon's published values and its one changing method
// on the bus.
//
// Failure semantics: every call gets an answer. A request is refused with an
// error of the contract and then changed nothing; a defect in a handler is
// logged and answered as an internal error, because a panic in one of godbus's
// goroutines would end the daemon. Whatever goes wrong while a caller is being
// authorized means denied.
//
// Reads are served from the controller's immutable view and never wait for the
// engine; the engine never waits for the bus (Notify).
package server

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/internal/zap"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// Controller is what the server needs of the engine. Its methods are called from
// many goroutines.
type Controller interface {
	// View is the last published view. It does not wait.
	View() status.View
	// Request asks for a mode; it has been authorized. It returns when the request
	// is serialized: status.ErrBusy, status.ErrStalePlan or status.ErrShuttingDown
	// when it is not.
	Request(ctx context.Context, r status.Request) (id uint64, err error)
	// Record returns the record of a finished transition, or
	// status.ErrNoSuchTransition.
	Record(ctx context.Context, id uint64) (status.Record, error)
	// History returns the newest records that the filter chooses, the latest first.
	History(ctx context.Context, f status.Filter) ([]status.Record, error)
	// Refused hears of a request that was answered with an error. It does not fail.
	Refused(r status.Refusal)
	// Observe looks at the host afresh and returns the view after that look.
	Observe(ctx context.Context) (status.View, error)
	// Judge looks at the host afresh and returns what the guards of a request, or
	// those of the names, say, with what they looked at.
	Judge(ctx context.Context, r status.Request, ids []policy.GuardID) ([]guards.Verdict, observer.Snapshot, error)
	// Plan looks at the host afresh and returns what a request would do, with what
	// was looked at; it does nothing. status.ErrBusy while a transition runs.
	Plan(ctx context.Context, r status.Request) (status.Preview, observer.Snapshot, error)
	// Inhibit takes an inhibitor and returns its cookie; Release gives back one that
	// is the caller's, and HolderLeft those of a connection.
	Inhibit(ctx context.Context, i status.Inhibitor) (cookie uint32, err error)
	Release(ctx context.Context, cookie uint32, mine func(status.Inhibitor) bool) error
	HolderLeft(ctx context.Context, holder string) error
	// Cancel halts a transition before its point of no return, Postpone puts an
	// announced one off.
	Cancel(ctx context.Context, id uint64, by string) error
	Postpone(ctx context.Context, id uint64, d time.Duration) error
	// Confirm lets a mode stay that would go back else.
	Confirm(ctx context.Context, id uint64, c status.Confirmation) error
	// SessionUIDs lists the users with a graphical session now.
	SessionUIDs() []uint32
}

// Authorizer says who sends a message and what they may do.
type Authorizer interface {
	// UID is the user behind a unique bus name, as the bus itself knows it. A
	// name that has left the bus is an error.
	UID(ctx context.Context, sender string) (uint32, error)
	// Authorize returns nil if and only if the sender may do action; interactive
	// says that a person may be asked for a password. Its errors wrap
	// busapi.ErrAccessDenied or busapi.ErrInteractionRequired.
	Authorize(ctx context.Context, sender, action string, interactive bool) error
}

// Options are what the server says of the daemon.
type Options struct {
	Version string
	// Modes are those this host's policy offers; nil means every mode.
	Modes []policy.Mode
}

// The bounds of a call that waits for somebody else.
const (
	// authTimeout bounds the wait for a password.
	authTimeout = 5 * time.Minute
	// callTimeout bounds the wait for the engine and the host.
	callTimeout = time.Minute
)

// Server is the object /org/dubnium/Mode1.
type Server struct {
	conn       *dbus.Conn
	controller Controller
	authorizer Authorizer
	presence   Presence
	log        *zap.Logger
	options    Options

	publisher *publisher
	looks     *rateLimit
	prompts   *inFlight

	holdersMu sync.Mutex
	holders   map[string]context.CancelFunc // the watches, by the connections that hold inhibitors
}

// New makes a server on a connection to the bus; Start puts it there.
func New(conn *dbus.Conn, controller Controller, authorizer Authorizer, presence Presence, log *zap.Logger, options Options) *Server {
	if options.Modes == nil {
		options.Modes = policy.Modes()
	}
	s := &Server{
		conn: conn, controller: controller, authorizer: authorizer, presence: presence, log: log, options: options,
		looks:   newRateLimit(lookInterval, time.Now),
		prompts: newInFlight(maxPrompts),
		holders: map[string]context.CancelFunc{},
	}
	s.publisher = newPublisher(s.encode, s.emit, log)
	return s
}

// Start exports the object, begins to publish, and takes the name, in this
// order: whoever sees the name finds everything behind it. (godbus walks its
// objects unlocked, so nothing can be exported later either.) It fails when the
// name is taken: two daemons must not run on one host.
func (s *Server) Start() error {
	for _, table := range s.exports() {
		methods := make(map[string]any, len(table.methods))
		for name, handler := range table.methods {
			methods[name] = s.wrap(table.name+"."+name, handler)
		}
		if err := s.conn.ExportMethodTable(methods, busapi.Path, table.name); err != nil {
			return fmt.Errorf("cannot export %s: %w", table.name, err)
		}
	}
	s.publisher.start(s.controller.View())
	reply, err := s.conn.RequestName(busapi.BusName, dbus.NameFlagDoNotQueue)
	if err == nil && reply != dbus.RequestNameReplyPrimaryOwner {
		err = fmt.Errorf("another process has it; is dubniumd running already?")
	}
	if err != nil {
		s.publisher.stop(context.Background())
		return fmt.Errorf("cannot take the bus name %s: %w", busapi.BusName, err)
	}
	return nil
}

// Stop sends what has been notified, gives the name back, and ends the
// publisher; ctx bounds it. The connection stays open.
func (s *Server) Stop(ctx context.Context) {
	s.publisher.stop(ctx)
	if call := s.conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.ReleaseName", 0, busapi.BusName); call.Err != nil {
		s.log.Warn("cannot give the bus name back", zap.Error(call.Err))
	}
}

// Notify hands the server a new view and what happened on the way to it. It
// never blocks: the engine calls it from its one goroutine, and a subscriber
// that stops reading can make the bus stop reading from us.
func (s *Server) Notify(view status.View, events []status.Event) { s.publisher.notify(view, events) }

// interfaceTable is one interface's methods by name.
type interfaceTable struct {
	name    string
	methods map[string]any
}

// exports is everything served, standard interfaces included. Each handler is a
// func(call, arguments...) (results..., error). Peer is answered by godbus.
func (s *Server) exports() []interfaceTable {
	return []interfaceTable{
		{busapi.Interface, map[string]any{
			"RequestMode":        s.requestMode,
			"ForceMode":          s.forceMode,
			"CancelTransition":   s.cancelTransition,
			"PostponeTransition": s.postponeTransition,
			"ConfirmMode":        s.confirmMode,
			"Inhibit":            s.inhibit,
			"ReleaseInhibitor":   s.releaseInhibitor,
			"GetTransition":      s.getTransition,
			"Observe":            s.observe,
			"Explain":            s.explain,
			"RunGuards":          s.runGuards,
			"Plan":               s.plan,
			"History":            s.history,
			"GetPolicy":          s.getPolicy,
		}},
		{busapi.PropertiesInterface, map[string]any{
			"Get":    s.get,
			"GetAll": s.getAll,
			"Set":    s.set,
		}},
		{busapi.IntrospectableInterface, map[string]any{
			"Introspect": func(call) (string, error) { return busapi.XML, nil },
		}},
	}
}

func (s *Server) encode(view status.View) busapi.Dict {
	return busapi.EncodeProperties(busapi.Properties{Version: s.options.Version, Modes: s.options.Modes, View: view.Public()})
}

func (s *Server) emit(iface, member string, body ...any) error {
	if err := s.conn.Emit(busapi.Path, iface+"."+member, body...); err != nil {
		return fmt.Errorf("cannot send the signal %s: %w", member, err)
	}
	return nil
}
