// Package probeserver is the server side of probeclient: a probe that systemd starts by a socket,
// and that writes one document to each connection.
//
// A read that exceeds its bound ends the process without an answer, which the daemon takes for
// unknown. The next connection starts a new process.
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
	// Idle is how long a probe waits for the next connection. One process serves all reads
	// of a transition, and does not keep its privileges for longer.
	Idle = 15 * time.Second
	// ReadBound is how long a read may take.
	ReadBound = 10 * time.Second
)

// Collect reads the host and returns one document, also on an error, which the document contains.
type Collect func(context.Context) (document any, err error)

// Probe serves documents.
type Probe struct {
	Name    string // of the program, in errors
	Collect Collect
	// Idle and ReadBound are the constants of the same names, except in tests.
	Idle      time.Duration
	ReadBound time.Duration
	Stderr    io.Writer
}

// Run serves the socket that systemd passed. Without one it writes one document to out.
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

// Listener returns the socket that systemd passed (sd_listen_fds(3)), nil for none.
func Listener() (*net.UnixListener, error) {
	listeners, err := activation.Listeners()
	if err != nil || len(listeners) == 0 {
		return nil, err
	}
	listener, ok := listeners[0].(*net.UnixListener)
	if !ok || len(listeners) > 1 {
		return nil, errors.New("cannot serve: systemd did not pass exactly one unix socket")
	}
	return listener, nil
}

// Serve answers one connection after the other, until there is none for Idle. A connection that
// arrives at that moment is not lost: systemd holds the socket too.
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

// answer writes one document. It ends the process if the read exceeds ReadBound.
func (p Probe) answer(ctx context.Context, out io.Writer) error {
	stuck := time.AfterFunc(p.ReadBound, func() {
		fmt.Fprintf(p.Stderr, "%s: a read took more than %s\n", p.Name, p.ReadBound)
		os.Exit(1)
	})
	defer stuck.Stop()
	document, err := p.Collect(ctx)
	return errors.Join(err, json.NewEncoder(out).Encode(document))
}
