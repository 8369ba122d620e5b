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

// Options shape a connection.
type Options struct {
	// Address is the bus's, empty for the system bus.
	Address string
	// Name is a well-known name to take: the bus policy protects a connection by its
	// names. Empty: none.
	Name string
	// MaxReply bounds the replies to calls of ours, and MaxSignal the signals, in bytes.
	// 0: MaxUnasked.
	MaxReply, MaxSignal int
	// Calls gets the method calls that arrive. It runs on the goroutine that reads from
	// the bus, so it must not block. nil: they are refused.
	Calls func(Call)
	// Library are the bus library's own options.
	Library []dbus.ConnOption
}

// Open connects to the bus. What others send passes a gate before the bus library
// decodes it. Errors: the bus cannot be reached, or somebody else has the name.
func Open(o Options) (*dbus.Conn, error) {
	socket, err := dial(cmp.Or(o.Address, os.Getenv("DBUS_SYSTEM_BUS_ADDRESS"), systemBus))
	if err != nil {
		return nil, fmt.Errorf("cannot connect to the system bus: %w", err)
	}
	calls := o.Calls
	if calls == nil {
		calls = refuse
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

// refuse answers a call on a connection that serves nothing.
func refuse(call Call) {
	// An error means that the connection has ended, which its context tells.
	_ = call.Fail(dbus.NewError(busName+".Error.UnknownObject", []any{"this connection serves no objects"}))
}

// systemBus is where the specification puts the system bus.
const systemBus = "unix:path=/var/run/dbus/system_bus_socket"

// dial connects to the first address of a list that can be reached.
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

// socketPath is the path of a unix socket (D-Bus specification, "Server Addresses").
// One that begins with an @ is in the abstract namespace.
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
	return "", fmt.Errorf("cannot read the bus address %q: it names no unix socket", address)
}
