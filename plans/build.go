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

// start adds a step for a unit that is not known to be up.
func (b *builder) start(unit string, signal observer.Signal) {
	if b.facts.Is(signal) != observer.True && !b.has(StartUnit, unit) {
		b.add(Step{ID: "start-" + bare(unit), Kind: StartUnit, Unit: unit})
	}
}

// stop adds a step for a unit that is not known to be down.
func (b *builder) stop(unit string, signal observer.Signal) {
	if b.facts.Is(signal) != observer.False && !b.has(StopUnit, unit) {
		b.add(Step{ID: "stop-" + bare(unit), Kind: StopUnit, Unit: unit})
	}
}

// prepare runs the host's own preparation, where it has one and anything else is
// to be done: before the point of no return.
func (b *builder) prepare() {
	unit := policy.PrepareUnit(b.plan.To)
	if b.snapshot.Systemd.Units[unit].Loaded() {
		b.add(Step{ID: "start-" + bare(unit), Kind: StartUnit, Unit: unit})
	}
}

// noReturn: what was added until here takes nothing from anybody.
func (b *builder) noReturn() { b.plan.CommitIndex = len(b.plan.Steps) }

// toInteractive leads to desktop or studio-local: the same target, with or
// without the overlay.
func (b *builder) toInteractive(to policy.Mode) {
	units := b.policy.Units
	leaving := observer.LeavesCompute(b.policy, b.snapshot, to)
	b.guardInteractive(to, leaving)
	if leaving {
		b.prepare()
	}
	b.noReturn()
	b.stopVLLM(b.unwanted(leaving))
	switch {
	case leaving:
		b.gate(policy.CheckGPUDisplayReleased)
		// Of desktop also on the way to studio-local: a failure of the overlay leaves
		// a person who has logged in by then on a desktop.
		b.setSlices(policy.Desktop)
		b.isolate(units.DesktopTarget)
	default:
		b.start(units.DesktopTarget, observer.DesktopTarget)
		// Leaving compute, isolate brings the display manager with the target; here
		// the target may already be up without it.
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

// guard adds those of the policy's guards of a request for the mode that the way there
// gives something to judge.
func (b *builder) guard(asked func(policy.GuardID) bool) {
	guards, _ := b.policy.GuardsTo(b.plan.To)
	b.plan.Guards = slices.DeleteFunc(guards, func(id policy.GuardID) bool { return !asked(id) })
}

// guardInteractive chooses the guards of the way to desktop or studio-local. Those
// that policy chooses are for a desktop that is up: while it is still to come,
// nobody can be at its screen.
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

// guardCompute chooses the guards of the way to compute. What protects people is
// judged where something is taken from them.
func (b *builder) guardCompute(takes bool) {
	b.guard(func(id policy.GuardID) bool {
		switch id {
		case policy.CheckAudioIdle, policy.CheckCPULoadSafe, policy.CheckUserJobsSafe,
			policy.CheckGraphicalSessionTerminable:
			return takes
		case policy.CheckVLLMDrainable:
			return len(b.unwanted(false)) > 0
		}
		return true
	})
}

// toCompute ends the sessions first, since a compositor survives isolate, and
// stops the display manager before that, since it would greet the next user
// within a second.
func (b *builder) toCompute() {
	units := b.policy.Units
	leaving := b.facts.Is(observer.ComputeTarget) != observer.True
	isolates := leaving || b.facts.Is(observer.DesktopTarget) != observer.False
	people := b.facts.Is(observer.GraphicalSession) != observer.False || b.facts.Is(observer.Greeter) != observer.False
	b.guardCompute(isolates || people)
	if leaving {
		b.prepare()
	}
	b.noReturn()
	b.stopVLLM(b.unwanted(false))
	if people {
		b.askSessions() // a display manager takes its session along when it stops
	}
	b.stop(units.DisplayManager, observer.DisplayManager)
	if people {
		b.endSessions()
		b.notePeople()
	}
	if isolates || b.facts.Is(observer.DisplayReleased) != observer.True {
		b.gate(policy.CheckGraphicalSessionAbsent)
		b.gate(policy.CheckGPUDisplayReleased)
	}
	b.stop(units.AudioPriority, observer.AudioPriority)
	b.stop(units.StudioPolicy, observer.StudioPolicy)
	b.resume() // what compute.target does not want, isolating stops as it would have on a desktop
	b.setSlices(policy.Compute)
	if isolates {
		b.isolate(units.ComputeTarget)
	}
	b.contractUnits(isolates)
	b.startVLLM(isolates)
}

func (b *builder) gate(id policy.GuardID) {
	b.add(
		Step{
			ID: strings.ReplaceAll(string(id), "_", "-"), Kind: Gate, Guard: id,
			Timeout: b.policy.Timeouts.GPURelease.D(),
		},
	)
}

// isolate reaches a target and stops everything else, except while the manager
// is still starting: isolating then would cancel the boot's own jobs.
func (b *builder) isolate(target string) {
	if b.facts.Is(observer.ManagerStarted) == observer.False {
		b.add(Step{ID: "start-" + bare(target), Kind: StartUnit, Unit: target, Timeout: b.policy.Timeouts.Isolate.D()})
		return
	}
	b.add(Step{ID: "isolate-" + bare(target), Kind: Isolate, Unit: target, Timeout: b.policy.Timeouts.Isolate.D()})
}

func bare(unit string) string { return unit[:strings.LastIndexByte(unit, '.')] }
