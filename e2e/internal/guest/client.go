// Package guest is the host's side of the link to the agent in the test machine.
//
// A stream ends with the agent's Result, with the machine's end, with a reboot of the guest, or with its context; each
// of the last three is an error that says so. Nothing hangs on a guest that is gone.
package guest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/dubnium/dubnium/e2e/internal/wire"
)

// ErrRebooted ends the streams of a guest that has started again.
var ErrRebooted = errors.New("the guest has rebooted")

// Client multiplexes streams over the link. Its methods may be called from any goroutine.
type Client struct {
	conn net.Conn

	writing sync.Mutex
	buf     []byte

	mu      sync.Mutex
	next    uint32
	streams map[uint32]*Stream
	bootID  string
	booted  chan struct{} // closed and replaced when bootID changes, and at the end
	err     error         // why the link ended
}

// NewClient takes the link over.
func NewClient(conn net.Conn) *Client {
	c := &Client{conn: conn, streams: map[uint32]*Stream{}, booted: make(chan struct{})}
	go c.read()
	return c
}

func (c *Client) read() {
	in := bufio.NewReaderSize(c.conn, 256<<10)
	for {
		f, err := wire.Read(in)
		if err != nil {
			c.end(fmt.Errorf("the machine is gone: %w", err))
			return
		}
		if f.Kind == wire.Hello {
			var g wire.Greeting
			if f.Decode(&g) == nil {
				c.greet(g.BootID)
			}
			continue
		}
		c.mu.Lock()
		s := c.streams[f.ID]
		c.mu.Unlock()
		if s != nil { // else it has been given up
			s.take(f)
		}
	}
}

// greet notes that an agent has started: the streams of the one before have lost theirs.
func (c *Client) greet(bootID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch c.bootID {
	case "":
	case bootID:
		c.failAll(errors.New("the agent in the guest has ended and started again"))
	default:
		c.failAll(ErrRebooted)
	}
	c.setBoot(bootID)
}

// setBoot needs the lock.
func (c *Client) setBoot(id string) {
	if id == c.bootID {
		return
	}
	c.bootID = id
	close(c.booted)
	c.booted = make(chan struct{})
}

func (c *Client) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
	c.failAll(err)
	close(c.booted)
	c.booted = make(chan struct{})
}

func (c *Client) failAll(err error) {
	for id, s := range c.streams {
		s.finish(wire.Result{}, err)
		delete(c.streams, id)
	}
}

// BootID names the boot of the agent heard last.
func (c *Client) BootID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bootID
}

// AwaitBoot waits for an agent of another boot than the one named, and returns its boot's id.
func (c *Client) AwaitBoot(ctx context.Context, not string) (string, error) {
	for {
		c.mu.Lock()
		id, booted, err := c.bootID, c.booted, c.err
		c.mu.Unlock()
		switch {
		case id != "" && id != not:
			return id, nil
		case err != nil:
			return "", fmt.Errorf("cannot wait for the agent: %w", err)
		}
		select {
		case <-booted:
		case <-ctx.Done():
			return "", fmt.Errorf("cannot wait any longer for the agent: %w", ctx.Err())
		}
	}
}

// SetClock gives the guest the host's time, and learns which boot it is in.
func (c *Client) SetClock(ctx context.Context) error {
	s, err := c.Open(ctx, wire.Request{Clock: &wire.Clock{Now: time.Now()}}, nil)
	if err != nil {
		return err
	}
	res, err := s.Wait(ctx)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.setBoot(res.BootID)
	return nil
}

// Open starts a request. The sink gets the stream's output frames, in order, on the link's own goroutine: it holds up
// every stream for as long as it takes.
func (c *Client) Open(ctx context.Context, req wire.Request, sink func(wire.Frame)) (*Stream, error) {
	s := &Stream{client: c, sink: sink, ready: make(chan struct{}), done: make(chan struct{})}
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return nil, c.err
	}
	c.next++
	s.id = c.next
	c.streams[s.id] = s
	c.mu.Unlock()
	f, err := wire.JSON(wire.Open, s.id, req)
	if err == nil {
		err = c.send(ctx, f)
	}
	if err != nil {
		c.forget(s, err)
		return nil, err
	}
	return s, nil
}

// send writes a frame. When the guest takes nothing any more, the context's end breaks the link: half a frame is out.
func (c *Client) send(ctx context.Context, f wire.Frame) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	if ctx.Err() != nil {
		return fmt.Errorf("cannot write to the guest: %w", ctx.Err())
	}
	var err error
	if c.buf, err = f.Append(c.buf[:0]); err != nil {
		return err
	}
	broken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = c.conn.SetWriteDeadline(time.Now())
		close(broken)
	})
	_, err = c.conn.Write(c.buf)
	if !stop() && err == nil { // the context ended just after the frame was out: no harm done
		<-broken
		err = c.conn.SetWriteDeadline(time.Time{})
	}
	if err != nil {
		return fmt.Errorf("cannot write to the guest: %w", errors.Join(ctx.Err(), err))
	}
	return nil
}

func (c *Client) forget(s *Stream, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.streams, s.id)
	s.finish(wire.Result{}, err)
}
