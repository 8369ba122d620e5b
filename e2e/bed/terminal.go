package bed

import (
	"context"
	"io"

	"github.com/dubnium/dubnium/e2e/internal/guest"
	"github.com/dubnium/dubnium/e2e/internal/wire"
)

// Size is a terminal's.
type Size = wire.Size

// Terminal is a command in the guest that believes to sit at a terminal.
type Terminal struct {
	stream *guest.Stream
}

// Terminal starts a command at a terminal of that size, which shows on out.
func (v *VM) Terminal(ctx context.Context, c Command, size Size, out io.Writer) (*Terminal, error) {
	req := wire.Exec{Argv: c.Argv, Env: c.Env, User: c.User, InSession: c.InSession, Terminal: &size}
	s, err := v.agent.Open(ctx, wire.Request{Exec: &req}, func(f wire.Frame) {
		_, _ = out.Write(f.Body) // whoever watches sees that nothing comes
	})
	if err != nil {
		return nil, err
	}
	_, err = s.Ready(ctx)
	return &Terminal{stream: s}, err
}

// Type sends keys.
func (t *Terminal) Type(ctx context.Context, keys []byte) error { return t.stream.Type(ctx, keys) }

// Resize tells the terminal's new size.
func (t *Terminal) Resize(ctx context.Context, size Size) error { return t.stream.Resize(ctx, size) }

// Wait returns the command's exit code.
func (t *Terminal) Wait(ctx context.Context) (code int, err error) {
	res, err := t.stream.Wait(ctx)
	return res.Code, err
}
