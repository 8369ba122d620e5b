package host_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/internal/testhost/sim"
	"github.com/dubnium/dubnium/plans"
)

func start(unit string) plans.Step { return plans.Step{Kind: plans.StartUnit, Unit: unit} }
func stop(unit string) plans.Step  { return plans.Step{Kind: plans.StopUnit, Unit: unit} }

// awaitBegun waits until the simulated host has begun what the step requested.
func (h *handlers) awaitBegun(kind plans.Kind) {
	h.t.Helper()
	err := h.host.Wait(bounded(h.t), "the step has begun", func(m *sim.Model) bool {
		if kind != plans.EndSessions {
			return len(m.Jobs()) > 0
		}
		for _, s := range m.Sessions() {
			if s.Class == "user" && s.State == "closing" {
				return true
			}
		}
		return false
	})
	require.NoError(h.t, err)
}

func TestStart(t *testing.T) {
	h := newHandlers(t, testhost.Options{JobTime: 5 * time.Millisecond})
	step := start("vllm.service")
	before := h.prepare(step)
	require.ErrorContains(t, h.verify(step), "vllm.service is inactive")
	require.NoError(t, h.apply(step))
	require.Equal(t, "active", h.state("vllm.service"))
	require.NoError(t, h.verify(step))
	require.NoError(t, h.apply(step), "once more changes nothing")

	require.NoError(t, h.undo(step, before))
	require.Equal(t, "inactive", h.state("vllm.service"))
	require.NoError(t, h.undo(step, before), "once more changes nothing")
}

func TestStartUndo(t *testing.T) {
	h := newHandlers(t, testhost.Options{})
	step := start("greetd.service")
	before := h.prepare(step)
	require.NoError(t, h.apply(step))
	require.NoError(t, h.undo(step, before))
	require.Equal(t, "active", h.state("greetd.service"))
}

func TestStop(t *testing.T) {
	h := newHandlers(t, testhost.Options{JobTime: 5 * time.Millisecond})
	step := stop("display-manager.service") // an alias
	before := h.prepare(step)
	require.ErrorContains(t, h.verify(step), "display-manager.service is active")
	require.NoError(t, h.apply(step))
	require.Equal(t, "inactive", h.state("greetd.service"))
	require.NoError(t, h.verify(step))
	require.NoError(t, h.undo(step, before))
	require.Equal(t, "active", h.state("greetd.service"))
}

func TestStopUndo(t *testing.T) {
	h := newHandlers(t, testhost.Options{})
	step := stop("vllm.service")
	before := h.prepare(step)
	require.NoError(t, h.apply(step))
	require.NoError(t, h.undo(step, before))
	require.Equal(t, "inactive", h.state("vllm.service"))
}

func TestStopMissing(t *testing.T) {
	h := newHandlers(t, testhost.Options{})
	step := stop("mode-prepare-compute.service")
	h.prepare(step)
	require.NoError(t, h.apply(step))
	require.NoError(t, h.verify(step))
}

func TestAStartThatFailsSaysHow(t *testing.T) {
	cases := map[string]struct {
		breaks func(*testhost.Host) error
		unit   string
		want   string
	}{
		"it fails": {
			func(h *testhost.Host) error { return h.Fail("vllm.service") },
			"vllm.service", "cannot start vllm.service: job failed (exit-code)",
		},
		"it times out": {
			func(h *testhost.Host) error { return h.SetFault("vllm.service", testhost.Fault{TimeoutStart: true}) },
			"vllm.service", "cannot start vllm.service: job timeout (timeout)",
		},
		"what it requires fails": {
			func(h *testhost.Host) error {
				h.AddUnit(testhost.Unit{Name: "weights.service"})
				h.AddUnit(
					testhost.Unit{
						Name: "needs.service", Requires: []string{"weights.service"},
						After: []string{"weights.service"},
					},
				)
				return h.Fail("weights.service")
			},
			"needs.service", "cannot start needs.service: job dependency",
		},
		"it is masked": {
			func(h *testhost.Host) error { return h.Mask("vllm.service") },
			"vllm.service", "cannot start vllm.service: Unit vllm.service is masked.",
		},
		"it is not there": {
			func(*testhost.Host) error { return nil },
			"no-such.service", "cannot start no-such.service: Unit no-such.service not found.",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			h := newHandlers(t, testhost.Options{})
			require.NoError(t, c.breaks(h.host))
			before := h.prepare(start(c.unit))
			require.EqualError(t, h.apply(start(c.unit)), c.want)
			require.Error(t, h.verify(start(c.unit)))
			require.NoError(t, h.undo(start(c.unit), before), "a partial start can be undone")
		})
	}
}

