package client

import (
	"sync"

	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
)

const (
	busDaemon        = "org.freedesktop.DBus"
	nameOwnerChanged = busDaemon + ".NameOwnerChanged"
)

// signals is the connection's signal handler. godbus calls it on the goroutine
// that reads the socket, so it checks, stores and pokes, and never blocks. Only
// what the owner of the daemon's name sends is stored: anybody may send a signal
// that looks like the daemon's.
type signals struct {
	mu sync.Mutex
	// owner is the unique name behind the daemon's name, empty for none.
	owner string
	// moves counts the changes of owner.
	moves int
	// lost: the name was without an owner, or moved, since follow.
	lost   bool
	events []status.Event
	faults []error

	wake chan struct{} // capacity 1: something was stored
}

func newSignals() *signals { return &signals{wake: make(chan struct{}, 1)} }

// DeliverSignal implements dbus.SignalHandler.
func (s *signals) DeliverSignal(iface, member string, signal *dbus.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case signal.Name == nameOwnerChanged && signal.Sender == busDaemon:
		s.ownerChanged(signal.Body)
	case iface == busapi.Interface && signal.Path == busapi.Path && signal.Sender == s.owner && s.owner != "":
		s.store(member, signal.Body)
	case iface == busapi.PropertiesInterface && signal.Path == busapi.Path && signal.Sender == s.owner && s.owner != "":
		// It is a hint only: whoever wants the values asks for them.
	default:
		return
	}
	s.notify()
}

// Terminate implements dbus.Terminator: the connection has ended.
func (s *signals) Terminate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost = true
	s.notify()
}

func (s *signals) ownerChanged(body []any) {
	if len(body) != 3 || body[0] != busapi.BusName {
		return
	}
	s.owner, _ = body[2].(string)
	s.moves++
	s.lost = true
}

func (s *signals) store(member string, body []any) {
	event, err := busapi.DecodeEvent(member, body)
	if err != nil {
		s.faults = append(s.faults, err)
		return
	}
	s.events = append(s.events, event)
}

func (s *signals) notify() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// mark is where the owner stood before it was asked for.
func (s *signals) mark() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.moves
}

// own sets the owner that the bus named, unless it has moved since mark: then
// what NameOwnerChanged said is newer.
func (s *signals) own(owner string, mark int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.moves == mark {
		s.owner = owner
	}
	s.lost = s.owner == ""
}

// take returns what has come since the last take.
func (s *signals) take() (events []status.Event, faults []error, lost bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	events, faults = s.events, s.faults
	s.events, s.faults = nil, nil
	return events, faults, s.lost
}
