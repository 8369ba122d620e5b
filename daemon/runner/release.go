package runner

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/dubnium/dubnium/internal/stepreport"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/plans"
	"github.com/dubnium/dubnium/policy"
)

// gateHandler is the handler of plans.Gate. The gate of the display GPUs also puts
// into the record how much of their memory is in use once nobody holds them.
type gateHandler struct {
	wait
	policy policy.Policy
}

const (
	// restTime is how long the memory in use has to stay the same, within restBytes, to
	// be at rest: the driver frees in steps after the last holder has gone.
	restTime  = time.Second
	restBytes = 4 << 20
	// restLimit is how long a gate whose guard passes waits for that at the most.
	restLimit = 5 * time.Second
)

// errMemoryMoves: the guard passes, and only the memory is waited for.
var errMemoryMoves = errors.New("the memory in use of the display GPUs still changes")

// Verify waits for the guard and then for the memory. Memory that does not come to
// rest is not recorded. It never fails the step.
func (g gateHandler) Verify(ctx context.Context, s plans.Step) error {
	if s.Guard != policy.CheckGPUDisplayReleased {
		return g.wait.Verify(ctx, s)
	}
	var memory restingMemory
	var passes time.Time // since when the guard does
	guard := g.met
	g.met = func(s plans.Step, snapshot observer.Snapshot) error {
		now := time.Now()
		memory.add(observer.ResidualOnDisplay(g.policy, snapshot), now)
		if unmet := guard(s, snapshot); unmet != nil {
			passes = time.Time{}
			return unmet
		}
		if passes.IsZero() {
			passes = now
		}
		if !memory.rests && now.Sub(passes) < restLimit {
			return errMemoryMoves
		}
		return nil
	}
	err := g.wait.Verify(ctx, s)
	if errors.Is(err, errMemoryMoves) && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = nil
	}
	if memory.rests {
		stepreport.Residual(ctx, memory.inUse)
	}
	return err
}

// restingMemory tells from look to look whether the memory in use is at rest.
type restingMemory struct {
	inUse []observer.GPUMemory // at the first of the looks that agree
	since time.Time            // of that look
	rests bool
}

// add takes a look in. Memory that is not known is not waited for.
func (m *restingMemory) add(inUse []observer.GPUMemory, at time.Time) {
	if !slices.EqualFunc(m.inUse, inUse, agree) {
		m.inUse, m.since = inUse, at
	}
	m.rests = len(inUse) == 0 || at.Sub(m.since) >= restTime
}

func agree(a, b observer.GPUMemory) bool {
	return a.GPU == b.GPU && max(a.Bytes, b.Bytes)-min(a.Bytes, b.Bytes) <= restBytes
}