func TestJobCanceled(t *testing.T) {
	h := newHandlers(t, testhost.Options{})
	require.NoError(t, h.host.Hang("vllm.service"))
	done := h.applying(bounded(t), start("vllm.service"))
	h.awaitBegun(plans.StartUnit)
	require.NoError(t, h.host.StopUnit("vllm.service", "replace"))
	require.NoError(t, h.host.Heal("vllm.service"))
	require.EqualError(t, receive(t, done), "cannot start vllm.service: job canceled")
}

func TestOneshot(t *testing.T) {
	h := newHandlers(t, testhost.Options{})
	h.host.AddUnit(testhost.Unit{Name: "mode-prepare-compute.service", Oneshot: true, StartTakes: 5 * time.Millisecond})
	step := start("mode-prepare-compute.service")
	require.NoError(t, h.apply(step))
	require.Equal(t, "inactive", h.state(step.Unit))
	require.NoError(t, h.verify(step))

	require.NoError(t, h.host.Fail(step.Unit))
	require.EqualError(t, h.apply(step), "cannot start mode-prepare-compute.service: job failed (exit-code)")
	require.EqualError(t, h.verify(step), "mode-prepare-compute.service is failed (exit-code)")
}

func TestJobHangs(t *testing.T) {
	for name, step := range map[string]plans.Step{"start": start("vllm.service"), "stop": stop("greetd.service")} {
		t.Run(name, func(t *testing.T) {
			h := newHandlers(t, testhost.Options{})
			require.NoError(t, h.host.Hang(step.Unit))
			before := h.prepare(step)
			ctx := newExpiring(t)
			done := h.applying(ctx, step)
			h.awaitBegun(step.Kind)
			ctx.expire()
			err := receive(t, done)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.ErrorContains(t, err, "cannot "+name+" "+step.Unit+": ")
			require.Error(t, h.verify(step))
			require.NoError(t, h.host.Heal(step.Unit))
			require.NoError(t, h.undo(step, before))
			want := map[string]string{"start": "inactive", "stop": "active"}[name]
			require.NoError(t, h.host.WaitUnit(bounded(t), step.Unit, want))
		})
	}
}

func TestStopFails(t *testing.T) {
	h := newHandlers(t, testhost.Options{})
	require.NoError(t, h.host.SetFault("greetd.service", testhost.Fault{TimeoutStop: true}))
	require.NoError(t, h.apply(stop("greetd.service")))
	require.NoError(t, h.verify(stop("greetd.service")))
	require.Equal(t, "failed", h.state("greetd.service"))
}

func TestForgedJobRemoved(t *testing.T) {
	h := newHandlers(t, testhost.Options{})
	require.NoError(t, h.host.Hang("vllm.service"))
	done := h.applying(bounded(t), start("vllm.service"))
	h.awaitBegun(plans.StartUnit)
	u, err := h.host.Unit("vllm.service")
	require.NoError(t, err)
	h.forge("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "JobRemoved", u.Job.ID,
		dbus.ObjectPath("/org/freedesktop/systemd1/job/"+strconv.Itoa(int(u.Job.ID))), "vllm.service", "done")
	require.NoError(t, h.host.Fail("vllm.service"))
	require.EqualError(t, receive(t, done), "cannot start vllm.service: job failed (exit-code)")
}
