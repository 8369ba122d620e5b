package busconn

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"sync/atomic"

	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/internal/wire"
)

// MaxUnasked bounds the method calls that are read and, unless Options set another limit,
// all other messages, in bytes. No method of the daemon and no signal that it subscribes
// to is longer.
const MaxUnasked = 64 << 10

// gate filters messages between the socket and the bus library. The library decodes
// whatever it reads, closes the connection if it cannot decode a message, and serves each
// call in a goroutine of its own. So it gets only replies and signals that it can decode.
// Method calls go to calls.
//
//   - A message that is too long is discarded unread; a call gets an error reply.
//   - A signal that was sent to this connection alone is discarded, unless by the bus
//     itself: services broadcast their signals.
//   - A reply that the library cannot decode becomes an error; such a signal is discarded.
//
// The library negotiates file descriptors only over its own transport, so the bus sends
// none.
type gate struct {
	net.Conn
	in *bufio.Reader
	// maxReply bounds replies, and maxSignal signals, in bytes.
	maxReply, maxSignal int
	calls               func(Call)
	conn                *dbus.Conn // the library's, by which replies are sent
	// begun: authentication has ended, and messages follow.
	begun atomic.Bool
	// pending is the rest of a passed message that the library has not read yet.
	pending []byte
	// message is the buffer of the current message, which is reused.
	message []byte
}

// Call is an incoming method call.
type Call struct {
	wire.Header
	// TooLong: the call was longer than MaxUnasked, and its body was not read.
	TooLong bool

	body []byte
	conn *dbus.Conn
}

// Context returns a context that ends with the connection.
func (c Call) Context() context.Context { return c.conn.Context() }

// Args reads the arguments (wire.Header.Args).
func (c Call) Args() ([]any, error) { return c.Header.Args(c.body) }

// Bare returns the call without its arguments, which is enough to reply to it.
func (c Call) Bare() Call {
	c.body = nil
	return c
}

// Reply sends a reply with values.
func (c Call) Reply(values ...any) error { return c.send(dbus.TypeMethodReply, values) }

// Fail sends an error reply.
func (c Call) Fail(err *dbus.Error) error {
	return c.send(dbus.TypeError, err.Body, header{dbus.FieldErrorName, err.Name})
}

type header struct {
	field dbus.HeaderField
	value any
}

func (c Call) send(t dbus.Type, body []any, more ...header) error {
	if c.NoReply() {
		return nil
	}
	msg := &dbus.Message{Type: t, Body: body, Headers: map[dbus.HeaderField]dbus.Variant{}}
	if len(body) > 0 {
		more = append(more, header{dbus.FieldSignature, dbus.SignatureOf(body...)})
	}
	for _, h := range append(more, header{dbus.FieldDestination, c.Sender}, header{dbus.FieldReplySerial, c.Serial}) {
		msg.Headers[h.field] = dbus.MakeVariant(h.value)
	}
	return c.conn.Send(msg, nil).Err
}

func newGate(socket net.Conn, calls func(Call)) *gate {
	return &gate{Conn: socket, in: bufio.NewReaderSize(socket, 16<<10), calls: calls}
}

// Write writes what the library sends. Messages follow the last line of authentication.
func (g *gate) Write(data []byte) (int, error) {
	if !g.begun.Load() && bytes.Equal(data, []byte("BEGIN\r\n")) {
		g.begun.Store(true)
	}
	return g.Conn.Write(data)
}

// Read returns the messages that pass.
func (g *gate) Read(data []byte) (int, error) {
	if !g.begun.Load() {
		return g.in.Read(data)
	}
	for len(g.pending) == 0 {
		if err := g.next(); err != nil {
			return 0, err
		}
	}
	n := copy(data, g.pending)
	g.pending = g.pending[n:]
	return n, nil
}

// next reads a message; if it passes, it is pending. Errors: that of the socket, or
// wire.ErrNotDBus. After either, nothing more can be read.
func (g *gate) next() error {
	var fixed [wire.FixedSize]byte
	if _, err := io.ReadFull(g.in, fixed[:]); err != nil {
		return err
	}
	f, err := wire.ParseFixed(fixed[:])
	if err != nil {
		return err
	}
	if f.Fields > MaxUnasked { // a path has no bound; the sender of such a message stays unknown
		return g.discard(f.Fields + f.Body)
	}
	g.message = append(g.message[:0], fixed[:]...)
	if err := g.read(f.Fields); err != nil {
		return err
	}
	h, err := wire.ParseHeader(f, g.message[wire.FixedSize:])
	if err != nil {
		return g.discard(f.Body)
	}
	if h.Body > g.limit(h) || g.unwanted(h) {
		return g.reject(h)
	}
	head := len(g.message)
	if err := g.read(h.Body); err != nil {
		return err
	}
	g.pass(h, g.message[head:])
	return nil
}

// limit is the longest body that is read, in bytes.
func (g *gate) limit(h wire.Header) int {
	switch h.Type {
	case wire.MethodReturn, wire.Error:
		return g.maxReply
	case wire.Signal:
		return g.maxSignal
	}
	return MaxUnasked
}

// unwanted reports whether the message is a signal to this connection alone that the bus
// did not send.
func (g *gate) unwanted(h wire.Header) bool {
	return h.Type == wire.Signal && h.Destination != "" && h.Sender != busName
}

// reject discards the body of a message. A call gets an error reply, and a reply becomes
// an error.
func (g *gate) reject(h wire.Header) error {
	if err := g.discard(h.Body); err != nil {
		return err
	}
	switch h.Type {
	case wire.MethodCall:
		g.calls(Call{Header: h, TooLong: true, conn: g.conn})
	case wire.MethodReturn, wire.Error:
		g.pending = h.Refusal(busName+".Error.LimitsExceeded", "the reply is too long")
	}
	return nil
}

// pass delivers a message to its receiver.
func (g *gate) pass(h wire.Header, body []byte) {
	switch h.Type {
	case wire.MethodCall:
		g.calls(Call{Header: h, body: bytes.Clone(body), conn: g.conn})
		return
	case wire.MethodReturn, wire.Error, wire.Signal:
	default:
		return // a type of a later version of the protocol
	}
	switch err := h.Check(body, true); {
	case err == nil:
		// The library copies it, so that the buffer can be reused.
		g.pending = g.message
		if head := h.Rewritten(); head != nil {
			g.pending = append(head, body...)
		}
	case h.Type != wire.Signal:
		g.pending = h.Refusal(busName+".Error.InvalidArgs", "the reply cannot be read: "+err.Error())
	}
}

// read appends n bytes to the message.
func (g *gate) read(n int) error {
	const kept = 4 * MaxUnasked // a larger buffer is rarely needed, and is not kept
	if cap(g.message) > kept && len(g.message)+n <= kept {
		g.message = append(make([]byte, 0, kept), g.message...)
	}
	start := len(g.message)
	if cap(g.message)-start < n {
		g.message = append(make([]byte, 0, start+n), g.message...)
	}
	g.message = g.message[:start+n]
	_, err := io.ReadFull(g.in, g.message[start:])
	return err
}

func (g *gate) discard(n int) error {
	_, err := g.in.Discard(n)
	return err
}
