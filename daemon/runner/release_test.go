package runner

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/dubnium/dubnium/daemon/monitor"
	"github.com/dubnium/dubnium/internal/stepreport"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/plans"
	"github.com/dubnium/dubnium/policy"
)

const displayGPU = "0000:01:00.0"

// releaseSource is a source whose answer depends on the time since the test began.
type releaseSource struct {
	name  string
	began time.Time
	sees  func(after time.Duration) observer.Part
}

func (s releaseSource) Name() string                            { return s.name }
func (releaseSource) Watch(ctx context.Context, _ func()) error { <-ctx.Done(); return nil }
func (s releaseSource) Read(ctx context.Context) observer.Part  { return s.sees(time.Since(s.began)) }

// reported is what a step had to tell.
type reported struct{ residual []observer.GPUMemory }

func (r *reported) Progress(string)                     {}
func (r *reported) Note(string, []observer.Secret)      {}
func (r *reported) Residual(inUse []observer.GPUMemory) { r.residual = inUse }

// scanOf is what the holders source sees of the display GPU, and nvmlOf what NVML says of
// it; memory that is negative cannot be read.
func scanOf(held bool) observer.ProcessScan {
	scan := observer.ProcessScan{
		Reading: observer.Reading{At: time.Now()},
		GPUs:    []observer.GPU{{PCI: displayGPU, Display: true, Driver: "nvidia"}},
	}
	if held {
		scan.Holders = []observer.Holder{{GPU: displayGPU, PID: 1001, Command: "sway", Unit: "session-2.scope"}}
	}
	return scan
}

func nvmlOf(mib float64) observer.NVML {
	card := observer.Card{PCI: displayGPU, MemoryUsed: observer.Measure{Reason: "not supported"}}
	if bytes := mib * (1 << 20); mib >= 0 {
		card.MemoryUsed = observer.Measure{Value: &bytes}
	}
	return observer.NVML{Reading: observer.Reading{At: time.Now()}, Driver: true, Cards: []observer.Card{card}}
}

// shown is what can be seen a while after the gate began: the memory in use, and whether
// somebody holds the GPU.
type shown func(after time.Duration) (mib float64, held bool)

// gateOf runs the gate of the display GPU over what is shown. It returns what the gate
// reported, how long it took, and its error.
func gateOf(t *testing.T, p policy.Policy, timeout time.Duration, shows shown) (
	residual []observer.GPUMemory, took time.Duration, err error,
) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		holders := releaseSource{observer.SourceHolders, began, func(after time.Duration) observer.Part {
			_, held := shows(after)
			return scanOf(held)
		}}
		nvml := releaseSource{observer.SourceGPU, began, func(after time.Duration) observer.Part {
			mib, _ := shows(after)
			return nvmlOf(mib)
		}}
		monitor := monitor.New(time.Second, zap.NewNop(), holders, nvml)
		running, stop := context.WithCancel(t.Context())
		var ended sync.WaitGroup
		ended.Go(func() { monitor.Run(running) })
		var told reported
		ctx, cancel := context.WithTimeout(stepreport.With(t.Context(), &told), timeout)
		gate := plans.Step{Kind: plans.Gate, Guard: policy.CheckGPUDisplayReleased}
		err = WaitHandlers(p, monitor)[plans.Gate].Verify(ctx, gate)
		residual, took = told.residual, time.Since(began)
		cancel()
		stop()
		ended.Wait()
	})
	return residual, took, err
}

func TestTheGateMeasuresWhatAReleaseLeaves(t *testing.T) {
	steps := func(after time.Duration) (float64, bool) { // the driver frees in steps
		switch {
		case after < 2*time.Second:
			return 900, true
		case after < 2700*time.Millisecond:
			return 300, false
		}
		return 80, false
	}
	never := func(after time.Duration) (float64, bool) {
		return float64(after / (100 * time.Millisecond) * 10), false
	}
	always := func(mib float64, held bool) shown {
		return func(time.Duration) (float64, bool) { return mib, held }
	}
	taken := func(after time.Duration) (float64, bool) { return 80, after > 300*time.Millisecond }
	const over = "900 MiB of its memory are in use, more than 160"
	cases := map[string]struct {
		threshold int
		timeout   time.Duration
		shows     shown
		fails     string
		mib       uint64 // reported; 0: nothing
		most      time.Duration
	}{
		"memory that was free before":    {0, time.Minute, always(80, false), "", 80, 2 * time.Second},
		"memory at rest, not on the way": {0, time.Minute, steps, "", 80, 5 * time.Second},
		"under a threshold":              {160, time.Minute, steps, "", 80, 5 * time.Second},
		"over a threshold":               {160, 10 * time.Second, always(900, false), over, 900, 10 * time.Second},
		"memory that never rests":        {0, time.Minute, never, "", 0, restLimit + time.Second},
		"no time to come to rest":        {0, 700 * time.Millisecond, always(80, false), "", 0, time.Second},
		"memory that cannot be read":     {160, time.Minute, always(-1, false), "", 0, 0},
		"a GPU that is held":             {0, 10 * time.Second, always(900, true), "sway", 0, 10 * time.Second},
		"released as the time ends":      {0, 2400 * time.Millisecond, steps, "", 0, 2400 * time.Millisecond},
		"taken while the memory rests":   {0, 10 * time.Second, taken, "sway", 0, 10 * time.Second},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			p := policy.Default()
			p.GPU.Display, p.GPU.ResidualMiB = []string{displayGPU}, c.threshold
			residual, took, err := gateOf(t, p, c.timeout, c.shows)
			if c.fails == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, c.fails)
			}
			var want []observer.GPUMemory
			if c.mib > 0 {
				want = []observer.GPUMemory{{GPU: displayGPU, Bytes: c.mib << 20}}
			}
			assert.Equal(t, want, residual)
			assert.LessOrEqual(t, took, c.most)
		})
	}
}
