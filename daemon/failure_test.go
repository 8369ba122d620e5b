package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

var errBroken = errors.New("broken on purpose")

// TestFailureAnywhere: whichever step of whichever transition fails,
// or never ends, the host is back where it came from, and the record says so.
func TestFailureAnywhere(t *testing.T) {
	faults := map[string]func(context.Context) error{
		"fails": func(context.Context) error { return errBroken },
		"hangs": func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
	}
	for name, route := range routes {
		for how, fault := range faults {
			t.Run(name+" "+how, func(t *testing.T) {
				t.Parallel()
				cases := 0
				for failAt(t, route, cases, fault) {
					cases += sample
				}
				assert.Greater(t, cases, 5)
				t.Logf("%d failures", cases/sample)
			})
		}
	}
}

// failAt reports whether the route has an n-th thing that can fail.
func failAt(t *testing.T, route []policy.Mode, n int, fault func(context.Context) error) (met bool) {
	inBubble(t, func(t *testing.T, r *harness) {
		last := len(route) - 1
		for _, mode := range route[:last] {
			require.Equal(t, status.Success, r.request(mode).Result)
		}
		origin := r.View().Observation.State
		seen := 0
		r.host.fault = func(ctx context.Context, when, what string) error {
			seen++
			if seen-1 != n || strings.HasPrefix(what, "undo") {
				return nil
			}
			met = true
			return fault(ctx)
		}
		record := r.request(route[last])
		if !met {
			require.Equal(t, status.Success, record.Result, record.Cause)
			return
		}
		checkFailure(t, record, origin)
		if mode := policy.Mode(record.Final); slices.Contains(policy.Modes(), mode) {
			r.host.requireAs(t, mode, fmt.Sprintf("failure %d", n))
		}
		r.host.fault = nil
		assert.True(t, r.request(route[last]).Result.Reached(), "the next request works, after failure %d", n)
	})
	return met
}

// checkFailure: the target was observed all the same, or the host is back, or it
// is in desktop because somebody is logged in there now.
func checkFailure(t *testing.T, record status.Record, origin observer.State) {
	t.Helper()
	switch {
	case record.Result == status.Success:
		assert.Equal(t, observer.Of(record.To), record.Final)
	case origin == "compute" && record.Result == status.Failed && record.Final == "desktop":
		assert.Contains(t, record.Cause, "a graphical session exists")
	default:
		assert.Contains(t, []status.Result{status.RolledBack, status.Failed, status.TimedOut}, record.Result, record.Cause)
		assert.Contains(t, []observer.State{origin, "degraded-" + origin}, record.Final, record.Cause)
	}
	assert.NotEmpty(t, record.Cause)
}

func TestUndoFails(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		r.host.unhealthy = true
		r.host.fault = func(_ context.Context, when, what string) error {
			if what == "apply start-vllm" || strings.HasPrefix(what, "undo") {
				return errBroken
			}
			return nil
		}
		record := r.request(policy.Compute)
		assert.Equal(t, status.RollbackFailed, record.Result)
		assert.Contains(t, record.Cause, "cannot undo step isolate-compute")
		assert.Contains(
			t, record.Cause, "cannot undo step stop-display-manager", "one failing undo does not hide or stop another",
		)
		assert.Equal(t, observer.State("degraded-compute"), record.Final)
		r.host.fault = nil
		assert.Equal(t, status.Success, r.request(policy.Desktop).Result, "a request recovers the machine")
	})
}

func TestUnhealthyVLLM(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		r.host.unhealthy = true
		record := r.request(policy.Compute)
		assert.Equal(t, status.RolledBack, record.Result)
		assert.Contains(t, record.Cause, "vLLM is not healthy")
		assert.Equal(t, observer.State("desktop"), record.Final)
		for _, e := range r.seen.all() {
			if e.StateChanged != nil {
				assert.NotEqual(t, observer.State("compute"), e.StateChanged.New)
			}
		}
	})
}

func TestDrain(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		r.request(policy.Compute)
		r.host.change(func() { *r.host.now.Inference.Running = 1; r.host.applied = nil })
		_, err := r.Request(t.Context(), status.Request{Mode: policy.Desktop})
		require.NoError(t, err)
		synctest.Wait()
		assert.Empty(t, r.applied())
		r.host.change(func() { *r.host.now.Inference.Running = 0 })
		assert.Equal(t, status.Success, r.settle().Last.Result)
	})
}

func TestDrainTimeout(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		r.request(policy.Compute)
		r.host.change(func() { *r.host.now.Inference.Running = 1; r.host.applied = nil })
		record := r.request(policy.Desktop)
		assert.Equal(t, status.TimedOut, record.Result)
		assert.Empty(t, r.applied())
		assert.Equal(t, observer.State("failed-transition"), r.View().Observation.State, "not the mode that was requested")
	})
}
