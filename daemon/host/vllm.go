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

// SnapshotWaiter look at the host afresh, until done says so or ctx ends, whose error they
// return then.
type SnapshotWaiter interface {
	Until(ctx context.Context, done func(observer.Snapshot) bool, sources ...string) error
}

// stopVLLM is plans.StopVLLM. A unit that is down is no proof: a worker can outlive
// it, in its control group or elsewhere, and keeps what it has of a GPU.
type stopVLLM struct {
	stopUnit
	eyes   SnapshotWaiter
	policy policy.Policy
	found  *seenWorkers
}

// vllmBefore is what the stop of vLLM found: what any unit's does, and its workers.
type vllmBefore struct {
	unitBefore
	Workers []observer.Worker `json:"workers,omitempty"`
}

// seenWorkers passes what Prepare saw on to Apply and Verify, which get no more than
// the step. A transition runs one step at a time.
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

func (a stopVLLM) Prepare(ctx context.Context, s plans.Step) (json.RawMessage, error) {
	now, err := a.manager.Unit(ctx, s.Unit)
	if err != nil {
		return nil, err
	}
	*a.found = seenWorkers{unit: s.Unit}
	err = a.once(ctx, func(seen observer.Snapshot) { a.found.workers = observer.Workers(seen, []string{s.Unit}, nil) })
	if err != nil {
		return nil, fmt.Errorf("cannot tell what of %s has a GPU: %w", s.Unit, err)
	}
	return encodeUndo(vllmBefore{unitBefore{Up: isUp(now)}, a.found.workers})
}

// gpuSources tell who has a GPU.
var gpuSources = []string{observer.SourceHolders, observer.SourceGPU}

func (a stopVLLM) once(ctx context.Context, see func(observer.Snapshot)) error {
	return a.eyes.Until(ctx, func(s observer.Snapshot) bool { see(s); return true }, gpuSources...)
}

// Apply stops the unit, and then waits until nothing of it has a GPU. What is left in
// its own control group is killed at once, what is left in another unit that the
// policy names when its grace is over. What is left elsewhere is nobody's to kill.
func (a stopVLLM) Apply(ctx context.Context, s plans.Step) error {
	if err := a.stop(ctx, s.Unit); err != nil {
		return err
	}
	grace := time.Now().Add(s.Grace)
	killed := map[string]bool{}
	var fact observer.Fact
	var faults error
	err := a.eyes.Until(ctx, func(seen observer.Snapshot) bool {
		left := a.left(s, seen)
		for _, w := range left {
			late := !time.Now().Before(grace)
			if ours := w.Unit == s.Unit || late && slices.Contains(s.Units, w.Unit); ours && !killed[w.Unit] {
				killed[w.Unit] = true
				stepreport.Note(
					ctx, fmt.Sprintf("%s outlived %s with %s, and %s was killed", w.Text, s.Unit, w.GPU, w.Unit),
					observer.Secrets(seen),
				)
				faults = errors.Join(faults, a.manager.Kill(ctx, w.Unit, int32(unix.SIGKILL)))
			}
		}
		fact = a.freed(s, seen)
		return fact.Truth == observer.True
	}, gpuSources...)
	if err != nil {
		return a.notFree(s, fact, errors.Join(err, faults))
	}
	return a.confirmFreed(ctx, s)
}

// left are the processes of the unit, and of those units that go with it, that have a
// GPU, wherever they are by now.
func (a stopVLLM) left(s plans.Step, seen observer.Snapshot) []observer.Worker {
	return observer.Workers(seen, append([]string{s.Unit}, s.Units...), a.found.of(s.Unit))
}

func (a stopVLLM) freed(s plans.Step, seen observer.Snapshot) observer.Fact {
	return observer.GPUsFree(seen, append([]string{s.Unit}, s.Units...), a.found.of(s.Unit))
}

func (a stopVLLM) notFree(s plans.Step, fact observer.Fact, err error) error {
	if fact.Truth == observer.Unknown {
		return fmt.Errorf("%s has stopped, and it is not known whether its GPUs are free: %s: %w", s.Unit, fact.Reason,
			err)
	}
	return fmt.Errorf("%s has stopped, and %s; if a unit runs its workers, name it in worker_units of its profile: %w",
		s.Unit, fact.Reason, err)
}

// confirmFreed waits for the memory of the GPUs that vLLM had. On the way to compute
// the next vLLM needs it; a person's desktop does not, and a number that is wrong must
// not keep anybody out of it: then it is told. So is a driver that cannot say.
func (a stopVLLM) confirmFreed(ctx context.Context, s plans.Step) error {
	var memory, doubt string
	var secrets []observer.Secret
	bounded, cancel := context.WithTimeout(ctx, a.policy.Timeouts.GPURelease.D()/2)
	defer cancel()
	err := a.eyes.Until(bounded, func(seen observer.Snapshot) bool {
		memory, doubt = observer.ResidualMemory(a.policy, seen, a.gpus(s))
		secrets = observer.Secrets(seen)
		return memory == ""
	}, gpuSources...)
	switch {
	case err == nil && doubt != "":
		stepreport.Note(ctx, doubt, secrets)
	case err == nil:
	case ctx.Err() != nil && bounded.Err() == nil, memory == "":
		return fmt.Errorf("cannot tell whether the GPUs of %s are free: %w", s.Unit, err)
	case s.NeedsMemory:
		return fmt.Errorf("%s has stopped, and %s: %w", s.Unit, memory, err)
	default:
		stepreport.Note(ctx, memory, secrets)
	}
	return nil
}

// gpus are those that vLLM was seen to have and that the policy gives it in compute.
func (a stopVLLM) gpus(s plans.Step) []string {
	gpus := slices.Clone(a.policy.AIGPUs(policy.Compute))
	for _, w := range a.found.of(s.Unit) {
		gpus = append(gpus, w.GPU)
	}
	slices.Sort(gpus)
	return slices.Compact(gpus)
}

// Verify looks once more, at both: what was free a moment ago may have been taken by
// a unit that restarts.
func (a stopVLLM) Verify(ctx context.Context, s plans.Step) error {
	if err := a.confirmDown(ctx, s.Unit); err != nil {
		return err
	}
	var fact observer.Fact
	if err := a.once(ctx, func(seen observer.Snapshot) { fact = a.freed(s, seen) }); err != nil {
		return err
	}
	if fact.Truth != observer.True {
		return fmt.Errorf("the GPUs of %s are not free: %s", s.Unit, fact.Reason)
	}
	return nil
}
