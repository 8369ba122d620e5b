package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/internal/stepreport"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/plans"
	"github.com/dubnium/dubnium/policy"
)

// StepHandler carries out one kind of step. ctx ends at the step's timeout.
type StepHandler interface {
	// Prepare reads what Undo will need. It changes nothing.
	Prepare(ctx context.Context, s plans.Step) (before json.RawMessage, err error)
	// Apply makes the change. It is idempotent.
	Apply(ctx context.Context, s plans.Step) error
	// Verify looks at the host and returns nil only when it saw the step's
	// postcondition.
	Verify(ctx context.Context, s plans.Step) error
	// Undo takes the change back. It is idempotent and valid after a partial Apply;
	// before is what Prepare returned.
	Undo(ctx context.Context, s plans.Step, before json.RawMessage) error
}

// wait is an Actor that changes nothing: its postcondition comes about or not.
// met is nil when it holds, errNever when it never will, and any other
// error while it may yet come.
type wait struct {
	monitor *Monitor
	// sources are where the condition can be seen; a wait looks at nothing else.
	sources func(plans.Step) []string
	met     func(plans.Step, observer.Snapshot) error
	// doing says in a few words what is waited for, to be told with the time that it
	// takes; nil for a wait that is short.
	doing func(plans.Step, observer.Snapshot) string
}

// errNever marks a condition that waiting longer cannot bring about.
var errNever = errors.New("waiting longer is of no use")

func (w wait) Prepare(context.Context, plans.Step) (json.RawMessage, error) { return nil, nil }
func (w wait) Apply(context.Context, plans.Step) error                      { return nil }
func (w wait) Undo(context.Context, plans.Step, json.RawMessage) error      { return nil }

// Verify looks until the condition is met or the step's time is over.
func (w wait) Verify(ctx context.Context, s plans.Step) error {
	var unmet error
	began := time.Now()
	err := w.monitor.Until(ctx, func(snapshot observer.Snapshot) bool {
		if unmet = w.met(s, snapshot); unmet != nil && w.doing != nil {
			stepreport.Progress(ctx, progressText(w.doing(s, snapshot), time.Since(began), s.Timeout))
		}
		return unmet == nil || errors.Is(unmet, errNever)
	}, w.sources(s)...)
	switch {
	case err != nil && unmet != nil:
		return fmt.Errorf("%w: %w", unmet, err)
	case err != nil:
		return err
	}
	return unmet
}

// progressInterval is the pace of what is told of a wait: everybody hears it.
const progressInterval = 5 * time.Second

// progressText is "loading, 40 s of 600 s".
func progressText(what string, since, most time.Duration) string {
	return fmt.Sprintf("%s, %.0f s of %.0f s", what, since.Truncate(progressInterval).Seconds(), most.Seconds())
}

// waitHandlers returns the actors for the kinds of step that only wait.
func waitHandlers(p policy.Policy, eyes *Monitor) map[plans.Kind]StepHandler {
	vllm := func(plans.Step) []string { return []string{observer.SourceSystemd, observer.SourceInference} }
	return map[plans.Kind]StepHandler{
		plans.Gate: gateHandler{wait{eyes, gateSources(p), func(s plans.Step, snapshot observer.Snapshot) error {
			return gate(p, s, snapshot)
		}, nil}, p},
		plans.Drain: wait{eyes, vllm, func(_ plans.Step, snapshot observer.Snapshot) error {
			return drained(p, snapshot)
		}, draining},
		plans.AwaitHealthy: wait{eyes, vllm, func(s plans.Step, snapshot observer.Snapshot) error {
			return healthy(p, s.Unit, snapshot)
		}, loading},
	}
}

// gateSources are what the gates of this version look at; a gate that is not
// listed looks at everything.
func gateSources(p policy.Policy) func(plans.Step) []string {
	return func(s plans.Step) []string {
		switch {
		case s.Guard == policy.CheckGraphicalSessionAbsent:
			return []string{observer.SourceLogind}
		case s.Guard == policy.CheckGPUDisplayReleased && len(p.GPU.Display) > 0:
			return []string{observer.SourceHolders, observer.SourceGPU}
		case s.Guard == policy.CheckGPUDisplayReleased:
			return []string{observer.SourceHolders}
		}
		return nil
	}
}

