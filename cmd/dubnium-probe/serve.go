package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
)

const (
	// idle is how long a probe outlives the last look: long enough to serve a
	// transition's looks from one process, short enough to hold its privileges only
	// around them.
	idle = 15 * time.Second
	// lookBound is how long a look may take. A process that is stuck in one ends
	// itself, and the next connection gets a new one.
	lookBound = 10 * time.Second
)

// passedListener is the socket that systemd passed (sd_listen_fds(3)), nil for
// none.
func passedListener() (*net.UnixListener, error) {
	listeners, err := activation.Listeners()
	if err != nil || len(listeners) == 0 {
		return nil, err
	}
	listener, ok := listeners[0].(*net.UnixListener)
	if !ok || len(listeners) > 1 {
		return nil, errors.New("cannot serve: systemd passed something else than one unix socket")
	}
	return listener, nil
}

// serve answers whoever connects, one after the other, until nobody has for idle.
// A connection that comes just then waits in the socket, which systemd holds too.
func serve(ctx context.Context, listener *net.UnixListener, see sight, idle time.Duration, complaints io.Writer) error {
	for {
		if err := listener.SetDeadline(time.Now().Add(idle)); err != nil {
			return fmt.Errorf("cannot serve: %w", err)
		}
		conn, err := listener.Accept()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("cannot serve: %w", err)
		}
		stuck := time.AfterFunc(lookBound, func() {
			fmt.Fprintf(complaints, "dubnium-probe: a look took more than %s\n", lookBound)
			os.Exit(1)
		})
		if err := errors.Join(answer(ctx, see, conn), conn.Close()); err != nil {
			fmt.Fprintf(complaints, "dubnium-probe: %v\n", err)
		}
		stuck.Stop()
	}
}
