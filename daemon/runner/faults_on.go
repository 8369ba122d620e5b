//go:build faultpoints

package runner

import (
	"context"
	"encoding/json"
	"path/filepath"

	"github.com/dubnium/dubnium/internal/fault"
	"github.com/dubnium/dubnium/plans"
)

// Breakable makes every call of a handler a point at which it can fail, hang or die:
// step.ID.apply before it, step.ID.applied after it. The points belong to the daemon
// whose state is in dir.
func Breakable(dir string, handlers map[plans.Kind]plans.StepHandler) map[plans.Kind]plans.StepHandler {
	all := make(map[plans.Kind]plans.StepHandler, len(handlers))
	for kind, handler := range handlers {
		all[kind] = breaking{handler, dir}
	}
	return all
}

type breaking struct {
	plans.StepHandler
	dir string
}

func (b breaking) Prepare(ctx context.Context, s plans.Step) (before json.RawMessage, err error) {
	err = b.between(ctx, s, "prepare", "prepared", func() (err error) {
		before, err = b.StepHandler.Prepare(ctx, s)
		return err
	})
	return before, err
}

func (b breaking) Apply(ctx context.Context, s plans.Step) error {
	return b.between(ctx, s, "apply", "applied", func() error { return b.StepHandler.Apply(ctx, s) })
}

func (b breaking) Verify(ctx context.Context, s plans.Step) error {
	return b.between(ctx, s, "verify", "verified", func() error { return b.StepHandler.Verify(ctx, s) })
}

func (b breaking) Undo(ctx context.Context, s plans.Step, before json.RawMessage) error {
	return b.between(ctx, s, "undo", "undone", func() error { return b.StepHandler.Undo(ctx, s, before) })
}

func (b breaking) between(ctx context.Context, s plans.Step, before, after string, do func() error) error {
	point := filepath.Join(b.dir, "step."+s.ID)
	if err := fault.At(ctx, point, before); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return fault.At(ctx, point, after)
}
