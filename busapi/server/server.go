// Package server serves the view and the methods of the daemon on the bus.
//
// Failure semantics: every call gets a reply, except those that a user sends faster than
// refusals can be sent. A refused request has an error of the contract and changed
// nothing. A panic in a handler is logged and answered as an internal error. Any error
// during authorization means denied.
//
// Messages are decoded only after their size and types are checked (internal/busconn).
// The number and the rate of calls of each user except root are bounded (callers.go).
//
// Reads are served from the immutable view and never wait for the controller; the
// controller never waits for the bus (Notify).
package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
	"go.uber.org/zap"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/internal/busconn"
	"github.com/dubnium/dubnium/internal/ration"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// Controller is the part of the daemon that the server uses. Its methods are called
// from many goroutines.
type Controller interface {
	// View is the last published view. It does not wait.
	View() status.View
	// Request submits an authorized request. It returns when the request is accepted.
	// Errors: status.ErrBusy, status.ErrStalePlan, status.ErrShuttingDown.
	Request(ctx context.Context, r status.Request) (id uint64, err error)
	// Record returns the record of a finished transition, or
	// status.ErrNoSuchTransition.
	Record(ctx context.Context, id uint64) (status.Record, error)
	// History returns the newest records that match the filter, the latest first, and
	// whether there may be older ones.
	History(ctx context.Context, f status.Filter) (records []status.Record, more bool, err error)
	// Rejected records a request that was answered with an error.
	Rejected(r status.RejectedRequest)
	// Observe reads the host and returns the view of the fresh snapshot.
	Observe(ctx context.Context) (status.View, error)
	// Judge reads the host and returns the verdicts of the guards of a request, or of
	// the named ones, with the snapshot.
	Judge(ctx context.Context, r status.Request, ids []policy.GuardID) ([]guards.Verdict, observer.Snapshot, error)
	// Plan reads the host and returns the plan of a request, with the snapshot. Errors:
	// status.ErrBusy while a transition is running.
	Plan(ctx context.Context, r status.Request) (status.Preview, observer.Snapshot, error)
	// Inhibit takes an inhibitor and returns its cookie. Release releases one if mine
	// permits it, and HolderLeft those of a connection.
	Inhibit(ctx context.Context, i status.Inhibitor) (cookie uint32, err error)
	Release(ctx context.Context, cookie uint32, mine func(status.Inhibitor) bool) error
	HolderLeft(ctx context.Context, holder string) error
	// Cancel cancels a transition before its point of no return, Postpone postpones an
	// announced one.
	Cancel(ctx context.Context, id uint64, by string) error
	Postpone(ctx context.Context, id uint64, d time.Duration) error
	// Confirm keeps a mode that would end otherwise.
	Confirm(ctx context.Context, id uint64, c status.Confirmation) error
}

// Authorizer identifies and authorizes senders.
type Authorizer interface {
	// UID is the user of a unique bus name, from the bus. A name that has left the bus
	// is an error.
	UID(ctx context.Context, sender string) (uint32, error)
	// Authorize returns nil if and only if the sender is authorized for action.
	// interactive permits a password prompt, whose message may use details. Its errors
	// wrap busapi.ErrAccessDenied or busapi.ErrInteractionRequired.
	Authorize(ctx context.Context, sender, action string, details map[string]string, interactive bool) error
}

// Options describe the daemon.
type Options struct {
	Version string
	// Modes are those of the policy; nil means every mode.
	Modes []policy.Mode
}

// The bounds of a call.
const (
	// authTimeout bounds the wait for a password.
	authTimeout = 5 * time.Minute
	// callTimeout bounds the wait for the controller and the host.
	callTimeout = time.Minute
)

// Server is the object /org/dubnium/Mode1.
type Server struct {
	conn       *dbus.Conn // from Start on
	controller Controller
	authorizer Authorizer
	presence   Presence
	log        *zap.Logger
	options    Options

	tables    []interfaceTable
	publisher *publisher
	callers   *callers
	answers   chan func()
	rations   map[rationClass]*ration.Rations
	inFlight  *inFlight
	prompts   *inFlight
	reading   chan struct{} // capacity 1: held while the history is read

	holdersMu sync.Mutex
	holders   map[string]context.CancelFunc // ends the watch of a connection that holds inhibitors
}

// New makes a server. HandleCall is for the connection that Start gets.
func New(controller Controller, authorizer Authorizer, presence Presence, log *zap.Logger, options Options) *Server {
	if options.Modes == nil {
		options.Modes = policy.Modes()
	}
	s := &Server{
		controller: controller, authorizer: authorizer, presence: presence, log: log, options: options,
		callers: newCallers(authorizer.UID), answers: make(chan func(), maxAnswers),
		inFlight: newInFlight(maxInFlight, maxInFlightOfAll), prompts: newInFlight(maxPrompts, maxPromptsOfAll),
		reading: make(chan struct{}, 1),
		holders: map[string]context.CancelFunc{},
	}
	s.rationBy(time.Now)
	s.tables = s.exports()
	s.publisher = newPublisher(s.encode, s.emit, log)
	return s
}

