// Package pulse reads what an audio server has to say of its streams, clients
// and devices, over PulseAudio's native protocol, which pipewire-pulse speaks too.
//
// The server belongs to a user, who may have put anything at its socket. So every
// wait has an end, a message is bounded before it is read, and whatever is not
// the protocol ends the connection with an error. Nothing is believed beyond
// that: names are the clients' own words, and cleaned by who shows them.
//
// It is not github.com/jfreymuth/pulse because of that server; see
// docs/decisions/0007-audio.md.
package pulse

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

// version is the protocol that is asked for: the first in which streams say
// whether they are corked. Later ones only add what nobody here reads.
const version = 19

// patience is how long the server may take for all that is asked at once.
const patience = 3 * time.Second

// events is the mask of what to hear of (pulse/def.h, PA_SUBSCRIPTION_MASK):
// sinks, sources, sink inputs, source outputs and clients.
const events = 0x1 | 0x2 | 0x4 | 0x8 | 0x20

// maxStray bounds the messages that nobody asked for before an answer.
const maxStray = 100_000

// Conn is a connection to a server. It is used by one goroutine at a time.
type Conn struct {
	conn    net.Conn
	pending chan Message
	stop    chan struct{}
	tag     uint32
	changed bool
}

// Message is one message of the server, or why there are no more.
type Message struct {
	channel uint32
	body    []byte
	err     error
}

// Dial connects to the server at a socket and subscribes to its changes. The
// cookie is the user's; pipewire-pulse takes any.
func Dial(socket string, cookie []byte) (*Conn, error) {
	conn, err := net.DialTimeout("unix", socket, patience)
	if err != nil {
		return nil, err
	}
	c := &Conn{conn: conn, pending: make(chan Message), stop: make(chan struct{})}
	go c.read()
	if err := c.greet(cookie); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Close ends the connection.
func (c *Conn) Close() {
	close(c.stop)
	_ = c.conn.Close() // nothing was left unsaid
}

// read hands messages over one by one, so that a flood waits in the socket.
func (c *Conn) read() {
	for {
		var f Message
		f.channel, f.body, f.err = frame(c.conn)
		select {
		case c.pending <- f:
		case <-c.stop:
			return
		}
		if f.err != nil {
			return
		}
	}
}

func (c *Conn) greet(cookie []byte) error {
	padded := make([]byte, 256) // the protocol has this size and no other
	copy(padded, cookie)
	end := time.Now().Add(patience)
	v, err := c.ask(end, opAuth, func(m *message) { m.u32(version).bytes(padded) })
	if err != nil {
		return err
	}
	if theirs := v.u32() & 0xFFFF; v.err != nil || theirs < version {
		return fmt.Errorf("it speaks version %d of the protocol, which has no corked streams yet", theirs)
	}
	if _, err := c.ask(end, opSetClientName, func(m *message) { m.name("dubnium-probe") }); err != nil {
		return err
	}
	_, err = c.ask(end, opSubscribe, func(m *message) { m.u32(events) })
	return err
}

// ask sends a command and waits for its answer.
func (c *Conn) ask(end time.Time, op uint32, arguments func(*message)) (*values, error) {
	c.tag++
	m := command(op, c.tag)
	if arguments != nil {
		arguments(m)
	}
	if err := c.conn.SetWriteDeadline(end); err != nil {
		return nil, err
	}
	if _, err := c.conn.Write(m.wire()); err != nil {
		return nil, explain(err)
	}
	timer := time.NewTimer(time.Until(end))
	defer timer.Stop()
	for range maxStray {
		select {
		case f := <-c.pending:
			v, err := c.answer(f)
			if v != nil || err != nil {
				return v, err
			}
		case <-timer.C:
			return nil, errSilent
		}
	}
	return nil, errors.New("it says much and answers nothing")
}

var errSilent = errors.New("it did not answer in time")

func explain(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errSilent
	}
	return err
}

// answer returns the values of the answer that is waited for; none for a message
// that is something else.
func (c *Conn) answer(f Message) (*values, error) {
	if f.err != nil {
		return nil, f.err
	}
	if f.channel != control {
		return nil, nil
	}
	v := &values{rest: f.body}
	op, tag := v.u32(), v.u32()
	switch {
	case v.err != nil:
		return nil, v.err
	case op == opEvent:
		c.changed = true
	case op == opReply && tag == c.tag:
		return v, nil
	case op == opError && tag == c.tag:
		return nil, fmt.Errorf("it refuses with error %d", v.u32())
	}
	return nil, nil
}

// Messages is what the server says unasked; each has to be given to Heard.
func (c *Conn) Messages() <-chan Message { return c.pending }

// Changed reports whether the server has announced a change since State began.
func (c *Conn) Changed() bool { return c.changed }

// Heard takes a message. Its error says that the connection is over.
func (c *Conn) Heard(f Message) error {
	c.tag++ // nobody waits for an answer now
	_, err := c.answer(f)
	return err
}

// Down reports whether err of Dial says that no server is there: nothing has
// gone wrong, nobody listens.
func Down(err error) bool {
	return errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED)
}
