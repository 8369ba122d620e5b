// Package systemd looks at the system manager and at the units that policy
// names.
//
// A look reads everything again, by name; whoever acts on the answer has one. In
// between, a glance reads again only the units that have signalled. A manager
// that cannot be asked, or that answers something else than documented, makes the
// facts unknown, with the reason; a unit that does not exist is a fact.
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

// Source looks at systemd. One goroutine at a time looks or glances.
type Source struct {
	client *systemd1.Client
	names  func(policy.Policy) []string
	last   observer.Systemd

	mu        sync.Mutex
	units     []string
	pattern   string                     // of further units, empty for none
	moved     chan struct{}              // closed and replaced when the units are others
	signalled map[string]dbus.ObjectPath // since the last look or glance
	any       bool                       // it may be any unit
}

// New returns a source for the units that names finds in a policy, which may be
// aliases, and for what there is of the policy's template.
func New(bus *busconn.Bus, names func(policy.Policy) []string, p policy.Policy) *Source {
	return &Source{
		client: systemd1.New(bus), names: names, units: names(p), pattern: p.VLLMInstances(), moved: make(chan struct{}),
		any: true,
	}
}

// SetPolicy makes the units of p those that are looked at from now on.
func (s *Source) SetPolicy(p policy.Policy) {
	s.mu.Lock()
	defer s.mu.Unlock()
	units, pattern := s.names(p), p.VLLMInstances()
	if slices.Equal(units, s.units) && pattern == s.pattern {
		return
	}
	s.units, s.pattern, s.any = units, pattern, true
	close(s.moved)
	s.moved = make(chan struct{})
}

// watched are the units, and what closes when they are no longer these.
func (s *Source) watched() (units []string, pattern string, moved <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.units, s.pattern, s.moved
}

// Name names the source in facts and logs.
func (s *Source) Name() string { return "systemd" }

// Watch calls changed when a look may give another answer. It fails when the
// connection to the bus has ended or systemd refuses to be watched.
func (s *Source) Watch(ctx context.Context, changed func()) error {
	// Nobody notes what is signalled while nobody watches.
	defer s.note(nil)
	for {
		units, pattern, moved := s.watched()
		watching, stop := context.WithCancel(ctx)
		go func() { // ends with watching
			select {
			case <-moved:
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

func (s *Source) note(units map[string]dbus.ObjectPath) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.any = s.any || units == nil
	if s.signalled == nil {
		s.signalled = map[string]dbus.ObjectPath{}
	}
	maps.Copy(s.signalled, units)
}

// take returns what was noted. It is taken before anything is read: what is
// signalled during a look needs another one.
func (s *Source) take() (signalled map[string]dbus.ObjectPath, any bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	signalled, any = s.signalled, s.any
	s.signalled, s.any = nil, false
	return signalled, any
}

// Read reads the manager's state and every unit.
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

// ReadChanged reads the units that have signalled, and everything when it may be any of
// them. The manager's state is asked for until it has started: what it says later
// (running, degraded) nothing signals and nothing is decided by, and the question
// would be half of what a glance costs.
func (s *Source) ReadChanged(ctx context.Context) observer.Part {
	signalled, any := s.take()
	if any || !s.last.Known() {
		return s.Read(ctx)
	}
	names := slices.Collect(maps.Keys(signalled))
	state := s.last.State
	if !s.last.Started() {
		state = ""
	}
	return s.readUnits(ctx, state, names, s.last.Units, func(ctx context.Context, names []string) ([]observer.Unit, error) {
		units := make([]observer.Unit, len(names))
		return units, busconn.Parallel(len(names), func(i int) (err error) {
			units[i], err = s.client.UnitAt(ctx, names[i], signalled[names[i]])
			return err
		})
	})
}

// readUnits reads these units, and the manager's state unless it is given, and keeps
// what is known of others.
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
