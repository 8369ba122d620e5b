package plans

import (
	"slices"

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
		if (isolates || b.active(unit) != observer.True) && b.snapshot.Systemd.Units[unit].Loaded() && !b.has(StartUnit, unit) {
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
// mode's. One that isolating stops goes before that, drained, whichever it is.
func (b *builder) unwanted(isolates bool) []string {
	own := b.policy.VLLMUnit(b.plan.To)
	if !b.policy.VLLM.Enabled && b.plan.To == policy.Compute {
		return nil // nobody's business there
	}
	return slices.DeleteFunc(b.policy.VLLMUnits(), func(unit string) bool {
		return b.active(unit) == observer.False || unit == own && !isolates
	})
}

// stopVLLM drains vLLM and stops these units of it.
func (b *builder) stopVLLM(units []string) {
	if len(units) == 0 {
		return
	}
	b.add(Step{ID: "drain-vllm", Kind: Drain, Timeout: b.policy.VLLM.DrainTimeout.D()})
	b.noReturn()
	for _, unit := range units {
		b.add(Step{ID: "stop-" + bare(unit), Kind: StopUnit, Unit: unit})
	}
}

// startVLLM has the mode served in its profile. A compute target that was isolated
// may have brought another one along, which has served nobody yet, and may have
// stopped the right one. Only compute waits until it serves, and cannot do without:
// the way back to a person's desktop does not hang on a model.
func (b *builder) startVLLM(isolates bool) {
	compute, unit := b.plan.To == policy.Compute, b.policy.VLLMUnit(b.plan.To)
	if compute && isolates && b.policy.VLLM.Enabled {
		for _, other := range b.policy.OtherVLLMUnits(b.plan.To) {
			if b.snapshot.Systemd.Units[other].Loaded() {
				b.add(Step{ID: "stop-another-" + bare(other), Kind: StopUnit, Unit: other})
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
