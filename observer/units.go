package observer

import (
	"maps"
	"slices"
	"strings"

	"github.com/dubnium/dubnium/policy"
)

// A unit that only the policy knows has a signal of its own: whether it runs.
const unitSignal = "unit:"

// UnitSignal is the signal that says whether a unit runs.
func UnitSignal(unit string) Signal { return Signal(unitSignal + unit) }

// ofUnit is the unit that a signal is about, and whether it is about one.
func ofUnit(s Signal) (unit string, ok bool) { return strings.CutPrefix(string(s), unitSignal) }

// unitFacts adds those of the units that the contracts name: what they require and
// forbid, and what vLLM may run as where there is more than one way.
func unitFacts(p policy.Policy, s Systemd, f Facts) {
	units := p.ContractUnits()
	if vllm := VLLMUnits(p, s); len(vllm) > 1 {
		units = append(units, vllm...)
	}
	for _, unit := range units {
		f[UnitSignal(unit)] = unitActive(s, unit)
	}
}

// Runs says whether a unit runs.
func (s Systemd) Runs(unit string) Truth { return unitActive(s, unit).Truth }

// Names lists the signals that there are facts of, and those that there should be:
// first Signals, in their order, then what only the policy or a newer daemon knows.
func (f Facts) Names() []Signal {
	known := Signals()
	var more []Signal
	for s := range f {
		if !slices.Contains(known, s) {
			more = append(more, s)
		}
	}
	slices.Sort(more)
	return append(known, more...)
}

// unitClauses are what the policy asks of a mode's units. None decides which mode
// it is: one that cannot be told degrades it, as one that is wrong does.
func unitClauses(p policy.Policy, mode policy.Mode) []clause {
	var all []clause
	for _, unit := range p.Contract(mode).Required {
		all = append(
			all,
			clause{
				UnitSignal(unit), True, false, "required-unit-not-active",
				unit + " does not run, which " + string(mode) + " requires",
			},
		)
	}
	for _, unit := range p.Contract(mode).Forbidden {
		all = append(
			all,
			clause{UnitSignal(unit), False, false, "forbidden-unit-active", unit + " runs, which " + string(mode) + " forbids"},
		)
	}
	return all
}

// vllmClauses are what a mode promises of inference: that it runs as the policy
// has it, or not at all. Where the host has none, compute does not care.
func vllmClauses(p policy.Policy, mode policy.Mode, f Facts) []clause {
	switch {
	case p.VLLMUnit(mode) != "":
	case mode == policy.Compute && !p.VLLM.Enabled:
		return nil
	default:
		return []clause{
			{VLLMActive, False, mode != policy.Compute, "vllm-active", "vLLM runs, which does not belong to " + string(mode)},
		}
	}
	all := []clause{
		{VLLMActive, True, false, "vllm-not-active", "vLLM does not run"},
		{VLLMHealthy, True, false, "vllm-not-healthy", "vLLM is not healthy"},
	}
	for _, unit := range others(p, mode, f) {
		all = append(all, clause{
			UnitSignal(unit), False, false, "vllm-other-profile",
			"vLLM runs in another profile than " + p.Contract(mode).VLLMProfile + ", which is that of " + string(mode),
		})
	}
	return all
}

// others are the units of vLLM that a mode does not run: those of other profiles, and
// further instances of their template that there are facts of.
func others(p policy.Policy, mode policy.Mode, f Facts) []string {
	units := p.OtherVLLMUnits(mode)
	for _, signal := range f.Names() {
		unit, ok := ofUnit(signal)
		_, instance := p.InstanceOfVLLM(unit)
		if ok && instance && unit != p.VLLMUnit(mode) && !slices.Contains(units, unit) {
			units = append(units, unit)
		}
	}
	return units
}

// VLLMUnits lists every unit that is vLLM: those of the profiles, and every further
// instance of their template that systemd has.
func VLLMUnits(p policy.Policy, s Systemd) []string {
	units := p.VLLMUnits()
	for _, unit := range slices.Sorted(maps.Keys(s.Units)) {
		if _, ok := p.InstanceOfVLLM(unit); ok && !slices.Contains(units, unit) {
			units = append(units, unit)
		}
	}
	return units
}

// OtherVLLMUnits are those that are not a mode's.
func OtherVLLMUnits(p policy.Policy, s Systemd, mode policy.Mode) []string {
	own := p.VLLMUnit(mode)
	return slices.DeleteFunc(VLLMUnits(p, s), func(unit string) bool { return unit == own })
}

// vllmActive is True when vLLM runs, in whichever profile, and False when it is
// known to run in none.
func vllmActive(p policy.Policy, s Systemd) Fact {
	var facts []Fact
	for _, unit := range VLLMUnits(p, s) {
		facts = append(facts, unitActive(s, unit))
	}
	return strongest(facts, True, Unknown, False)
}

// RunningVLLM returns the unit of vLLM that is not down; where there are several,
// the one that became active last, since its predecessor had the port before it.
// The name is empty when all are down.
func RunningVLLM(p policy.Policy, s Systemd) (name string, running Unit) {
	for _, unit := range VLLMUnits(p, s) {
		u, seen := s.Units[unit]
		if !seen || u.Down() {
			continue
		}
		if name == "" || u.ActiveSince.After(running.ActiveSince) {
			name, running = unit, u
		}
	}
	return name, running
}

// wrongHost says that the policy has what a mode is for on another machine. A
// reload may say so while the mode is on: then no fact makes it what it is meant to
// be.
func wrongHost(p policy.Policy, mode policy.Mode) []Reason {
	if p.Location(mode) == policy.Local {
		return nil
	}
	if mode == policy.StudioLocal {
		return []Reason{{"studio-externalized", "the policy has the studio on another machine (placement.studio)"}}
	}
	return []Reason{{"ai-externalized", "the policy has inference on another machine (placement.ai)"}}
}
