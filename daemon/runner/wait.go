package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/dubnium/dubnium/daemon/monitor"
	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/internal/stepreport"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/plans"
	"github.com/dubnium/dubnium/policy"
)

// wait is a StepHandler that changes nothing and waits for a condition.
type wait struct {
	monitor *monitor.Monitor
	// sources are those that the condition depends on; the wait reads no others.
	sources func(plans.Step) []string
	// met is nil when the condition holds, errNever when it never will, and any other
	// error while it may come to hold.
	met func(plans.Step, observer.Snapshot) error
	// doing says in a few words what is waited for. It is reported with the time that the
	// wait has taken. nil for a wait that is short.
	doing func(plans.Step, observer.Snapshot) string
}

// errNever marks a condition that never will hold.
var errNever = errors.New("waiting longer is of no use")

func (w wait) Prepare(context.Context, plans.Step) (json.RawMessage, error) { return nil, nil }
func (w wait) Apply(context.Context, plans.Step) error                      { return nil }
func (w wait) Undo(context.Context, plans.Step, json.RawMessage) error      { return nil }

// Verify reads until the condition holds or the step's time is over.
func (w wait) Verify(ctx context.Context, s plans.Step) error {
	var unmet error
	began := time.Now()
	err := w.monitor.Until(ctx, func(snapshot observer.Snapshot) bool {
		if unmet = w.met(s, snapshot); unmet != nil && w.doing != nil {
			stepreport.Progress(ctx, waitText(w.doing(s, snapshot), time.Since(began), s.Timeout))
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

// progressInterval is how often the progress of a wait changes. Each change is a signal.
const progressInterval = 5 * time.Second

// waitText is "loading, 40 s of 600 s".
func waitText(what string, since, most time.Duration) string {
	return fmt.Sprintf("%s, %.0f s of %.0f s", what, since.Truncate(progressInterval).Seconds(), most.Seconds())
}

// WaitHandlers returns the handlers of the kinds of step that only wait.
func WaitHandlers(p policy.Policy, m *monitor.Monitor) map[plans.Kind]plans.StepHandler {
	vllm := func(plans.Step) []string { return []string{observer.SourceSystemd, observer.SourceInference} }
	return map[plans.Kind]plans.StepHandler{
		plans.Gate: gateHandler{wait{m, gateSources(p), func(s plans.Step, snapshot observer.Snapshot) error {
			return gate(p, s, snapshot)
		}, nil}, p},
		plans.Drain: wait{m, vllm, func(_ plans.Step, snapshot observer.Snapshot) error {
			return drained(p, snapshot)
		}, draining},
		plans.AwaitHealthy: wait{m, vllm, func(s plans.Step, snapshot observer.Snapshot) error {
			return healthy(p, s.Unit, snapshot)
		}, loading},
	}
}

// gateSources are the sources that each gate depends on. A gate that is not listed reads
// all of them.
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

// sensitiveError is an error whose text may name somebody's processes.
type sensitiveError struct {
	error
	secrets []observer.Secret
}

// sensitiveOf returns the sensitive texts of an error, from every error that it wraps.
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

// drained is nil when vLLM has no request in flight. A server that does not listen has
// none. A server that listens and whose metrics cannot be read may have some.
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

// loading says how far the unit is. systemd knows about its process, and its health check
// about its model.
func loading(step plans.Step, s observer.Snapshot) string {
	if s.Systemd.Runs(step.Unit) != observer.True {
		return "starting"
	}
	return "loading"
}

// healthy is nil when this unit of vLLM runs and answers. What another one answers does
// not count.
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
