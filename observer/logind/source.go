// Package logind looks at the sessions.
//
// A look reads every session again: signals only say when. A logind that cannot
// be asked, or that answers something else than documented, makes the facts
// unknown, with the reason; a session that ends during the look is gone.
package logind

import (
	"context"
	"fmt"
	"time"

	"github.com/dubnium/dubnium/internal/busconn"
	"github.com/dubnium/dubnium/internal/busconn/login1"
	"github.com/dubnium/dubnium/observer"
)

// Source looks at systemd-logind.
type Source struct {
	bus    *busconn.Bus
	client *login1.Client
}

// New returns a source on bus.
func New(bus *busconn.Bus) *Source { return &Source{bus, login1.New(bus)} }

// Name names the source in facts and logs.
func (s *Source) Name() string { return "logind" }

// Watch calls changed when a session comes, goes or changes, and when logind
// itself does. It fails when the connection to the bus has ended.
func (s *Source) Watch(ctx context.Context, changed func()) error {
	l, err := s.client.Listen(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer l.Close()
	for {
		changed()
		select {
		case <-l.C():
		case <-ctx.Done():
			return nil
		case <-s.bus.Done():
			return fmt.Errorf("cannot watch logind: %w", busconn.ErrDisconnected)
		}
	}
}

// Look reads the sessions.
func (s *Source) Look(ctx context.Context) observer.Part {
	sessions, err := s.client.Sessions(ctx)
	part := observer.Logind{Reading: observer.Reading{At: time.Now()}, Sessions: sessions}
	if err != nil {
		part.Reason = "logind cannot be read: " + err.Error()
	}
	return part
}
