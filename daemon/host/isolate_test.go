package host_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/plans"
)

var (
	toCompute = plans.Step{Kind: plans.Isolate, Unit: "compute.target"}
	toDesktop = plans.Step{Kind: plans.Isolate, Unit: "desktop.target"}
)

func TestIsolate(t *testing.T) {
	h := newHandlers(t, testhost.Options{})
	require.NoError(t, h.host.Slow("greetd.service", 50*time.Millisecond))
	require.ErrorContains(t, h.verify(toCompute), "compute.target is inactive")
	require.NoError(t, h.apply(toCompute))
	require.Equal(t, "inactive", h.state("greetd.service"), "it was still stopping when isolate answered")
	require.Equal(t, "inactive", h.state("graphical.target"))
	require.NoError(t, h.verify(toCompute))
	require.ErrorContains(t, h.verify(toDesktop), "desktop.target is inactive")
	require.NoError(t, h.apply(toCompute), "once more changes nothing")
}

func TestIsolateTwoTargets(t *testing.T) {
	h := newHandlers(t, testhost.Options{})
	require.NoError(t, h.host.SetActive("compute.target", "active"))
	require.ErrorContains(t, h.verify(toCompute), "desktop.target is active")
}

// Where both mode targets are active, the way back is the one that is not to be
// isolated.
func TestIsolateUndoTarget(t *testing.T) {
	h := newHandlers(t, testhost.Options{})
	require.NoError(t, h.host.SetActive("compute.target", "active"))
	for _, c := range []struct {
		step plans.Step
		want string
	}{{toCompute, "desktop.target"}, {toDesktop, "compute.target"}} {
		var was struct{ Target string }
		require.NoError(t, json.Unmarshal(h.prepare(c.step), &was))
		require.Equal(t, c.want, was.Target)
	}
}

// A target that wants a unit does not take it with it when it is stopped.
func TestIsolateUndoStops(t *testing.T) {
	h := newHandlers(t, testhost.Options{NoAutoLogin: true})
	before := h.prepare(toCompute)
	require.NoError(t, h.apply(toCompute))
	require.NoError(t, h.host.WaitUnit(bounded(t), "vllm.service", "active"), "compute.target wants it")
	require.NoError(t, h.undo(toCompute, before))
	require.Equal(t, "inactive", h.state("vllm.service"))

	require.NoError(t, h.apply(toCompute))
	before = h.prepare(toDesktop)
	require.NoError(t, h.apply(toDesktop))
	require.Equal(t, "active", h.state("greetd.service"), "desktop.target wants it")
	require.NoError(t, h.undo(toDesktop, before))
	require.Equal(t, "inactive", h.state("greetd.service"))
	require.Equal(t, "active", h.state("compute.target"))
}

func TestIsolateUndoStarts(t *testing.T) {
	h := newHandlers(t, testhost.Options{Units: []testhost.Unit{
		{Name: "byhand.service"},
		{Name: "byhand.timer"},
		{Name: "run-u1.service", Transient: true},
		{Name: "pulled.target", RefuseManualStart: true},
	}})
	for _, unit := range []string{"byhand.service", "byhand.timer", "run-u1.service", "pulled.target"} {
		require.NoError(t, h.host.SetActive(unit, "active"))
	}
	before := h.prepare(toCompute)
	var was struct {
		Target            string
		Active, Transient []string
	}
	require.NoError(t, json.Unmarshal(before, &was))
	require.Equal(t, "desktop.target", was.Target)
	require.Contains(t, was.Active, "byhand.timer")
	require.NotContains(t, was.Active, "user@1000.scope")
	require.Equal(t, []string{"run-u1.service"}, was.Transient)

	require.NoError(t, h.apply(toCompute))
	require.Equal(t, "inactive", h.state("byhand.service"))
	for range 2 {
		require.NoError(t, h.undo(toCompute, before))
		for _, unit := range []string{
			"desktop.target", "graphical.target", "greetd.service", "byhand.service", "byhand.timer",
		} {
			require.Equal(t, "active", h.state(unit), unit)
		}
		require.Equal(t, "inactive", h.state("compute.target"))
		require.Equal(t, "inactive", h.state("run-u1.service"))
	}
}

func TestIsolateUndoGoesOn(t *testing.T) {
	h := newHandlers(
		t, testhost.Options{Units: []testhost.Unit{{Name: "a.service"}, {Name: "b.service"}, {Name: "c.service"}}},
	)
	for _, unit := range []string{"a.service", "b.service", "c.service"} {
		require.NoError(t, h.host.SetActive(unit, "active"))
	}
	before := h.prepare(toCompute)
	require.NoError(t, h.apply(toCompute))
	require.NoError(t, h.host.Fail("a.service"))
	require.NoError(t, h.host.Mask("b.service"))
	err := h.undo(toCompute, before)
	require.ErrorContains(t, err, "cannot start a.service: job failed (exit-code)")
	require.ErrorContains(t, err, "cannot start b.service: Unit b.service is masked.")
	require.Equal(t, "active", h.state("c.service"))
	require.Equal(t, "active", h.state("desktop.target"))
}

func TestIsolateUndoPartial(t *testing.T) {
	h := newHandlers(t, testhost.Options{})
	before := h.prepare(toCompute)
	require.NoError(t, h.host.Hang("greetd.service"))
	ctx := newExpiring(t)
	done := h.applying(ctx, toCompute)
	require.NoError(t, h.host.WaitUnit(bounded(t), "compute.target", "active"))
	ctx.expire()
	err := receive(t, done)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "cannot isolate compute.target: ")
	require.ErrorContains(t, err, "running jobs: greetd.service (stop)", "the target waits for others")
	require.NoError(t, h.host.Heal("greetd.service"))
	require.NoError(t, h.undo(toCompute, before))
	require.NoError(t, h.verify(toDesktop))
	require.NoError(t, h.host.WaitUnit(bounded(t), "greetd.service", "active"))
}

func TestIsolateUndoNoMode(t *testing.T) {
	h := newHandlers(t, testhost.Options{DefaultTarget: "graphical.target"})
	before := h.prepare(toCompute)
	require.NoError(t, h.apply(toCompute))
	require.NoError(t, h.undo(toCompute, before))
	require.Equal(t, "inactive", h.state("compute.target"))
	require.Equal(t, "inactive", h.state("desktop.target"))
	require.Equal(t, "active", h.state("graphical.target"))
}

func TestIsolateImpossible(t *testing.T) {
	cases := map[string]struct {
		breaks func(*testhost.Host) error
		want   string
	}{
		"masked": {func(h *testhost.Host) error { return h.Mask("compute.target") }, "Unit compute.target is masked."},
		"not to be isolated": {func(h *testhost.Host) error {
			return h.EditUnit("compute.target", func(u *testhost.Unit) { u.AllowIsolate = false })
		}, "cannot isolate compute.target: "},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			h := newHandlers(t, testhost.Options{})
			require.NoError(t, c.breaks(h.host))
			require.ErrorContains(t, h.apply(toCompute), c.want)
			require.NoError(t, h.verify(toDesktop))
		})
	}
}

func TestIsolateUnitFails(t *testing.T) {
	h := newHandlers(
		t, testhost.Options{Units: []testhost.Unit{{Name: "weights.service", RequiredBy: []string{"compute.target"}}}},
	)
	require.NoError(t, h.host.Fail("weights.service"))
	require.NoError(
		t, h.host.EditUnit("compute.target", func(u *testhost.Unit) { u.After = append(u.After, "weights.service") }),
	)
	require.ErrorContains(t, h.apply(toCompute), "cannot start compute.target: job dependency")
}
