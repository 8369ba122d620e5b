// Package probeclient asks a one-shot probe for its document.
//
// A one-shot probe sits behind a unix socket: one connection, one document, end
// of file (docs/decisions, "eyes and hands are apart"). The probe parses what
// the outside world says, so what it hands over is bounded here and judged by
// the caller, who decodes it. A look never hangs: every wait ends with the
// context. Errors are sentences without a subject, to stand behind "the NAME
// probe".
package probeclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
)

// MaxDocument bounds what is read from a probe: thousands of holders fit into
// it, and a probe that was turned against us cannot fill the daemon's memory.
const MaxDocument = 8 << 20

// Client fetches documents from one probe.
type Client struct {
	socket string
	// slot holds one token for the one connection that may be outstanding: a
	// probe that hangs must not be given company.
	slot chan struct{}
}

// New returns a client for the probe that listens on socket.
func New(socket string) *Client { return &Client{socket: socket, slot: make(chan struct{}, 1)} }

// Fetch connects and reads one document until the probe closes.
func (c *Client) Fetch(ctx context.Context) ([]byte, error) {
	select {
	case c.slot <- struct{}{}:
		defer func() { <-c.slot }()
	case <-ctx.Done():
		return nil, errors.New("is still busy with the look before this one")
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", c.socket)
	if err != nil {
		return nil, c.explain(ctx, err)
	}
	defer conn.Close()
	// Closing is what ends a Read that waits, whatever ended the context.
	defer context.AfterFunc(ctx, func() { conn.Close() })()

	data, err := io.ReadAll(io.LimitReader(conn, MaxDocument+1))
	switch {
	case err != nil:
		return nil, c.explain(ctx, err)
	case len(data) > MaxDocument:
		return nil, fmt.Errorf("said more than %d bytes", MaxDocument)
	case len(data) == 0:
		return nil, errors.New("closed the connection without a word")
	}
	return data, nil
}

func (c *Client) explain(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return errors.New("did not answer in time")
	case errors.Is(err, syscall.ENOENT):
		return fmt.Errorf("is not there: no socket %s", c.socket)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("is not there: nothing listens on %s", c.socket)
	}
	return fmt.Errorf("cannot be asked: %w", err)
}
