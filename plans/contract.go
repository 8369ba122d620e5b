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

// contractUnits stops the units that the mode forbids, if policy allows that, and starts
// those that it requires. After an isolate any unit may have stopped, so all that are
// required are started again. The way to desktop does not depend on them: a unit that
// systemd cannot load is left out, and one that fails degrades the mode.
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

// survives reports whether a unit is in must_survive, under any of its names.
func (b *builder) survives(unit string) bool {
	id := func(name string) string {
		if real := b.snapshot.Systemd.Units[name].ID; real != "" {
			return real
		}
		return name
	}
	return slices.ContainsFunc(b.policy.MustSurvive, func(name string) bool { return id(name) == id(unit) })
}

// unwanted lists the units of vLLM to stop: those that are not known to be inactive and
// are not the mode's, and those that have ended while a process of them has a GPU open,
// the mode's own among them. If the plan isolates, the mode's own is stopped too, so
// that it is drained before.
func (b *builder) unwanted(isolates bool) []string {
	own := b.policy.VLLMUnit(b.plan.To)
	if !b.policy.VLLM.Enabled && b.plan.To == policy.Compute {
		return nil // the policy does not manage vLLM in compute
	}
	return slices.DeleteFunc(observer.VLLMUnits(b.policy, b.snapshot.Systemd), func(unit string) bool {
		return b.down(unit) || unit == own && !isolates && b.active(unit) != observer.False
	})
}

// down reports whether a unit of vLLM is known to be inactive, and no process of it is
// seen on a GPU.
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
	b.commit()
	for _, unit := range units {
		b.endVLLM("stop-"+bare(unit), unit)
	}
	// Workers in other units may serve the profile that keeps running.
	running := b.policy.VLLMUnit(b.plan.To)
	if slices.Contains(units, running) || b.active(running) == observer.False {
		running = ""
	}
	b.plan.Steps[len(b.plan.Steps)-1].Units = b.policy.VLLMWorkerUnits(running)
}

// workerGrace is how long a worker in another unit than vLLM's has to exit by itself.
const workerGrace = 5 * time.Second

func (b *builder) endVLLM(id, unit string) {
	b.add(Step{
		ID: id, Kind: StopVLLM, Unit: unit, Grace: workerGrace, NeedsMemory: b.plan.To == policy.Compute,
		Timeout: b.policy.Timeouts.Unit.D() + b.policy.Timeouts.GPURelease.D(),
	})
}

// startVLLM starts the unit of the mode's profile. Isolating the compute target may have
// started another profile, which has served no request yet, and may have stopped the
// right one. Only compute requires vLLM and waits until it is healthy: the way to a
// desktop does not depend on it.
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
