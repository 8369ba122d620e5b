package busconn

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/godbus/dbus/v5"
)

// Options configure a connection.
type Options struct {
	// Address is the address of the bus; empty for the system bus.
	Address string
	// Name is a well-known name to take, by which the bus policy protects the connection.
	// Empty: none.
	Name string
	// MaxReply bounds replies, and MaxSignal signals, in bytes. 0: MaxUnasked.
	MaxReply, MaxSignal int
	// Calls handles incoming method calls. It runs on the goroutine that reads from the
	// bus, so it must not block. nil: calls are rejected.
	Calls func(Call)
	// Library are options of the bus library.
	Library []dbus.ConnOption
}

// Open connects to the bus. Incoming messages pass a gate before the bus library decodes
// them. Errors: the bus cannot be reached, or another process owns the name.
func Open(o Options) (*dbus.Conn, error) {
	socket, err := dial(cmp.Or(o.Address, os.Getenv("DBUS_SYSTEM_BUS_ADDRESS"), systemBus))
	if err != nil {
		return nil, fmt.Errorf("cannot connect to the system bus: %w", err)
	}
	calls := o.Calls
	if calls == nil {
		calls = reject
	}
	gate := newGate(socket, calls)
	gate.maxReply, gate.maxSignal = cmp.Or(o.MaxReply, MaxUnasked), cmp.Or(o.MaxSignal, MaxUnasked)
	conn, err := dbus.NewConn(gate, o.Library...)
	if err != nil {
		return nil, errors.Join(err, socket.Close())
	}
	gate.conn = conn // nothing is read before authentication
	if err := conn.Auth(nil); err != nil {
		return nil, fmt.Errorf("cannot connect to the system bus: %w", errors.Join(err, conn.Close()))
	}
	if err := conn.Hello(); err != nil {
		return nil, fmt.Errorf("cannot connect to the system bus: %w", errors.Join(err, conn.Close()))
	}
	if o.Name != "" {
		if err := TakeName(conn, o.Name); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	return conn, nil
}

// TakeName makes the connection the owner of a well-known name.
func TakeName(conn *dbus.Conn, name string) error {
	reply, err := conn.RequestName(name, dbus.NameFlagDoNotQueue)
	if err == nil && reply != dbus.RequestNameReplyPrimaryOwner {
		err = errors.New("another process has it; is dubniumd running already?")
	}
	if err != nil {
		return fmt.Errorf("cannot take the bus name %s: %w", name, err)
	}
	return nil
}

// reject replies to a call on a connection without objects.
func reject(call Call) {
	// An error means that the connection has ended; its context ends as well.
	_ = call.Fail(dbus.NewError(busName+".Error.UnknownObject", []any{"this connection serves no objects"}))
}

// systemBus is the address of the system bus in the specification.
const systemBus = "unix:path=/var/run/dbus/system_bus_socket"

// dial connects to the first reachable address of a list.
func dial(addresses string) (net.Conn, error) {
	var errs []error
	for address := range strings.SplitSeq(addresses, ";") {
		path, err := socketPath(address)
		if err == nil {
			var socket net.Conn
			if socket, err = net.Dial("unix", path); err == nil {
				return socket, nil
			}
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// socketPath returns the path of a unix socket (D-Bus specification, "Server Addresses").
// A path that begins with @ is in the abstract namespace.
func socketPath(address string) (string, error) {
	rest, unix := strings.CutPrefix(address, "unix:")
	for pair := range strings.SplitSeq(rest, ",") {
		key, value, _ := strings.Cut(pair, "=")
		value, err := dbus.UnescapeBusAddressValue(value)
		switch {
		case err != nil:
			return "", fmt.Errorf("cannot read the bus address %q", address)
		case unix && key == "path":
			return value, nil
		case unix && key == "abstract":
			return "@" + value, nil
		}
	}
	return "", fmt.Errorf("cannot read the bus address %q: not a unix socket", address)
}
