package host_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/dubnium/dubnium/daemon/host"
	"github.com/dubnium/dubnium/internal/busconn/systemd1"
	"github.com/dubnium/dubnium/internal/rapidtest"
	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/internal/testhost/sim"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/observer/systemd"
	"github.com/dubnium/dubnium/plans"
	"github.com/dubnium/dubnium/policy"
)

func gives(slice, property, value string) plans.SliceChange {
	return plans.SliceChange{Slice: slice, Property: property, New: value}
}

func sets(changes ...plans.SliceChange) plans.Step {
	return plans.Step{ID: "set-slices", Kind: plans.SetSlices, Slices: changes}
}

// slice is what systemd has.
func (h *handlers) slice(name string) policy.Properties {
	h.t.Helper()
	s, err := systemd1.New(h.bus).Slice(bounded(h.t), name)
	require.NoError(h.t, err)
	return s.Properties
}

func (h *handlers) kernel(slice, file string) string {
	h.t.Helper()
	text, err := h.host.Cgroup(slice, file)
	require.NoError(h.t, err)
	return text
}

func (h *handlers) kept() observer.SavedState {
	h.t.Helper()
	var s observer.Snapshot
	h.saved.Read(h.t.Context()).Into(&s)
	require.True(h.t, s.Saved.Known(), s.Saved.Reason)
	return s.Saved
}

func TestSlices(t *testing.T) {
	h := newHandlers(t, testhost.Options{})
	h.host.Do(func(m *sim.Model) {
		require.NoError(
			t,
			m.SetProperties(
				"user.slice", sim.Setting{Name: "IOWeight", Value: uint64(30)},
				sim.Setting{Name: "AllowedCPUs", Value: []byte{0xf0}},
			),
		)
	})
	was := h.slice("user.slice")
	step := sets(
		gives("ai.slice", policy.CPUWeight, "10"), // nothing is in it, so that the kernel has nothing to show
		gives("user.slice", policy.AllowedCPUs, "0-2,9"), gives("user.slice", policy.CPUWeight, "400"),
		gives("user.slice", policy.IOWeight, "500"),
		gives("user.slice", policy.MemoryHigh, "8589934592"), gives("user.slice", policy.MemoryLow, policy.Infinity),
	)
	before := h.prepare(step)
	require.Equal(t, was, h.slice("user.slice"), "to prepare changes nothing")
	require.ErrorContains(t, h.verify(step), "CPUWeight of ai.slice is \"\" in systemd, not \"10\"")
	for range 2 { // once more changes nothing
		require.NoError(t, h.apply(step))
		require.NoError(t, h.verify(step))
		require.Equal(t, policy.Properties{
			policy.CPUWeight: "400", policy.IOWeight: "500", policy.MemoryHigh: "8589934592",
			policy.MemoryLow:   policy.Infinity,
			policy.AllowedCPUs: "0-2,9",
		}, h.slice("user.slice"), "the old list of processors is not added to")
		require.Equal(t, map[string]policy.Properties{"user.slice": was, "ai.slice": {policy.CPUWeight: ""}},
			h.kept().Slices)
	}
	for file, want := range map[string]string{
		"cpu.weight": "400", "io.weight": "default 500", "memory.high": "8589934592", "memory.low": "max",
		"cpuset.cpus": "0-2,9",
	} {
		require.Equal(t, want, h.kernel("user.slice", file))
	}
	for range 2 {
		require.NoError(t, h.undo(step, before))
		require.Equal(t, was, h.slice("user.slice"))
		require.Empty(t, h.slice("ai.slice")[policy.CPUWeight])
		require.Empty(t, h.kept().Slices)
	}
	require.Equal(t, "4-7", h.kernel("user.slice", "cpuset.cpus"))
}

func TestSlicesReturn(t *testing.T) {
	h := newHandlers(t, testhost.Options{})
	first := sets(gives("user.slice", policy.CPUWeight, "400"))
	require.NoError(t, h.apply(first))
	back := first
	back.Slices = []plans.SliceChange{{Slice: "user.slice", Property: policy.CPUWeight, New: "", Returns: true}}
	before := h.prepare(back)
	require.NoError(t, h.apply(back))
	require.NoError(t, h.verify(back))
	require.Empty(t, h.kept().Slices)
	require.NoError(t, h.undo(back, before))
	require.Equal(t, "400", h.slice("user.slice")[policy.CPUWeight])
	require.Equal(t, map[string]policy.Properties{"user.slice": {policy.CPUWeight: ""}}, h.kept().Slices)
}

