// Package probeserver is the other end of probeclient: a probe that systemd starts for
// a socket, and that writes one document to everybody who connects.
//
// A look that takes too long ends the process without a word, which the daemon
// calls unknown; the next connection starts a fresh one.
package probeserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
)

const (
	// Idle is how long a probe outlives the last look: long enough to serve a
	// transition's looks from one process, short enough to hold its privileges only
	// around them.
	Idle = 15 * time.Second
	// LookBound is how long a look may take.
	LookBound = 10 * time.Second
)

// Result makes one document. Its error is in the document too.
type Result func(context.Context) (document any, err error)

// Probe is what serves.
type Probe struct {
	Name    string // of the program, for its complaints
	Collect Result
	Idle    time.Duration
	// LookBound ends the process that is stuck in a look.
	LookBound time.Duration
	Stderr    io.Writer
}

// Run serves the socket that systemd passed; without one it looks once and writes
// to out.
func (p Probe) Run(ctx context.Context, out io.Writer) error {
	listener, err := Listener()
	switch {
	case err != nil:
		return err
	case listener != nil:
		return p.Serve(ctx, listener)
	}
	return p.answer(ctx, out)
}

// Listener is the socket that systemd passed (sd_listen_fds(3)), nil for
// none.
func Listener() (*net.UnixListener, error) {
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

// Serve answers whoever connects, one after the other, until nobody has for Idle.
// A connection that comes just then waits in the socket, which systemd holds too.
func (p Probe) Serve(ctx context.Context, listener *net.UnixListener) error {
	for {
		if err := listener.SetDeadline(time.Now().Add(p.Idle)); err != nil {
			return fmt.Errorf("cannot serve: %w", err)
		}
		conn, err := listener.Accept()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("cannot serve: %w", err)
		}
		if err := errors.Join(p.answer(ctx, conn), conn.Close()); err != nil {
			fmt.Fprintf(p.Stderr, "%s: %v\n", p.Name, err)
		}
	}
}

// answer looks once and writes what was seen.
func (p Probe) answer(ctx context.Context, out io.Writer) error {
	stuck := time.AfterFunc(p.LookBound, func() {
		fmt.Fprintf(p.Stderr, "%s: a look took more than %s\n", p.Name, p.LookBound)
		os.Exit(1)
	})
	defer stuck.Stop()
	document, err := p.Collect(ctx)
	return errors.Join(err, json.NewEncoder(out).Encode(document))
}
