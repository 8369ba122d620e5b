// Package logind reads the sessions and the inhibitors of systemd-logind.
//
// A read fetches all of them: signals only trigger it. If logind cannot be read or answers with
// invalid data, the reading is unknown, with a reason. A session that ends during the read is left
// out.
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

// Source reads systemd-logind.
type Source struct {
	bus    *busconn.Bus
	client *login1.Client
	woken  atomic.Pointer[time.Time]
}

// New returns a source on bus.
func New(bus *busconn.Bus) *Source { return &Source{bus: bus, client: login1.New(bus)} }

// Name names the source in facts and logs.
func (s *Source) Name() string { return "logind" }

// Watch calls changed when a session or an inhibitor appears, disappears or changes, before the
// machine suspends or shuts down, after it has resumed, and when logind starts or stops. It returns
// nil when ctx ends, and an error when the connection to the bus has ended.
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

// Read reads the sessions, the inhibitors, and whether the machine suspends or shuts down.
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