func TestSlicesKernelDiffers(t *testing.T) {
	h := newHandlers(t, testhost.Options{})
	step := sets(
		gives("user.slice", policy.CPUWeight, "400"), gives("user.slice", policy.IOWeight, "300"),
		gives("user.slice", policy.MemoryHigh, "1048577"),
	)
	require.NoError(t, h.apply(step))
	const group = "sys/fs/cgroup/user.slice/"
	for _, c := range []struct{ file, right, wrong string }{
		{"memory.high", "1048576", "max"}, // whole pages
		{"cpu.weight", "400", "399"},
		{"io.weight", "default 300\n259:0 7", "default 100\n259:0 300"},
	} {
		require.NoError(t, h.host.WriteFile(group+c.file, c.wrong+"\n"))
		require.ErrorContains(t, h.verify(step), "cannot confirm the properties of user.slice: ", c.file)
		require.NoError(t, h.host.WriteFile(group+c.file, c.right+"\n"))
	}
	require.NoError(t, h.verify(step))
	require.NoError(t, h.host.WriteFile(group+"cpu.weight", "much\n"))
	require.ErrorContains(t, h.verify(step), "cannot parse")
}

func TestSlicesKernelHides(t *testing.T) {
	h := newHandlers(t, testhost.Options{})
	step := sets(gives("user.slice", policy.CPUWeight, "400"))
	require.NoError(t, h.apply(step))
	require.NoError(t, h.host.RemoveFile("sys/fs/cgroup/user.slice/cpu.weight"))
	require.NoError(t, h.verify(step), "the controller may not be enabled there")
	require.ErrorContains(
		t, h.verify(sets(gives("user.slice", policy.CPUWeight, "1"))), "in systemd, not \"1\"",
		"systemd still has to have it",
	)
}

func TestSlicesRefused(t *testing.T) {
	h := newHandlers(t, testhost.Options{})
	step := sets(
		gives("ai.slice", policy.CPUWeight, "7"), gives("user.slice", policy.CPUWeight, "400"),
		gives("user.slice", policy.IOWeight, "10001"),
	)
	was := map[string]policy.Properties{"ai.slice": h.slice("ai.slice"), "user.slice": h.slice("user.slice")}
	before := h.prepare(step)
	require.ErrorContains(
		t, h.apply(step), "cannot set properties of user.slice: Value specified in IOWeight is out of range",
	)
	require.Equal(t, was["user.slice"], h.slice("user.slice"), "all of a slice's or none")
	require.NoError(t, h.undo(step, before))
	require.Equal(t, was["ai.slice"], h.slice("ai.slice"))
	require.Empty(t, h.kept().Slices)
}

// Nothing is changed of which it cannot be written down what it was.
func TestSavedStateUnwritable(t *testing.T) {
	h := newHandlers(t, testhost.Options{})
	dir := t.TempDir()
	saved := host.OpenSavedState(dir, "this boot")
	h.byKind = host.StepHandlers(h.bus, policy.Default(), options(t, h.host, saved))
	require.NoError(t, h.host.SetActive("fstrim.timer", "active"))
	steps := []plans.Step{
		sets(gives("user.slice", policy.CPUWeight, "400")), {Kind: plans.Quiesce, Units: []string{"fstrim.timer"}},
	}

	require.NoError(t, os.WriteFile(filepath.Join(dir, "before.json"), []byte("{"), 0o644))
	var s observer.Snapshot
	saved.Read(t.Context()).Into(&s)
	require.Contains(t, s.Saved.Reason, "cannot read the saved state")
	for _, step := range steps {
		_, err := h.byKind[step.Kind].Prepare(bounded(t), step)
		require.ErrorContains(t, err, "cannot read the saved state")
	}
	require.NoError(t, os.RemoveAll(dir))
	for _, step := range steps {
		h.prepare(step)
		require.ErrorContains(t, h.apply(step), "cannot write the saved state")
	}
	require.Empty(t, h.slice("user.slice")[policy.CPUWeight])
	require.Equal(t, "active", h.state("fstrim.timer"))
}

