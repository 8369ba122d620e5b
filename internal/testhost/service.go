package testhost

import (
	"errors"
	"fmt"
	"strings"

	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/internal/testhost/sim"
)

// service is one fake: a connection, a well-known name, and a tree of objects
// that is looked up for each call. godbus's own export tables are not safe to
// change while they are in use; a tree that changes needs a Handler.
type service struct {
	host *Host
	name string
	root string // the topmost object
	conn *dbus.Conn
	// lookup finds an object, nil if there is none. Called under the lock.
	lookup func(path dbus.ObjectPath) *object
	// children lists the elements below a path, for introspection.
	children func(path dbus.ObjectPath) []string
	// gone is told of bus names that have left. Called under the lock.
	gone func(name string)
}

// object is what a path shows at the moment of a call.
type object struct {
	methods map[string]methods
	props   map[string]map[string]any
	writing func(iface, name string, value dbus.Variant) error
}

// methods are those of one interface.
type methods map[string]method

// method has the signatures of its arguments and results.
type method struct {
	in, out string
	call    func(c *call) ([]any, error)
	// unlocked methods may take their time.
	unlocked bool
}

// call is one call as its handler sees it.
type call struct {
	svc    *service
	conn   *dbus.Conn
	msg    *dbus.Message
	path   dbus.ObjectPath
	iface  string
	member string
	sender string
	object *object
	model  *sim.Model
	quiet  bool // nobody waits for the reply
	// sent runs after the reply is on the wire.
	sent func()
}

func (c *call) str(i int) string { return c.msg.Body[i].(string) } // the signature was checked
func (c *call) u32(i int) uint32 { return c.msg.Body[i].(uint32) }
func (c *call) i32(i int) int32  { return c.msg.Body[i].(int32) }
func (c *call) bool(i int) bool  { return c.msg.Body[i].(bool) }

// connect joins the bus and takes the name; everything is served from the
// first moment on, for the handler is there before the name.
func (s *service) connect(address string) error {
	conn, err := dbus.Connect(address, dbus.WithHandler(s), dbus.WithSignalHandler(s))
	if err != nil {
		return fmt.Errorf("cannot connect %s: %w", s.name, err)
	}
	s.host.mu.Lock()
	s.conn = conn
	s.host.mu.Unlock()
	if s.gone != nil {
		err := conn.AddMatchSignal(dbus.WithMatchSender("org.freedesktop.DBus"),
			dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(2, ""))
		if err != nil {
			return fmt.Errorf("cannot watch the bus for %s: %w", s.name, err)
		}
	}
	reply, err := conn.RequestName(s.name, dbus.NameFlagDoNotQueue)
	if err != nil {
		return fmt.Errorf("cannot own %s: %w", s.name, err)
	}
	if reply != dbus.RequestNameReplyPrimaryOwner {
		return fmt.Errorf("cannot own %s: it is taken", s.name)
	}
	return nil
}

// disconnect leaves the bus, as a service that dies does.
func (s *service) disconnect() {
	s.host.mu.Lock()
	conn := s.conn
	s.host.mu.Unlock()
	if conn != nil {
		// The bus may have gone already. While it has not heard of the end of a
		// connection, the name is still that one's, and cannot be had by another.
		_, _ = conn.ReleaseName(s.name)
		_ = conn.Close()
	}
}

// DeliverSignal runs on the connection's reader.
func (s *service) DeliverSignal(iface, name string, signal *dbus.Signal) {
	if s.gone == nil || iface+"."+name != "org.freedesktop.DBus.NameOwnerChanged" || len(signal.Body) != 3 {
		return
	}
	if who, ok := signal.Body[0].(string); ok {
		s.host.mu.Lock()
		defer s.host.mu.Unlock()
		s.gone(who)
	}
}

// emit queues a signal. Called under the lock.
func (s *service) emit(path dbus.ObjectPath, name string, body ...any) {
	conn := s.conn
	if conn == nil {
		return // not on the bus yet: nobody can listen
	}
	s.host.out.push(func() { _ = conn.Emit(path, name, body...) }) // fails only when the connection ends
}

// changed queues PropertiesChanged.
func (s *service) changed(path dbus.ObjectPath, iface string, values map[string]any) {
	s.emit(path, propertiesInterface+".PropertiesChanged", iface, variants(values), []string{})
}

func variants(values map[string]any) map[string]dbus.Variant {
	out := make(map[string]dbus.Variant, len(values))
	for name, v := range values {
		out[name] = dbus.MakeVariant(v)
	}
	return out
}

