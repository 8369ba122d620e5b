// Package systemd looks at the system manager and at the units that policy
// names.
//
// A look reads everything again, by name: signals only say when. A manager that
// cannot be asked, or that answers something else than documented, makes the
// facts unknown, with the reason; a unit that does not exist is a fact.
package systemd

import (
	"context"
	"time"

	"github.com/dubnium/dubnium/internal/busconn"
	"github.com/dubnium/dubnium/internal/busconn/systemd1"
	"github.com/dubnium/dubnium/observer"
)

// Source looks at systemd.
type Source struct {
	client *systemd1.Client
	units  []string
}

// New returns a source for these units, whose names may be aliases.
func New(bus *busconn.Bus, units []string) *Source {
	return &Source{client: systemd1.New(bus), units: units}
}

// Name names the source in facts and logs.
func (s *Source) Name() string { return "systemd" }

// Watch calls changed when a look may give another answer. It fails when the
// connection to the bus has ended or systemd refuses to be watched.
func (s *Source) Watch(ctx context.Context, changed func()) error {
	err := s.client.Watch(ctx, s.units, changed)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// Look reads the manager's state and every unit.
func (s *Source) Look(ctx context.Context) observer.Part {
	part := observer.Systemd{Units: make(map[string]observer.Unit, len(s.units))}
	units := make([]observer.Unit, len(s.units))
	err := busconn.Parallel(len(units)+1, func(i int) (err error) {
		if i == len(units) {
			part.State, err = s.client.State(ctx)
			return err
		}
		units[i], err = s.client.Unit(ctx, s.units[i])
		return err
	})
	part.At = time.Now()
	if err != nil {
		return observer.Systemd{Reading: observer.Reading{At: part.At, Reason: "systemd cannot be read: " + err.Error()}}
	}
	for i, name := range s.units {
		part.Units[name] = units[i]
	}
	return part
}