// Start starts to serve and to publish, and then takes the name, so that a client that
// finds the name finds a working service. It fails if the name has an owner: two daemons
// must not run on one host.
func (s *Server) Start(conn *dbus.Conn) error {
	s.conn = conn
	go s.callers.run(conn.Context())
	go s.answer(conn.Context())
	s.publisher.start(s.controller.View())
	if err := busconn.TakeName(conn, busapi.BusName); err != nil {
		s.publisher.stop(context.Background())
		return err
	}
	return nil
}

// Stop sends pending signals, releases the name, and ends the publisher; ctx bounds it.
// The connection stays open.
func (s *Server) Stop(ctx context.Context) {
	s.publisher.stop(ctx)
	if call := s.conn.BusObject().CallWithContext(
		ctx, "org.freedesktop.DBus.ReleaseName", 0, busapi.BusName,
	); call.Err != nil {
		s.log.Warn("cannot release the bus name", zap.Error(call.Err))
	}
}

// Notify passes a new view and its events to the server. It never blocks: a subscriber
// that stops reading can make the bus stop reading from the daemon, and the controller
// must not wait for that.
func (s *Server) Notify(view status.View, events []status.Event) { s.publisher.notify(view, events) }

// interfaceTable is one interface's methods by name.
type interfaceTable struct {
	name    string
	methods map[string]method
	// anywhere: on every object.
	anywhere bool
}

func (t interfaceTable) serves(path dbus.ObjectPath) bool { return t.anywhere || path == busapi.Path }

// exports are the served interfaces, with the standard ones.
func (s *Server) exports() []interfaceTable {
	standard := func(handler any) method { return method{handler: handler, standard: true} }
	return []interfaceTable{
		{name: busapi.Interface, methods: s.ownMethods()},
		{name: busapi.PropertiesInterface, methods: map[string]method{
			"Get":    standard(s.get),
			"GetAll": standard(s.getAll),
			"Set":    standard(s.set),
		}},
		{name: busapi.IntrospectableInterface, anywhere: true, methods: map[string]method{
			"Introspect": standard(introspection),
		}},
		{name: busapi.PeerInterface, anywhere: true, methods: map[string]method{
			"Ping":         standard(func(*call) error { return nil }),
			"GetMachineId": standard(func(*call) (string, error) { return machineID() }),
		}},
	}
}

func (s *Server) ownMethods() map[string]method {
	return map[string]method{
		"RequestMode": {
			handler: s.requestMode, flags: busapi.FlagNoWait, options: requestOptions, changes: "request", ration: changes,
		},
		"ForceMode": {
			handler: s.forceMode, flags: busapi.FlagNoWait, options: requestOptions, changes: "force", ration: changes,
		},
		"Reconcile": {
			handler: s.reconcile, flags: busapi.FlagNoWait, options: []string{busapi.OptionTarget}, changes: "reconcile",
			ration: changes,
		},
		"CancelTransition":   {handler: s.cancelTransition, changes: "cancel", ration: changes},
		"PostponeTransition": {handler: s.postponeTransition, changes: "postpone", ration: changes},
		"ConfirmMode":        {handler: s.confirmMode, changes: "confirm", ration: changes},
		"Inhibit":            {handler: s.inhibit, changes: "inhibit", ration: holding},
		"ReleaseInhibitor":   {handler: s.releaseInhibitor, changes: "release", ration: holding},
		"GetTransition":      {handler: s.getTransition, ration: records},
		"History":            {handler: s.history, options: filterOptions, ration: records},
		"Observe":            {handler: s.observe, ration: looking},
		"RunGuards":          {handler: s.runGuards, ration: looking},
		"Plan":               {handler: s.plan, ration: looking},
		"CanRequest":         {handler: s.canRequest, ration: looking},
		"Explain":            {handler: s.explain},
		"GetPolicy":          {handler: s.getPolicy},
	}
}

// introspection describes the object, and for its parents the path to it.
func introspection(c *call) (string, error) {
	if c.path == busapi.Path {
		return busapi.XML, nil
	}
	below, above := strings.CutPrefix(string(busapi.Path), strings.TrimSuffix(string(c.path), "/")+"/")
	if !above {
		return "", unknownObject(c.path)
	}
	child, _, _ := strings.Cut(below, "/")
	return fmt.Sprintf("<node><node name=%q/></node>", child), nil
}

func unknownObject(path dbus.ObjectPath) error {
	return busapi.Refuse(busapi.ErrUnknownObject, "there is no object %q", string(path))
}

// machineID answers Peer.GetMachineId.
func machineID() (string, error) {
	id, err := os.ReadFile("/etc/machine-id")
	if err != nil {
		return "", errors.New("this machine has no readable /etc/machine-id")
	}
	return strings.TrimSpace(string(id)), nil
}

func (s *Server) encode(view status.View) busapi.Dict {
	return busapi.EncodeProperties(
		busapi.Properties{Version: s.options.Version, Modes: s.options.Modes, View: view.Public()},
	)
}

func (s *Server) emit(iface, member string, body ...any) error {
	if err := s.conn.Emit(busapi.Path, iface+"."+member, body...); err != nil {
		return fmt.Errorf("cannot send the signal %s: %w", member, err)
	}
	return nil
}