func TestSavedStateOfBoot(t *testing.T) {
	h := newHandlers(t, testhost.Options{})
	dir := t.TempDir()
	h.byKind = host.StepHandlers(h.bus, policy.Default(), options(t, h.host, host.OpenSavedState(dir, "this boot")))
	require.NoError(t, h.apply(sets(gives("user.slice", policy.CPUWeight, "400"))))
	for boot, want := range map[string]int{"this boot": 1, "the next one": 0} {
		h.saved = host.OpenSavedState(dir, boot)
		require.Len(t, h.kept().Slices, want, boot)
	}
}

func TestSavedStateNotifies(t *testing.T) {
	h := newHandlers(t, testhost.Options{})
	ctx, cancel := context.WithCancel(bounded(t))
	defer cancel()
	poked := make(chan struct{}, 1)
	ended := make(chan error, 1)
	go func() { ended <- h.saved.Watch(ctx, func() { poked <- struct{}{} }) }()
	require.NoError(t, h.apply(sets(gives("user.slice", policy.CPUWeight, "400"))))
	<-poked
	cancel()
	require.NoError(t, <-ended)
}

// maintenance is a step for the units that policy wants quiet.
func maintenance(kind plans.Kind, units ...string) plans.Step {
	return plans.Step{ID: string(kind), Kind: kind, Units: units}
}

func TestQuiesceResume(t *testing.T) {
	h := newHandlers(t, testhost.Options{})
	units := []string{"fstrim.timer", "logrotate.timer", "no-such.timer", "nix-gc.service"}
	require.NoError(t, h.host.SetActive("logrotate.timer", "inactive"))
	require.NoError(t, h.host.Hang("nix-gc.service"))
	require.NoError(t, h.host.StartUnit("nix-gc.service", "replace"))
	require.NoError(t, h.host.SetFault("nix-gc.service", testhost.Fault{HangStart: true}))
	require.Equal(t, "activating", h.state("nix-gc.service"), "it works")

	quiet := maintenance(plans.Quiesce, units...)
	before := h.prepare(quiet)
	require.ErrorContains(t, h.verify(quiet), "fstrim.timer, nix-gc.service still runs")
	for range 2 {
		require.NoError(t, h.apply(quiet))
		require.NoError(t, h.verify(quiet))
		require.Equal(t, []string{"fstrim.timer", "nix-gc.service"}, h.kept().Quiesced)
	}
	undoAndBack := func() {
		require.NoError(t, h.undo(quiet, before))
		require.Equal(t, []string{"active", "inactive", "activating"},
			[]string{h.state("fstrim.timer"), h.state("logrotate.timer"), h.state("nix-gc.service")})
		require.Empty(t, h.kept().Quiesced)
		require.NoError(t, h.apply(quiet))
	}
	undoAndBack()

	loud := maintenance(plans.Resume, h.kept().Quiesced...)
	before = h.prepare(loud)
	require.ErrorContains(t, h.verify(loud), "fstrim.timer is inactive")
	for range 2 {
		require.NoError(t, h.apply(loud), "the step does not wait for the service to finish")
		require.NoError(t, h.verify(loud))
		require.Equal(t, []string{"active", "inactive", "activating"},
			[]string{h.state("fstrim.timer"), h.state("logrotate.timer"), h.state("nix-gc.service")})
		require.Empty(t, h.kept().Quiesced)
	}
	require.NoError(t, h.undo(loud, before))
	require.Equal(t, []string{"inactive", "inactive"}, []string{h.state("fstrim.timer"), h.state("nix-gc.service")})
	require.Equal(t, []string{"fstrim.timer", "nix-gc.service"}, h.kept().Quiesced)
}

func TestResumeMasked(t *testing.T) {
	h := newHandlers(t, testhost.Options{})
	quiet := maintenance(plans.Quiesce, "fstrim.timer", "logrotate.timer")
	require.NoError(t, h.apply(quiet))
	require.NoError(t, h.host.Mask("fstrim.timer"))
	loud := maintenance(plans.Resume, quiet.Units...)
	require.NoError(t, h.apply(loud))
	require.NoError(t, h.verify(loud))
	require.Equal(t, []string{"inactive", "active"}, []string{h.state("fstrim.timer"), h.state("logrotate.timer")})
	require.Empty(t, h.kept().Quiesced)
}

