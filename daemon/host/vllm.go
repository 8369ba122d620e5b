package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubnium/dubnium/internal/stepreport"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/plans"
	"github.com/dubnium/dubnium/policy"
)

// SnapshotWaiter reads the host until a condition holds.
type SnapshotWaiter interface {
	// Until reads the named sources, and again as they change, until done returns true. It
	// returns the error of ctx if that ends first.
	Until(ctx context.Context, done func(observer.Snapshot) bool, sources ...string) error
}

// stopVLLM handles plans.StopVLLM. A unit that is down does not prove that its GPUs are
// free: a worker can outlive it, in its control group or elsewhere.
type stopVLLM struct {
	stopUnit
	monitor SnapshotWaiter
	policy  policy.Policy
	found   *seenWorkers
}

// vllmBefore is the state before the stop of vLLM: that of the unit, and its workers.
type vllmBefore struct {
	unitBefore
	Workers []observer.Worker `json:"workers,omitempty"`
}

// seenWorkers passes the workers that Prepare has seen on to Apply and Verify, which get
// only the step. A transition runs one step at a time.
type seenWorkers struct {
	unit    string
	workers []observer.Worker
}

func (w *seenWorkers) of(unit string) []observer.Worker {
	if w.unit != unit {
		return nil
	}
	return w.workers
}

func (h stopVLLM) Prepare(ctx context.Context, s plans.Step) (json.RawMessage, error) {
	now, err := h.manager.Unit(ctx, s.Unit)
	if err != nil {
		return nil, err
	}
	*h.found = seenWorkers{unit: s.Unit}
	err = h.once(ctx, func(seen observer.Snapshot) { h.found.workers = observer.Workers(seen, []string{s.Unit}, nil) })
	if err != nil {
		return nil, fmt.Errorf("cannot determine which processes of %s have a GPU open: %w", s.Unit, err)
	}
	return encodeUndo(vllmBefore{unitBefore{Up: isUp(now)}, h.found.workers})
}

// gpuSources are the sources that read which processes use a GPU.
var gpuSources = []string{observer.SourceHolders, observer.SourceGPU}

func (h stopVLLM) once(ctx context.Context, see func(observer.Snapshot)) error {
	return h.monitor.Until(ctx, func(s observer.Snapshot) bool { see(s); return true }, gpuSources...)
}

// Apply stops the unit, and then waits until none of its processes has a GPU open. What
// is left in its own control group is killed at once, what is left in another unit that
// the policy names after the grace. A process elsewhere is not killed.
func (h stopVLLM) Apply(ctx context.Context, s plans.Step) error {
	if err := h.stop(ctx, s.Unit); err != nil {
		return err
	}
	grace := time.Now().Add(s.Grace)
	killed := map[string]bool{}
	var fact observer.Fact
	var killErrs error
	err := h.monitor.Until(ctx, func(seen observer.Snapshot) bool {
		left := h.left(s, seen)
		for _, w := range left {
			late := !time.Now().Before(grace)
			if ours := w.Unit == s.Unit || late && slices.Contains(s.Units, w.Unit); ours && !killed[w.Unit] {
				killed[w.Unit] = true
				note := fmt.Sprintf("%s outlived %s with %s, and %s was killed", w.Text, s.Unit, w.GPU, w.Unit)
				stepreport.Note(ctx, note, observer.Secrets(seen))
				killErrs = errors.Join(killErrs, h.manager.Kill(ctx, w.Unit, int32(unix.SIGKILL)))
			}
		}
		fact = h.freed(s, seen)
		return fact.Truth == observer.True
	}, gpuSources...)
	if err != nil {
		return h.notFree(s, fact, errors.Join(err, killErrs))
	}
	return h.confirmFreed(ctx, s)
}

// left lists the processes of the unit and of its worker units that have a GPU open, in
// whatever unit they are now.
func (h stopVLLM) left(s plans.Step, seen observer.Snapshot) []observer.Worker {
	return observer.Workers(seen, append([]string{s.Unit}, s.Units...), h.found.of(s.Unit))
}

func (h stopVLLM) freed(s plans.Step, seen observer.Snapshot) observer.Fact {
	return observer.GPUsFree(seen, append([]string{s.Unit}, s.Units...), h.found.of(s.Unit))
}

func (h stopVLLM) notFree(s plans.Step, fact observer.Fact, err error) error {
	if fact.Truth == observer.Unknown {
		return fmt.Errorf("%s has stopped, but it is unknown whether its GPUs are free: %s: %w",
			s.Unit, fact.Reason, err)
	}
	return fmt.Errorf(
		"%s has stopped, but %s; if another unit runs its workers, name it in worker_units of its profile: %w",
		s.Unit, fact.Reason, err)
}

// confirmFreed waits until the memory of vLLM's GPUs is free. If it stays in use, the
// step fails on the way to compute, where the next vLLM needs it. On the way to a desktop
// it is only noted: a wrong threshold must not keep a user out. A driver that cannot
// report the memory is noted as well.
func (h stopVLLM) confirmFreed(ctx context.Context, s plans.Step) error {
	var memory, doubt string
	var secrets []observer.Secret
	bounded, cancel := context.WithTimeout(ctx, h.policy.Timeouts.GPURelease.D()/2)
	defer cancel()
	err := h.monitor.Until(bounded, func(seen observer.Snapshot) bool {
		memory, doubt = observer.ResidualMemory(h.policy, seen, h.gpus(s))
		secrets = observer.Secrets(seen)
		return memory == ""
	}, gpuSources...)
	switch {
	case err == nil && doubt != "":
		stepreport.Note(ctx, doubt, secrets)
	case err == nil:
	case ctx.Err() != nil && bounded.Err() == nil, memory == "":
		return fmt.Errorf("cannot determine whether the GPUs of %s are free: %w", s.Unit, err)
	case s.NeedsMemory:
		return fmt.Errorf("%s has stopped, but %s: %w", s.Unit, memory, err)
	default:
		stepreport.Note(ctx, memory, secrets)
	}
	return nil
}

// gpus lists the GPUs that workers of the unit had open, and those that the policy
// assigns to vLLM in compute.
func (h stopVLLM) gpus(s plans.Step) []string {
	gpus := slices.Clone(h.policy.AIGPUs(policy.Compute))
	for _, w := range h.found.of(s.Unit) {
		gpus = append(gpus, w.GPU)
	}
	slices.Sort(gpus)
	return slices.Compact(gpus)
}

// Verify reads the unit and the GPUs again: a unit that restarts may have taken them
// meanwhile.
func (h stopVLLM) Verify(ctx context.Context, s plans.Step) error {
	if err := h.confirmDown(ctx, s.Unit); err != nil {
		return err
	}
	var fact observer.Fact
	if err := h.once(ctx, func(seen observer.Snapshot) { fact = h.freed(s, seen) }); err != nil {
		return err
	}
	if fact.Truth != observer.True {
		return fmt.Errorf("the GPUs of %s are not free: %s", s.Unit, fact.Reason)
	}
	return nil
}
