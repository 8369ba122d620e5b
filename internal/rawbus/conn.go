package rawbus

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Conn is a connection to a bus. One goroutine may read while others send.
type Conn struct {
	socket *net.UnixConn
	reader *bufio.Reader
	name   string

	sending sync.Mutex
	serial  uint32
}

// Self is the user that the process runs as.
const Self = -1

// Dial connects to the bus at address as the user uid, which only root can be
// other than Self, and says hello.
func Dial(address string, uid int) (*Conn, error) {
	if uid == Self {
		uid = unix.Geteuid()
	}
	socket, err := DialSocket(address, uid)
	if err != nil {
		return nil, err
	}
	c := &Conn{socket: socket, reader: bufio.NewReader(socket)}
	if err := c.hello(uid); err != nil {
		_ = socket.Close()
		return nil, err
	}
	return c, nil
}

// DialSocket connects to the bus at address as the user uid, and says nothing. The bus
// takes the user from the socket, so it is enough that one thread is that user while it
// connects.
func DialSocket(address string, uid int) (socket *net.UnixConn, err error) {
	path, found := strings.CutPrefix(address, "unix:path=")
	if !found {
		return nil, fmt.Errorf("cannot connect to %s: it is no path of a socket", address)
	}
	path, _, _ = strings.Cut(path, ",")
	dial := func() (err error) {
		socket, err = net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
		return err
	}
	if uid == unix.Geteuid() {
		err = dial()
	} else {
		err = as(uid, dial)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot connect to %s as uid %d: %w", path, uid, err)
	}
	return socket, nil
}

// as does something on a thread that runs as that user.
func as(uid int, do func() error) (err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The thread ends with the goroutine, which does not unlock it, so that
		// nobody else runs as that user. The raw call changes this thread only.
		runtime.LockOSThread()
		keep := ^uintptr(0)
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, keep, uintptr(uid), keep); errno != 0 {
			err = fmt.Errorf("cannot become that user: %w", errno)
			return
		}
		err = do()
	}()
	<-done
	return err
}

// patience bounds the handshake.
const patience = 30 * time.Second

func (c *Conn) hello(uid int) error {
	if err := c.socket.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	identity := hex.EncodeToString([]byte(strconv.Itoa(uid)))
	if _, err := fmt.Fprintf(c.socket, "\x00AUTH EXTERNAL %s\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n", identity); err != nil {
		return fmt.Errorf("cannot authenticate: %w", err)
	}
	for _, want := range []string{"OK ", "AGREE_UNIX_FD"} {
		line, err := c.reader.ReadString('\n')
		if err != nil {
			return fmt.Errorf("cannot authenticate: %w", err)
		}
		if !strings.HasPrefix(line, want) {
			return fmt.Errorf("cannot authenticate: the bus says %q", strings.TrimSpace(line))
		}
	}
	reply, err := c.Ask(NewCall(BusName, BusPath, BusName, "Hello"))
	if err != nil {
		return fmt.Errorf("cannot say hello: %w", err)
	}
	if c.name = reply.Text; reply.Type != Return || c.name == "" {
		return fmt.Errorf("cannot say hello: %s %s", reply.ErrorName, reply.Text)
	}
	return c.socket.SetDeadline(time.Time{})
}

// The bus itself.
const (
	BusName = "org.freedesktop.DBus"
	BusPath = "/org/freedesktop/DBus"
)

// Name is the connection's own name.
func (c *Conn) Name() string { return c.name }

// Close ends the connection.
func (c *Conn) Close() error { return c.socket.Close() }

// SetDeadline bounds what is sent and read from now on; the zero time does not.
func (c *Conn) SetDeadline(t time.Time) error { return c.socket.SetDeadline(t) }

// Send gives the messages serials of the connection and writes them at once. It
// blocks for as long as the bus does not read.
func (c *Conn) Send(messages ...*Message) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	var all []byte
	for _, m := range messages {
		m.Serial = c.next()
		if encoded := m.Encode(); all == nil {
			all = encoded
		} else {
			all = append(all, encoded...)
		}
	}
	_, err := c.socket.Write(all)
	return err
}

// next skips 0, which is no serial.
func (c *Conn) next() uint32 {
	if c.serial++; c.serial == 0 {
		c.serial = 1
	}
	return c.serial
}

// SendDescriptors sends a message with copies of the descriptors.
func (c *Conn) SendDescriptors(m *Message, descriptors ...int) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	m.Serial = c.next()
	m.Fields = append(m.Fields, Field{FieldUnixFDs, Uint32(uint32(len(descriptors)))})
	encoded := m.Encode()
	n, _, err := c.socket.WriteMsgUnix(encoded, unix.UnixRights(descriptors...), nil)
	if err == nil && n < len(encoded) {
		_, err = c.socket.Write(encoded[n:])
	}
	return err
}

// Ask sends a call and reads until its answer. Nobody else may read meanwhile.
func (c *Conn) Ask(m *Message) (Received, error) {
	if err := c.Send(m); err != nil {
		return Received{}, err
	}
	for {
		r, err := c.Read()
		if err != nil || r.Answers(m.Serial) {
			return r, err
		}
	}
}

// Read reads the next message.
func (c *Conn) Read() (Received, error) { return read(c.reader) }
