package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"time"

	"github.com/dubnium/dubnium/e2e/internal/wire"
)

// Stream is one request under way.
type Stream struct {
	client *Client
	id     uint32
	sink   func(wire.Frame)

	once    sync.Once
	ready   chan struct{}
	started wire.Started

	end  sync.Once
	done chan struct{}
	res  wire.Result
	err  error
}

// take handles a frame of the stream; it runs on the link's goroutine.
func (s *Stream) take(f wire.Frame) {
	switch f.Kind {
	case wire.Ready:
		s.once.Do(func() {
			_ = f.Decode(&s.started) // without a pid there is nothing to decode
			close(s.ready)
		})
	case wire.Output, wire.ErrOutput:
		if s.sink != nil {
			s.sink(f)
		}
	case wire.Done:
		var res wire.Result
		err := f.Decode(&res)
		s.client.mu.Lock()
		delete(s.client.streams, s.id)
		s.client.mu.Unlock()
		s.finish(res, err)
	}
}

func (s *Stream) finish(res wire.Result, err error) {
	s.end.Do(func() {
		s.res, s.err = res, err
		close(s.done)
	})
}

// Ready waits until the process runs or the subscription is in place, and returns the process's pid.
func (s *Stream) Ready(ctx context.Context) (pid int, err error) {
	select {
	case <-s.ready:
		return s.started.PID, nil
	default:
	}
	select {
	case <-s.ready:
		return s.started.PID, nil
	case <-s.done:
		if _, err := s.outcome(); err != nil {
			return 0, err
		}
		return s.started.PID, nil
	case <-ctx.Done():
		return 0, s.giveUp(ctx.Err())
	}
}

// Done is closed when the stream has ended.
func (s *Stream) Done() <-chan struct{} { return s.done }

// Wait returns the result once the stream has ended. When the context ends first the stream is given up, and its
// processes are killed.
func (s *Stream) Wait(ctx context.Context) (wire.Result, error) {
	select {
	case <-s.done:
		return s.outcome()
	case <-ctx.Done():
		return wire.Result{}, s.giveUp(ctx.Err())
	}
}

func (s *Stream) outcome() (wire.Result, error) {
	switch {
	case s.err != nil:
		return s.res, s.err
	case s.res.Error != "" && s.res.Timeout:
		return s.res, &timeoutError{s.res.Error}
	case s.res.Error != "":
		return s.res, errors.New(s.res.Error)
	}
	return s.res, nil
}

// timeoutError is the agent's own timeout: the same to errors.Is as one of ours.
type timeoutError struct{ text string }

func (e *timeoutError) Error() string { return e.text }
func (e *timeoutError) Unwrap() error { return context.DeadlineExceeded }

// giveUp tells the agent to stop. The guest may be beyond hearing, so this is bounded and its failure adds nothing.
func (s *Stream) giveUp(cause error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = s.client.send(ctx, wire.Frame{Kind: wire.Cancel, ID: s.id})
	err := fmt.Errorf("gave up on the guest: %w", cause)
	s.client.forget(s, err)
	return err
}

// Cancel ends the stream from this side and waits for the agent's word.
func (s *Stream) Cancel(ctx context.Context) error {
	if err := s.client.send(ctx, wire.Frame{Kind: wire.Cancel, ID: s.id}); err != nil {
		return err
	}
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Send streams the reader's bytes as input, and then the end of it.
func (s *Stream) Send(ctx context.Context, r io.Reader) error {
	buf := make([]byte, wire.MaxBody)
	for {
		n, err := io.ReadFull(r, buf)
		if n > 0 {
			if err := s.client.send(ctx, wire.Frame{Kind: wire.Input, ID: s.id, Body: buf[:n]}); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return s.client.send(ctx, wire.Frame{Kind: wire.InputEnd, ID: s.id})
		}
		if err != nil {
			return err
		}
		select {
		case <-s.done: // the agent has refused it already
			return nil
		default:
		}
	}
}

// Signal sends a signal to the stream's process group.
func (s *Stream) Signal(ctx context.Context, sig syscall.Signal) error {
	return s.client.send(ctx, wire.Frame{Kind: wire.Signal, ID: s.id, Body: []byte{byte(sig)}})
}

// Type sends bytes as input and leaves the input open.
func (s *Stream) Type(ctx context.Context, b []byte) error {
	return wire.Chunks(b, func(part []byte) error {
		return s.client.send(ctx, wire.Frame{Kind: wire.Input, ID: s.id, Body: part})
	})
}

// Resize tells the stream's terminal its new size.
func (s *Stream) Resize(ctx context.Context, size wire.Size) error {
	f, err := wire.JSON(wire.Resize, s.id, size)
	if err != nil {
		return err
	}
	return s.client.send(ctx, f)
}
