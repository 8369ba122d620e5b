package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/dubnium/dubnium/e2e/internal/wire"
)

// server reads frames and gives each stream a goroutine of its own.
type server struct {
	link   *port
	bootID string

	mu      sync.Mutex
	streams map[uint32]*stream
}

func (s *server) serve(ctx context.Context) error {
	if err := s.sendJSON(wire.Hello, 0, wire.Greeting{BootID: s.bootID}); err != nil {
		return err
	}
	in := bufio.NewReaderSize(s.link, 64<<10)
	for {
		f, err := wire.Read(in)
		if err != nil {
			return err
		}
		if f.Kind == wire.Open {
			s.open(ctx, f)
		} else if st := s.stream(f.ID); st != nil { // else it has ended already
			st.deliver(f)
		}
	}
}

// open registers the stream before it starts, so that the input right behind the request finds it.
func (s *server) open(ctx context.Context, f wire.Frame) {
	st := &stream{id: f.ID, server: s, input: newQueue(), control: make(chan wire.Frame, 16)}
	ctx, st.cancel = context.WithCancel(ctx)
	s.mu.Lock()
	s.streams[f.ID] = st
	s.mu.Unlock()
	go func() {
		res := st.answer(ctx, f)
		st.cancel()
		s.mu.Lock()
		delete(s.streams, f.ID)
		s.mu.Unlock()
		if err := s.sendJSON(wire.Done, f.ID, res); err != nil {
			fmt.Fprintln(os.Stderr, "bed-agent:", err)
		}
	}()
}

func (s *server) stream(id uint32) *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streams[id]
}

func (s *server) sendJSON(kind wire.Kind, id uint32, v any) error {
	f, err := wire.JSON(kind, id, v)
	if err != nil {
		return err
	}
	return s.link.send(f)
}

// stream is one request on its way.
type stream struct {
	id      uint32
	server  *server
	cancel  context.CancelFunc
	input   *queue
	control chan wire.Frame // Signal and Resize
}

func (st *stream) deliver(f wire.Frame) {
	switch f.Kind {
	case wire.Input:
		st.input.push(f.Body)
	case wire.InputEnd:
		st.input.close()
	case wire.Cancel:
		st.input.close()
		st.cancel()
	case wire.Signal, wire.Resize:
		select {
		case st.control <- f:
		default: // nobody takes them any more; never block the link
		}
	}
}

// answer does the request. A panic is that request's failure, not the agent's end.
func (st *stream) answer(ctx context.Context, f wire.Frame) (res wire.Result) {
	defer func() {
		if p := recover(); p != nil {
			res = wire.Result{Error: fmt.Sprintf("the agent panicked: %v", p)}
		}
	}()
	var req wire.Request
	if err := f.Decode(&req); err != nil {
		return wire.Result{Error: fmt.Sprintf("cannot understand the request: %v", err)}
	}
	res, err := st.dispatch(ctx, req)
	if err != nil {
		res.Error = err.Error()
		res.Timeout = errors.Is(err, context.DeadlineExceeded)
	}
	return res
}

func (st *stream) dispatch(ctx context.Context, req wire.Request) (wire.Result, error) {
	switch {
	case req.Clock != nil:
		return wire.Result{BootID: st.server.bootID}, setClock(req.Clock.Now)
	case req.Exec != nil:
		return st.exec(ctx, *req.Exec)
	case req.Put != nil:
		return wire.Result{}, putFile(*req.Put, st.input)
	case req.Untar != nil:
		return wire.Result{}, untar(*req.Untar, st.input)
	case req.Get != nil:
		return wire.Result{}, getFile(req.Get.Path, st.output(wire.Output))
	case req.Wait != nil:
		return wire.Result{}, wait(ctx, *req.Wait)
	case req.Watch != nil:
		return wire.Result{}, st.watch(ctx, *req.Watch)
	}
	return wire.Result{}, errors.New("cannot do an empty request")
}

func (st *stream) ready(pid int) error {
	return st.server.sendJSON(wire.Ready, st.id, wire.Started{PID: pid})
}

// output is a writer whose bytes reach the host as frames of that kind.
func (st *stream) output(kind wire.Kind) io.Writer { return &frameWriter{st: st, kind: kind} }

type frameWriter struct {
	st   *stream
	kind wire.Kind
}

func (w *frameWriter) Write(b []byte) (int, error) {
	err := wire.Chunks(b, func(part []byte) error {
		return w.st.server.link.send(wire.Frame{Kind: w.kind, ID: w.st.id, Body: part})
	})
	if err != nil {
		return 0, err
	}
	return len(b), nil
}
