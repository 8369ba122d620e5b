package plans

import (
	"slices"
	"strings"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// Build returns the steps from the facts of s to mode to.
func Build(p policy.Policy, s observer.Snapshot, to policy.Mode) Plan {
	b := builder{policy: p, snapshot: s, facts: observer.Derive(p, s), slices: slicesOf(s), plan: Plan{To: to}}
	if to == policy.Compute {
		b.toCompute()
	} else {
		b.toInteractive(to)
	}
	return b.plan
}

type builder struct {
	policy   policy.Policy
	snapshot observer.Snapshot
	facts    observer.Facts
	slices   sliceFacts
	plan     Plan
}

func (b *builder) add(s Step) {
	if s.Timeout == 0 {
		s.Timeout = b.policy.Timeouts.Unit.D()
	}
	b.plan.Steps = append(b.plan.Steps, s)
}

// start adds a step for a unit that is not known to be active.
func (b *builder) start(unit string, signal observer.Signal) {
	if b.facts.Is(signal) != observer.True && !b.has(StartUnit, unit) {
		b.add(Step{ID: "start-" + bare(unit), Kind: StartUnit, Unit: unit})
	}
}

// stop adds a step for a unit that is not known to be inactive.
func (b *builder) stop(unit string, signal observer.Signal) {
	if b.facts.Is(signal) != observer.False && !b.has(StopUnit, unit) {
		b.add(Step{ID: "stop-" + bare(unit), Kind: StopUnit, Unit: unit})
	}
}

// prepare adds the host's preparation unit, if it has one: before the point of no
// return, and only if the plan has other steps.
func (b *builder) prepare() {
	unit := policy.PrepareUnit(b.plan.To)
	if b.snapshot.Systemd.Units[unit].Loaded() {
		b.add(Step{ID: "start-" + bare(unit), Kind: StartUnit, Unit: unit})
	}
}

// commit sets the point of no return behind the steps that were added so far.
func (b *builder) commit() { b.plan.CommitIndex = len(b.plan.Steps) }

// toInteractive plans the way to desktop or studio-local: the same target, with or
// without the overlay.
func (b *builder) toInteractive(to policy.Mode) {
	units := b.policy.Units
	leaving := observer.LeavesCompute(b.policy, b.snapshot, to)
	b.guardInteractive(to, leaving)
	if leaving {
		b.prepare()
	}
	b.commit()
	b.stopVLLM(b.unwanted(leaving))
	switch {
	case leaving:
		b.gate(policy.CheckGPUDisplayReleased)
		// The slices of desktop also for studio-local: if the overlay fails, a user who
		// has logged in meanwhile stays on a desktop.
		b.setSlices(policy.Desktop)
		b.isolate(units.DesktopTarget)
	default:
		b.start(units.DesktopTarget, observer.DesktopTarget)
		// Out of compute, isolate starts the display manager with the target. Here the
		// target may be active without it.
		if b.facts.Is(observer.DesktopPresence) != observer.True {
			b.start(units.DisplayManager, observer.DisplayManager)
		}
	}
	b.contractUnits(leaving)
	if to == policy.StudioLocal {
		b.quiesce(leaving || b.facts.Is(observer.DesktopTarget) != observer.True)
		b.setSlices(to)
		b.start(units.AudioPriority, observer.AudioPriority)
		b.start(units.StudioPolicy, observer.StudioPolicy)
		return
	}
	b.stop(units.AudioPriority, observer.AudioPriority)
	b.stop(units.StudioPolicy, observer.StudioPolicy)
	b.resume()
	b.setSlices(to)
	b.startVLLM(leaving)
}

// guard adds those of the policy's guards for the mode that apply to this plan.
func (b *builder) guard(applies func(policy.GuardID) bool) {
	guards, _ := b.policy.GuardsTo(b.plan.To)
	b.plan.Guards = slices.DeleteFunc(guards, func(id policy.GuardID) bool { return !applies(id) })
}

// guardInteractive chooses the guards of the way to desktop or studio-local. Some
// apply only to a desktop that is active: before that nobody can use its screen.
func (b *builder) guardInteractive(to policy.Mode, leaving bool) {
	up := !leaving && b.facts.Is(observer.DesktopTarget) == observer.True
	b.guard(func(id policy.GuardID) bool {
		switch id {
		case policy.CheckGraphicalSessionPresent, policy.CheckUserJobsSafe:
			return up
		case policy.CheckMemoryHeadroom:
			return leaving || up && to == policy.StudioLocal && b.policy.Guards.Chosen(id)
		case policy.CheckVLLMDrainable:
			return leaving || len(b.unwanted(leaving)) > 0
		}
		return true
	})
}

// guardCompute chooses the guards of the way to compute. disruptive: the plan ends
// sessions or isolates; only then do the guards that protect users apply.
func (b *builder) guardCompute(disruptive bool) {
	b.guard(func(id policy.GuardID) bool {
		switch id {
		case policy.CheckAudioIdle, policy.CheckCPULoadSafe, policy.CheckUserJobsSafe,
			policy.CheckGraphicalSessionTerminable:
			return disruptive
		case policy.CheckVLLMDrainable:
			return len(b.unwanted(false)) > 0
		}
		return true
	})
}

// toCompute plans the way to compute. It ends the sessions before it isolates, since a
// compositor survives isolate, and stops the display manager before that, since it would
// start a new greeter within a second.
func (b *builder) toCompute() {
	units := b.policy.Units
	leaving := b.facts.Is(observer.ComputeTarget) != observer.True
	isolates := leaving || b.facts.Is(observer.DesktopTarget) != observer.False
	people := b.facts.Is(observer.GraphicalSession) != observer.False || b.facts.Is(observer.Greeter) != observer.False
	b.guardCompute(isolates || people)
	if leaving {
		b.prepare()
	}
	b.commit()
	b.stopVLLM(b.unwanted(false))
	if people {
		b.askSessions() // before the stop of the display manager, which may end its session
	}
	b.stop(units.DisplayManager, observer.DisplayManager)
	if people {
		b.endSessions()
		b.setPeople()
	}
	if isolates || b.facts.Is(observer.DisplayReleased) != observer.True {
		b.gate(policy.CheckGraphicalSessionAbsent)
		b.gate(policy.CheckGPUDisplayReleased)
	}
	b.stop(units.AudioPriority, observer.AudioPriority)
	b.stop(units.StudioPolicy, observer.StudioPolicy)
	b.resume() // isolate then stops those that compute.target does not want, as it does from a desktop
	b.setSlices(policy.Compute)
	if isolates {
		b.isolate(units.ComputeTarget)
	}
	b.contractUnits(isolates)
	b.startVLLM(isolates)
}

func (b *builder) gate(id policy.GuardID) {
	b.add(Step{
		ID: strings.ReplaceAll(string(id), "_", "-"), Kind: Gate, Guard: id,
		Timeout: b.policy.Timeouts.GPURelease.D(),
	})
}

// isolate adds the step that isolates a target. While the manager is still starting it
// only starts the target: isolate would cancel the jobs of the boot.
func (b *builder) isolate(target string) {
	if b.facts.Is(observer.ManagerStarted) == observer.False {
		b.add(Step{ID: "start-" + bare(target), Kind: StartUnit, Unit: target, Timeout: b.policy.Timeouts.Isolate.D()})
		return
	}
	b.add(Step{ID: "isolate-" + bare(target), Kind: Isolate, Unit: target, Timeout: b.policy.Timeouts.Isolate.D()})
}

func bare(unit string) string { return unit[:strings.LastIndexByte(unit, '.')] }
