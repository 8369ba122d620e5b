// Package logind looks at the sessions.
//
// A look reads every session again: signals only say when. A logind that cannot
// be asked, or that answers something else than documented, makes the facts
// unknown, with the reason; a session that ends during the look is gone.
package logind

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/dubnium/dubnium/internal/busconn"
	"github.com/dubnium/dubnium/internal/busconn/login1"
	"github.com/dubnium/dubnium/observer"
)

// Source looks at systemd-logind.
type Source struct {
	bus    *busconn.Bus
	client *login1.Client
	woken  atomic.Pointer[time.Time]
}

// New returns a source on bus.
func New(bus *busconn.Bus) *Source { return &Source{bus: bus, client: login1.New(bus)} }

// Name names the source in facts and logs.
func (s *Source) Name() string { return "logind" }

// Watch calls changed when a session or an inhibitor comes, goes or changes, when
// the machine is about to sleep or to end or has woken up, and when logind itself
// comes or goes. It fails when the connection to the bus has ended.
func (s *Source) Watch(ctx context.Context, changed func()) error {
	l, err := s.client.Listen(ctx, func() {
		now := time.Now()
		s.woken.Store(&now)
	})
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

// Read reads the sessions, the inhibitors and what the machine is about to do.
func (s *Source) Read(ctx context.Context) observer.Part {
	var part observer.Logind
	err := busconn.Parallel(3, func(i int) (err error) {
		switch i {
		case 0:
			part.Sessions, err = s.client.Sessions(ctx)
		case 1:
			part.Inhibitors, err = s.client.Inhibitors(ctx)
		case 2:
			part.Sleeping, part.ShuttingDown, err = s.client.Preparing(ctx)
		}
		return err
	})
	if err != nil {
		part = observer.Logind{Reading: observer.Reading{Reason: "logind cannot be read: " + err.Error()}}
	}
	part.At = time.Now()
	if woken := s.woken.Load(); woken != nil {
		part.WokenAt = *woken
	}
	return part
}
