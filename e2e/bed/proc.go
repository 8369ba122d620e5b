package bed

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"syscall"

	"github.com/dubnium/dubnium/e2e/internal/guest"
	"github.com/dubnium/dubnium/e2e/internal/wire"
)

// Proc is a command that runs in the guest.
type Proc struct {
	PID int

	stream *guest.Stream

	mu      sync.Mutex
	stdout  []byte
	stderr  []byte
	both    []byte
	changed chan struct{} // closed and replaced when there is more output
}

// Start starts a command and returns once it runs.
func (v *VM) Start(ctx context.Context, c Command) (*Proc, error) {
	p := &Proc{changed: make(chan struct{})}
	req := wire.Exec{Argv: c.Argv, Env: c.Env, User: c.User, InSession: c.InSession, Stdin: c.Stdin != nil}
	var err error
	if p.stream, err = v.agent.Open(ctx, wire.Request{Exec: &req}, p.take); err != nil {
		return nil, err
	}
	if p.PID, err = p.stream.Ready(ctx); err != nil {
		return nil, err
	}
	if c.Stdin != nil {
		if err := p.stream.Send(ctx, c.Stdin); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p *Proc) take(f wire.Frame) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f.Kind == wire.Output {
		p.stdout = append(p.stdout, f.Body...)
	} else {
		p.stderr = append(p.stderr, f.Body...)
	}
	p.both = append(p.both, f.Body...)
	close(p.changed)
	p.changed = make(chan struct{})
}

// Output is what the command has printed so far.
func (p *Proc) Output() Output {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Output{Stdout: string(p.stdout), Stderr: string(p.stderr), Both: string(p.both)}
}

// Wait returns the exit code once the command has ended, 128+N for signal N. When the context ends first the command
// is killed.
func (p *Proc) Wait(ctx context.Context) (code int, err error) {
	res, err := p.stream.Wait(ctx)
	return res.Code, err
}

// AwaitOutput waits until the command has printed the text.
func (p *Proc) AwaitOutput(ctx context.Context, text string) error {
	for {
		p.mu.Lock()
		both, changed := string(p.both), p.changed
		p.mu.Unlock()
		if strings.Contains(both, text) {
			return nil
		}
		select {
		case <-changed:
		case <-p.stream.Done():
			if strings.Contains(p.Output().Both, text) {
				return nil
			}
			return fmt.Errorf("the command ended without printing %q: %s", text, p.Output().Both)
		case <-ctx.Done():
			return fmt.Errorf("cannot wait any longer for %q: %w; printed so far: %s", text, ctx.Err(), both)
		}
	}
}

// Signal sends a signal to the command and its children.
func (p *Proc) Signal(ctx context.Context, sig syscall.Signal) error {
	return p.stream.Signal(ctx, sig)
}

// Kill kills the command and its children and waits for the end.
func (p *Proc) Kill(ctx context.Context) error {
	if err := p.Signal(ctx, syscall.SIGKILL); err != nil {
		return err
	}
	_, err := p.Wait(ctx)
	return err
}
