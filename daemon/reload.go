package daemon

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/policy"
)

// ErrSuperseded ends a reload that waited when a later one came.
var ErrSuperseded = errors.New("a later policy took its place")

// reload is what is known of reloading the policy.
type reload struct {
	// refused says why the latest policy is not in force, empty when it is.
	refused string
	pending *pendingReload // nil for none
}

// pendingReload is a policy that waits for the running transition to end.
type pendingReload struct {
	next policy.Document
	done chan error // capacity 1
}

// Reload puts next in the place of the policy between two transitions. When none
// runs it returns once all that is published is judged by next, from looks that
// were made by it. Else it returns at once, and later gets how it went when the
// transition has ended. Errors: next cannot be used without a restart
// (policy.Findings), the daemon is stopping, or a file cannot be written; the
// policy stays what it was.
func (e *Controller) Reload(ctx context.Context, next policy.Document) (later <-chan error, err error) {
	callErr := e.call(ctx, func() {
		if err = e.state.Policy.CannotReload(next); err != nil {
			return
		}
		e.reload.refused = "" // a later one may be refused while this one waits
		if e.running == nil {
			err = e.adopt(next)
			return
		}
		if e.reload.pending != nil {
			e.reload.pending.done <- ErrSuperseded
		}
		e.reload.pending = &pendingReload{next, make(chan error, 1)}
		later = e.reload.pending.done
	})
	return later, errors.Join(callErr, err)
}

// PolicyRefused publishes why the latest policy that was to be reloaded will not be in
// force, until another one is taken. The error is that the daemon is stopping, or ctx's.
func (e *Controller) PolicyRefused(ctx context.Context, why string) error {
	return e.call(ctx, func() { e.reload.refused = why })
}

// adoptPending adopts the policy that waited for a transition to end.
func (e *Controller) adoptPending() {
	if waiting := e.reload.pending; waiting != nil {
		e.reload.pending = nil
		waiting.done <- e.adopt(waiting.next)
	}
}

// abandonReload answers whoever waits for a reload that will not be.
func (e *Controller) abandonReload() {
	if e.reload.pending != nil {
		e.reload.pending.done <- status.ErrShuttingDown
	}
}

// adopt reads the host under the new policy before it judges by it: a unit that was not
// read yet would count as one that does not exist. The loop stands still meanwhile, for
// as long as a read may take, so that no request and no judgement falls between the two
// policies.
func (e *Controller) adopt(next policy.Document) error {
	old := e.state.Policy
	e.deps.Monitor.SetPolicy(next.Policy)
	err := e.applyPolicy(next)
	if err == nil {
		_, err = e.deps.Monitor.Fresh(e.life)
	}
	if err != nil {
		e.deps.Monitor.SetPolicy(old.Policy)
		err = errors.Join(err, e.applyPolicy(old))
		if e.life.Err() != nil {
			return status.ErrShuttingDown
		}
		return fmt.Errorf("cannot adopt the policy: %w", err)
	}
	e.deps.Log.Info("the policy has been reloaded", zap.String("policy", next.File), zap.String(
		"trust", string(next.Transitions),
	),
		zap.Int("changes", len(policy.Diff(old.Settings(), next.Settings()))))
	e.classify()
	e.publish()
	return nil
}
