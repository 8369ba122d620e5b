package plans

import (
	"context"
	"encoding/json"
)

// StepHandler carries out one kind of step. ctx ends at the step's timeout.
type StepHandler interface {
	// Prepare reads what Undo will need. It changes nothing.
	Prepare(ctx context.Context, s Step) (before json.RawMessage, err error)
	// Apply makes the change. It is idempotent.
	Apply(ctx context.Context, s Step) error
	// Verify reads the host and returns nil only if the step's postcondition holds.
	Verify(ctx context.Context, s Step) error
	// Undo reverts the change. It is idempotent and valid after a partial Apply; before
	// is what Prepare returned.
	Undo(ctx context.Context, s Step, before json.RawMessage) error
}