// After any sequence of modes and policies, with steps that failed and were undone, a
// desktop that sets nothing has the original slices and timers.
func TestModeSequences(t *testing.T) {
	h := newHandlers(t, testhost.Options{})
	rapidtest.Quick(t, 25, 0) // each takes a hundred calls over the bus
	names := []string{"user.slice", "ai.slice", "interactive.slice"}
	timers := []string{"fstrim.timer", "plocate-updatedb.timer"}
	p := policy.Default()
	p.Studio.Quiesce = timers
	rapid.Check(t, func(rt *rapid.T) {
		for _, name := range names {
			h.host.Do(func(m *sim.Model) {
				mask := rapid.SliceOfN(rapid.Byte(), 0, 2).Draw(rt, "cpus")
				require.NoError(t, m.SetProperties(name,
					sim.Setting{Name: "CPUWeight", Value: rapid.Uint64Range(1, 500).Draw(rt, "weight")},
					sim.Setting{Name: "AllowedCPUs", Value: []byte{}}, sim.Setting{Name: "AllowedCPUs", Value: mask}))
			})
		}
		for _, name := range timers {
			require.NoError(t, h.host.SetActive(name, rapid.SampledFrom([]string{"active", "inactive"}).Draw(rt, name)))
		}
		began := h.maintained(names, timers)
		for range rapid.IntRange(1, 4).Draw(rt, "modes") {
			h.changeMode(rt, drawPolicy(rt, p, names), rapid.SampledFrom(policy.Modes()).Draw(rt, "mode"))
		}
		h.goTo(rt, p, policy.Desktop, false)
		require.Equal(rt, began, h.maintained(names, timers))
		require.Empty(rt, h.kept().Slices)
		require.Empty(rt, h.kept().Quiesced)
	})
}

func drawPolicy(t *rapid.T, p policy.Policy, names []string) policy.Policy {
	draw := func() map[string]policy.Slice {
		return rapid.MapOf(rapid.SampledFrom(names), rapid.Custom(func(t *rapid.T) policy.Slice {
			return policy.Slice{
				CPUWeight:   rapid.IntRange(0, 10000).Draw(t, "cpu"),
				AllowedCPUs: rapid.SampledFrom([]policy.CPUList{"", "0", "1-9"}).Draw(t, "cpus"),
				MemoryHigh:  rapid.SampledFrom([]policy.Memory{"", "1G", "infinity"}).Draw(t, "high"),
			}
		})).Draw(t, "slices")
	}
	p.Slices = policy.Slices{Desktop: draw(), StudioLocal: draw(), Compute: draw()}
	return p
}

// changeMode goes to a mode and, if that is drawn, takes it back.
func (h *handlers) changeMode(t *rapid.T, p policy.Policy, to policy.Mode) {
	h.goTo(t, p, to, rapid.Bool().Draw(t, "fails"))
}

// goTo does those steps of a plan that are about slices and timers; what a plan
// still has afterwards is nothing. When it fails, every step is taken back.
func (h *handlers) goTo(t *rapid.T, p policy.Policy, to policy.Mode, fails bool) {
	names, timers := p.Slices.Names(), p.Studio.Units()
	was, kept := h.maintained(names, timers), h.kept()
	var undo []func() error
	for _, s := range h.maintenanceSteps(p, to) {
		before := h.prepare(s)
		require.NoError(t, h.apply(s))
		require.NoError(t, h.verify(s))
		undo = append(undo, func() error { return h.undo(s, before) })
	}
	require.Empty(t, h.maintenanceSteps(p, to))
	if !fails {
		return
	}
	for i := range undo {
		require.NoError(t, undo[len(undo)-1-i]())
	}
	require.Equal(t, was, h.maintained(names, timers))
	require.Equal(t, kept.Slices, h.kept().Slices)
	require.Equal(t, kept.Quiesced, h.kept().Quiesced)
}

// maintenanceSteps are those of a plan from what is observed.
func (h *handlers) maintenanceSteps(p policy.Policy, to policy.Mode) []plans.Step {
	h.t.Helper()
	var s observer.Snapshot
	systemd.New(h.bus, plans.Watched, p).Read(bounded(h.t)).Into(&s)
	require.True(h.t, s.Systemd.Known(), s.Systemd.Reason)
	s.Saved = h.kept()
	var steps []plans.Step
	for _, step := range plans.Build(p, s, to).Steps {
		switch step.Kind {
		case plans.SetSlices, plans.Quiesce, plans.Resume:
			steps = append(steps, step)
		}
	}
	return steps
}

// maintained is what steps for slices and timers change.
func (h *handlers) maintained(names, timers []string) map[string]any {
	all := map[string]any{}
	for _, name := range names {
		all[name] = h.slice(name)
	}
	for _, name := range timers {
		all[name] = h.state(name)
	}
	return all
}