func gate(p policy.Policy, s plans.Step, snapshot observer.Snapshot) error {
	for _, v := range guards.Blocking(guards.Evaluate(p, snapshot, guards.Request{}, []policy.GuardID{s.Guard})) {
		return &sensitiveError{fmt.Errorf("%s: %s", v.Guard, v.Reason), observer.Secrets(snapshot)}
	}
	return nil
}

// sensitiveError is an error whose text may tell of somebody's processes.
type sensitiveError struct {
	error
	secrets []observer.Secret
}

// sensitiveOf returns what an error's text may tell, from every error that it is made
// of.
func sensitiveOf(err error) []observer.Secret {
	switch e := err.(type) {
	case *sensitiveError:
		return e.secrets
	case interface{ Unwrap() error }:
		return sensitiveOf(e.Unwrap())
	case interface{ Unwrap() []error }:
		var all []observer.Secret
		for _, part := range e.Unwrap() {
			all = append(all, sensitiveOf(part)...)
		}
		return all
	}
	return nil
}

// drained holds when vLLM has nothing in flight. A server that nobody can reach
// because it does not listen yet, or no longer, serves nobody; metrics that
// cannot be read from one that does are no proof of anything.
func drained(p policy.Policy, s observer.Snapshot) error {
	if observer.Derive(p, s).Is(observer.VLLMActive) == observer.False || s.Inference.NotListening {
		return nil
	}
	n, known := s.Inference.Requests()
	switch {
	case !known && !s.Inference.Known():
		return fmt.Errorf("cannot tell whether vLLM has requests in flight: %s", s.Inference.Reason)
	case !known:
		return errors.New("cannot tell whether vLLM has requests in flight: its metrics do not say")
	case n > 0:
		return fmt.Errorf("vLLM has %.0f requests in flight", n)
	}
	return nil
}

func draining(_ plans.Step, s observer.Snapshot) string {
	if n, known := s.Inference.Requests(); known {
		return fmt.Sprintf("draining, %.0f requests in flight", n)
	}
	return "draining, how many requests are in flight is not known"
}

// loading says how far the unit is: systemd knows of its process, and its health check
// of its model.
func loading(step plans.Step, s observer.Snapshot) string {
	if s.Systemd.Runs(step.Unit) != observer.True {
		return "starting"
	}
	return "loading"
}

// healthy holds when this unit of vLLM runs and answers: what another one answers
// says nothing of it.
func healthy(p policy.Policy, unit string, s observer.Snapshot) error {
	facts := observer.Derive(p, s)
	switch running := s.Systemd.Runs(unit); {
	case facts.Is(observer.VLLMHealthy) == observer.True && running == observer.True:
		return nil
	case running == observer.False:
		return fmt.Errorf("vLLM does not run: %s is %s: %w", unit, s.Systemd.Units[unit].ActiveState, errNever)
	}
	return fmt.Errorf("vLLM is not healthy: %s", facts[observer.VLLMHealthy].Reason)
}

// pollInterval is the pace of a wait for what sends no signal: a file descriptor
// that closes, a health check that turns.
const pollInterval = 500 * time.Millisecond

// Until looks afresh at the named sources, or at all, until done says so. Signals
// prompt a look at once. The error is ctx's.
func (e *Monitor) Until(ctx context.Context, done func(observer.Snapshot) bool, sources ...string) error {
	hint, stop := e.Subscribe()
	defer stop()
	again := time.NewTicker(pollInterval)
	defer again.Stop()
	for {
		snapshot, err := e.Fresh(ctx, sources...)
		if err != nil {
			return err
		}
		if done(snapshot) {
			return nil
		}
		select {
		case <-hint:
		case <-again.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