// LookupObject, LookupInterface, LookupMethod and Call are godbus's way to a
// method; nothing is decided before Call, which sees all at one moment.
func (s *service) LookupObject(dbus.ObjectPath) (dbus.ServerObject, bool) { return anything{s}, true }

type anything struct{ svc *service }

func (a anything) LookupInterface(string) (dbus.Interface, bool) { return a, true }
func (a anything) LookupMethod(string) (dbus.Method, bool)       { return a, true }
func (a anything) NumArguments() int                             { return 0 }
func (a anything) NumReturns() int                               { return 0 }
func (a anything) ArgumentValue(int) any                         { return nil }
func (a anything) ReturnValue(int) any                           { return nil }

// DecodeArguments keeps the message. The reply goes through the outbox, in
// order with the signals, so godbus must not send one itself.
func (a anything) DecodeArguments(conn *dbus.Conn, sender string, msg *dbus.Message, _ []any) ([]any, error) {
	c := &call{svc: a.svc, conn: conn, msg: msg, sender: sender, quiet: msg.Flags&dbus.FlagNoReplyExpected != 0}
	c.path, _ = msg.Headers[dbus.FieldPath].Value().(dbus.ObjectPath)
	c.iface, _ = msg.Headers[dbus.FieldInterface].Value().(string)
	c.member, _ = msg.Headers[dbus.FieldMember].Value().(string)
	msg.Flags |= dbus.FlagNoReplyExpected
	return []any{c}, nil
}

// Call runs the method.
func (a anything) Call(args ...any) (_ []any, err error) {
	c := args[0].(*call)
	defer func() {
		if p := recover(); p != nil { // a panic here would end the whole test binary
			err = fmt.Errorf("%s.%s panicked: %v", c.iface, c.member, p)
		}
		err = busError(err)
	}()
	return nil, a.svc.serve(c)
}

func (s *service) serve(c *call) error {
	unlock := s.host.enter()
	defer func() { unlock() }()
	m, err := s.resolve(c)
	if err != nil {
		return err
	}
	if m.unlocked {
		unlock()
		unlock = func() {}
	}
	c.model = s.host.model
	body, err := m.call(c)
	if err != nil {
		return err
	}
	s.reply(c, body)
	return nil
}

func (s *service) reply(c *call, body []any) {
	if c.quiet {
		return
	}
	msg := &dbus.Message{Type: dbus.TypeMethodReply, Body: body, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldDestination: dbus.MakeVariant(c.sender),
		dbus.FieldReplySerial: dbus.MakeVariant(c.msg.Serial()),
	}}
	if len(body) > 0 {
		msg.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(body...))
	}
	s.host.out.push(func() {
		c.conn.Send(msg, nil)
		if c.sent != nil {
			c.sent()
		}
	})
}

// resolve finds the method and checks the arguments' signature.
func (s *service) resolve(c *call) (method, error) {
	c.object = s.lookup(c.path)
	if c.object == nil {
		c.object = &object{} // a node of the tree without anything on it
		if c.iface != introspectable {
			return method{}, &sim.Error{
				Name: "org.freedesktop.DBus.Error.UnknownObject", Text: fmt.Sprintf("Unknown object '%s'.", c.path),
			}
		}
	}
	m, ok := c.object.find(c.iface, c.member)
	if !ok {
		return method{}, &sim.Error{
			Name: "org.freedesktop.DBus.Error.UnknownMethod",
			Text: fmt.Sprintf("Unknown method %s or interface %s.", c.member, c.iface),
		}
	}
	got := ""
	if sig, ok := c.msg.Headers[dbus.FieldSignature].Value().(dbus.Signature); ok {
		got = strings.Trim(sig.String(), `"`)
	}
	if got != m.in {
		return method{}, &sim.Error{
			Name: sim.ErrInvalidArgs, Text: fmt.Sprintf("Invalid arguments '%s' to call %s.%s(), expecting '%s'.",
				got, c.iface, c.member, m.in),
		}
	}
	return m, nil
}

// find takes calls without an interface by the member's name alone, as the
// specification allows.
func (o *object) find(iface, member string) (method, bool) {
	if ms, ok := standard()[iface]; ok {
		m, ok := ms[member]
		return m, ok
	}
	if iface != "" {
		m, ok := o.methods[iface][member]
		return m, ok
	}
	for _, ms := range o.methods {
		if m, ok := ms[member]; ok {
			return m, true
		}
	}
	return method{}, false
}

// busError gives an error the name it has on the bus.
func busError(err error) error {
	var e *sim.Error
	if errors.As(err, &e) {
		return dbus.NewError(e.Name, []any{e.Text})
	}
	return err
}
