// Package probeclient requests a document from a one-shot probe.
//
// A one-shot probe listens on a unix socket, and writes one document to each connection
// (docs/decisions, "eyes and hands are apart"). It parses untrusted input, so its answer is untrusted
// too: this package bounds its size, and the caller validates it. Every wait ends with the context.
// Errors are sentences without a subject, which the caller puts behind "the NAME probe".
package probeclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
)

// MaxDocument is the largest document in bytes. Thousands of holders fit into it, and a compromised
// probe cannot exhaust the memory of the daemon.
const MaxDocument = 8 << 20

// Client fetches documents from one probe.
type Client struct {
	socket string
	// slot limits the client to one connection, so that requests do not pile up behind a
	// probe that hangs.
	slot chan struct{}
}

// New returns a client for the probe that listens on socket.
func New(socket string) *Client { return &Client{socket: socket, slot: make(chan struct{}, 1)} }

// Fetch connects and reads one document until the probe closes the connection.
func (c *Client) Fetch(ctx context.Context) ([]byte, error) {
	select {
	case c.slot <- struct{}{}:
		defer func() { <-c.slot }()
	case <-ctx.Done():
		return nil, errors.New("is still busy with the read before this one")
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", c.socket)
	if err != nil {
		return nil, c.explain(ctx, err)
	}
	defer conn.Close()
	// Closing the connection ends a blocked Read.
	defer context.AfterFunc(ctx, func() { conn.Close() })()

	data, err := io.ReadAll(io.LimitReader(conn, MaxDocument+1))
	switch {
	case err != nil:
		return nil, c.explain(ctx, err)
	case len(data) > MaxDocument:
		return nil, fmt.Errorf("sent more than %d bytes", MaxDocument)
	case len(data) == 0:
		return nil, errors.New("closed the connection without an answer")
	}
	return data, nil
}

func (c *Client) explain(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return errors.New("did not answer in time")
	case errors.Is(err, syscall.ENOENT):
		return fmt.Errorf("is missing: there is no socket %s", c.socket)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("is missing: nothing listens on %s", c.socket)
	}
	return fmt.Errorf("cannot be read: %w", err)
}
