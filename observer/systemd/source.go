// Package systemd reads the system manager and the units that the policy names.
//
// A full read (Read) fetches every unit by name, and precedes every decision. An incremental read
// (ReadChanged) fetches only the units that have signalled. If the manager cannot be read or answers
// with invalid data, the reading is unknown, with a reason. A unit that does not exist is known.
package systemd

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/internal/busconn"
	"github.com/dubnium/dubnium/internal/busconn/systemd1"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// Source reads systemd. Read and ReadChanged must not be called concurrently.
type Source struct {
	client *systemd1.Client
	names  func(policy.Policy) []string
	last   observer.Systemd

	mu        sync.Mutex
	units     []string
	pattern   string                     // matches further units, empty for none
	replaced  chan struct{}              // closed and replaced when units or pattern change
	signalled map[string]dbus.ObjectPath // since the last read
	all       bool                       // any unit may have changed since the last read
}

// New returns a source for the units that names returns for a policy, which may be aliases, and for
// the loaded instances of the vLLM template of the policy.
func New(bus *busconn.Bus, names func(policy.Policy) []string, p policy.Policy) *Source {
	return &Source{
		client: systemd1.New(bus), names: names, units: names(p), pattern: p.VLLMInstances(),
		replaced: make(chan struct{}), all: true,
	}
}

// SetPolicy sets the units that are read to those of p.
func (s *Source) SetPolicy(p policy.Policy) {
	s.mu.Lock()
	defer s.mu.Unlock()
	units, pattern := s.names(p), p.VLLMInstances()
	if slices.Equal(units, s.units) && pattern == s.pattern {
		return
	}
	s.units, s.pattern, s.all = units, pattern, true
	close(s.replaced)
	s.replaced = make(chan struct{})
}

// watched returns the units to read, and a channel that is closed when they change.
func (s *Source) watched() (units []string, pattern string, replaced <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.units, s.pattern, s.replaced
}

// Name names the source in facts and logs.
func (s *Source) Name() string { return "systemd" }

// Watch calls changed when a read may have another result. It returns nil when ctx ends, and an error
// when the connection to the bus has ended or systemd rejects the subscription.
func (s *Source) Watch(ctx context.Context, changed func()) error {
	// Signals are lost while no Watch runs, so the next read is a full one.
	defer s.note(nil)
	for {
		units, pattern, replaced := s.watched()
		watching, stop := context.WithCancel(ctx)
		go func() { // ends with watching
			select {
			case <-replaced:
				stop()
			case <-watching.Done():
			}
		}()
		err := s.client.Watch(watching, units, pattern, func(units map[string]dbus.ObjectPath) {
			s.note(units)
			changed()
		})
		ended := watching.Err() == nil
		stop()
		if ctx.Err() != nil {
			return nil
		}
		if ended {
			return err
		}
	}
}

// note records the units that have signalled, nil if any unit may have.
func (s *Source) note(units map[string]dbus.ObjectPath) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = s.all || units == nil
	if s.signalled == nil {
		s.signalled = map[string]dbus.ObjectPath{}
	}
	maps.Copy(s.signalled, units)
}

// take returns and clears what was noted. It is called before a read, because a signal during a read
// requires another one.
func (s *Source) take() (signalled map[string]dbus.ObjectPath, all bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	signalled, all = s.signalled, s.all
	s.signalled, s.all = nil, false
	return signalled, all
}

// Read reads the state of the manager and every unit.
func (s *Source) Read(ctx context.Context) observer.Part {
	s.take()
	units, pattern, _ := s.watched()
	more, err := s.client.Matching(ctx, pattern)
	names := slices.Clone(units)
	for _, name := range more {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return s.readUnits(ctx, "", names, nil, func(ctx context.Context, names []string) ([]observer.Unit, error) {
		if err != nil {
			return nil, err
		}
		return s.client.Units(ctx, names)
	})
}

// ReadChanged reads the units that have signalled, and everything if any unit may have changed. It
// reads the state of the manager only until that has started: later changes (running, degraded) are
// not signalled and decide nothing, and the call would be half of the cost.
func (s *Source) ReadChanged(ctx context.Context) observer.Part {
	signalled, all := s.take()
	if all || !s.last.Known() {
		return s.Read(ctx)
	}
	names := slices.Collect(maps.Keys(signalled))
	state := s.last.State
	if !s.last.Started() {
		state = ""
	}
	read := func(ctx context.Context, names []string) ([]observer.Unit, error) {
		units := make([]observer.Unit, len(names))
		return units, busconn.Parallel(len(names), func(i int) (err error) {
			units[i], err = s.client.UnitAt(ctx, names[i], signalled[names[i]])
			return err
		})
	}
	return s.readUnits(ctx, state, names, s.last.Units, read)
}

// readUnits reads the units of these names, and the state of the manager if state is empty. others
// are the units that it keeps.
func (s *Source) readUnits(
	ctx context.Context, state string, names []string, others map[string]observer.Unit,
	read func(context.Context, []string) ([]observer.Unit, error),
) observer.Part {
	part := observer.Systemd{State: state, Units: make(map[string]observer.Unit, len(names)+len(others))}
	units, err := read(ctx, names)
	if state == "" && err == nil {
		part.State, err = s.client.State(ctx)
	}
	if err != nil {
		part = observer.Systemd{Reading: observer.Reading{Reason: "systemd cannot be read: " + err.Error()}}
	} else {
		maps.Copy(part.Units, others)
		for i, name := range names {
			part.Units[name] = units[i]
		}
	}
	part.At = time.Now()
	s.last = part
	return part
}
