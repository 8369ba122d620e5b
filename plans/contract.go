package plans

import (
	"slices"
	"time"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// has reports whether the plan has a step of this kind for a unit already.
func (b *builder) has(kind Kind, unit string) bool {
	return slices.ContainsFunc(b.plan.Steps, func(s Step) bool { return s.Kind == kind && s.Unit == unit })
}

func (b *builder) active(unit string) observer.Truth { return b.snapshot.Systemd.Runs(unit) }

// contractUnits stops what the mode forbids, where the policy lets it, and starts
// what the mode requires. After an isolate nothing is known to have stayed, so
// whatever is required is asked for again, which is nothing where it runs. The way
// to a desktop does not hang on any of it: what systemd cannot load is left out,
// and what fails degrades the mode.
func (b *builder) contractUnits(isolates bool) {
	c, optional := b.policy.Contract(b.plan.To), b.plan.To == policy.Desktop
	for _, unit := range c.Forbidden {
		if c.StopForbidden && b.active(unit) != observer.False && !b.survives(unit) && !b.has(StopUnit, unit) {
			b.add(Step{ID: "stop-" + unit, Kind: StopUnit, Unit: unit, Optional: optional})
		}
	}
	for _, unit := range c.Required {
		if (isolates || b.active(unit) != observer.True) &&
			b.snapshot.Systemd.Units[unit].Loaded() && !b.has(StartUnit, unit) {
			b.add(Step{ID: "start-" + unit, Kind: StartUnit, Unit: unit, Optional: optional})
		}
	}
}

// survives reports whether a unit is one of must_survive, by whichever of its names.
func (b *builder) survives(unit string) bool {
	id := func(name string) string {
		if real := b.snapshot.Systemd.Units[name].ID; real != "" {
			return real
		}
		return name
	}
	return slices.ContainsFunc(b.policy.MustSurvive, func(kept string) bool { return id(kept) == id(unit) })
}

// unwanted lists the units of vLLM that are not known to be down and are not the
// mode's, and those that ended and left the GPU full, the mode's own too. One that
// isolating stops goes before that, drained, whichever it is.
func (b *builder) unwanted(isolates bool) []string {
	own := b.policy.VLLMUnit(b.plan.To)
	if !b.policy.VLLM.Enabled && b.plan.To == policy.Compute {
		return nil // nobody's business there
	}
	return slices.DeleteFunc(observer.VLLMUnits(b.policy, b.snapshot.Systemd), func(unit string) bool {
		return b.down(unit) || unit == own && !isolates && b.active(unit) != observer.False
	})
}

// down: a unit of vLLM is known to be down, and nothing of it is seen on a GPU.
func (b *builder) down(unit string) bool {
	return b.active(unit) == observer.False && len(observer.Workers(b.snapshot, []string{unit}, nil)) == 0
}

// stopVLLM drains vLLM and stops these units of it.
func (b *builder) stopVLLM(units []string) {
	if len(units) == 0 {
		return
	}
	if slices.ContainsFunc(units, func(unit string) bool { return b.active(unit) != observer.False }) {
		b.add(Step{
			ID: "drain-vllm", Kind: Drain, Timeout: b.policy.VLLM.DrainTimeout.D(),
			Optional: b.policy.VLLM.OnDrainTimeout == policy.DrainStop,
		})
	}
	b.noReturn()
	for _, unit := range units {
		b.endVLLM("stop-"+bare(unit), unit)
	}
	// Workers in other units may serve the profile that keeps running.
	kept := b.policy.VLLMUnit(b.plan.To)
	if slices.Contains(units, kept) || b.active(kept) == observer.False {
		kept = ""
	}
	b.plan.Steps[len(b.plan.Steps)-1].Units = b.policy.VLLMWorkerUnits(kept)
}

// workerGrace is how long a worker in another unit than vLLM's has to see that it is
// alone.
const workerGrace = 5 * time.Second

func (b *builder) endVLLM(id, unit string) {
	b.add(Step{
		ID: id, Kind: StopVLLM, Unit: unit, Grace: workerGrace, NeedsMemory: b.plan.To == policy.Compute,
		Timeout: b.policy.Timeouts.Unit.D() + b.policy.Timeouts.GPURelease.D(),
	})
}

// startVLLM has the mode served in its profile. A compute target that was isolated
// may have brought another one along, which has served nobody yet, and may have
// stopped the right one. Only compute waits until it serves, and cannot do without:
// the way back to a person's desktop does not hang on a model.
func (b *builder) startVLLM(isolates bool) {
	compute, unit := b.plan.To == policy.Compute, b.policy.VLLMUnit(b.plan.To)
	if compute && isolates && b.policy.VLLM.Enabled {
		for _, other := range observer.OtherVLLMUnits(b.policy, b.snapshot.Systemd, b.plan.To) {
			if b.snapshot.Systemd.Units[other].Loaded() {
				b.endVLLM("stop-another-"+bare(other), other)
			}
		}
	}
	if unit == "" || !compute && !b.snapshot.Systemd.Units[unit].Loaded() {
		return
	}
	starts := isolates || b.active(unit) != observer.True
	if starts {
		b.add(Step{ID: "start-" + bare(unit), Kind: StartUnit, Unit: unit, Optional: !compute})
	}
	if compute && (starts || b.facts.Is(observer.VLLMHealthy) != observer.True) {
		b.add(Step{ID: "await-vllm-healthy", Kind: AwaitHealthy, Unit: unit, Timeout: b.policy.VLLM.StartTimeout.D()})
	}
}
