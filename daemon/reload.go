package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"go.uber.org/zap"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/policy"
)

// govern makes d the policy of everything that begins from now on. A transition
// that runs has its own copy of what it began with.
func (e *Controller) govern(d policy.Document) error {
	if err := e.files.setPolicy(d.Policy); err != nil {
		return err
	}
	e.policy, e.state.Policy = d.Policy, d
	e.history.log.SetLimits(limits(d.Policy))
	e.handlers = waitHandlers(d.Policy, e.monitor)
	if e.stepHandlers != nil {
		maps.Copy(e.handlers, e.stepHandlers(d.Policy))
	}
	e.handlers = breakable(d.Policy.Paths.State, e.handlers)
	return nil
}

// ErrSuperseded ends a reload that waited when a later one came.
var ErrSuperseded = errors.New("a later policy took its place")

// reload is a policy that waits for the running transition to end.
type reload struct {
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
		e.policyError = "" // a later one may be refused while this one waits
		if e.state.Running == nil {
			err = e.adopt(next)
			return
		}
		if e.pending != nil {
			e.pending.done <- ErrSuperseded
		}
		e.pending = &reload{next, make(chan error, 1)}
		later = e.pending.done
	})
	return later, errors.Join(callErr, err)
}

// PolicyRefused publishes why the latest policy that was to be reloaded will not be in
// force, until another one is taken. The error is that the daemon is stopping, or ctx's.
func (e *Controller) PolicyRefused(ctx context.Context, why string) error {
	return e.call(ctx, func() { e.policyError = why })
}

// adoptPending adopts the policy that waited for a transition to end.
func (e *Controller) adoptPending() {
	if waiting := e.pending; waiting != nil {
		e.pending = nil
		waiting.done <- e.adopt(waiting.next)
	}
}

// abandonReload answers whoever waits for a reload that will not be.
func (e *Controller) abandonReload() {
	if e.pending != nil {
		e.pending.done <- status.ErrShuttingDown
	}
}

// adopt looks at the host by the new policy before it judges by it: a unit that
// nobody has looked at yet would count as one that is not there. The loop stands
// still meanwhile, for as long as a look may take, so that no request and no
// judgement falls between the two policies.
func (e *Controller) adopt(next policy.Document) error {
	old := e.state.Policy
	e.monitor.SetPolicy(next.Policy)
	err := e.govern(next)
	if err == nil {
		_, err = e.monitor.Fresh(e.life)
	}
	if err != nil {
		e.monitor.SetPolicy(old.Policy)
		err = errors.Join(err, e.govern(old))
		if e.life.Err() != nil {
			return status.ErrShuttingDown
		}
		return fmt.Errorf("cannot adopt the policy: %w", err)
	}
	e.log.Info("the policy has been reloaded", zap.String("policy", next.File), zap.String("trust", string(next.Transitions)),
		zap.Int("changes", len(policy.Diff(old.Settings(), next.Settings()))))
	e.classify()
	e.publish()
	return nil
}
