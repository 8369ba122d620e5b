package observer

import (
	"slices"
	"strings"

	"github.com/dubnium/dubnium/policy"
)

// unitSignal is the prefix of the signals of units that only the policy names.
const unitSignal = "unit:"

// UnitSignal returns the signal that is true while a unit runs.
func UnitSignal(unit string) Signal { return Signal(unitSignal + unit) }

// ofUnit returns the unit of a unit signal; ok is false for any other signal.
func ofUnit(s Signal) (unit string, ok bool) { return strings.CutPrefix(string(s), unitSignal) }

// unitFacts adds the facts of the units that the policy requires or forbids in a mode and, if vLLM
// has several units, of those.
func unitFacts(p policy.Policy, s Systemd, f Facts) {
	units := p.ContractUnits()
	if vllm := VLLMUnits(p, s); len(vllm) > 1 {
		units = append(units, vllm...)
	}
	for _, unit := range units {
		f[UnitSignal(unit)] = unitActive(s, unit)
	}
}

// Runs returns whether a unit runs.
func (s Systemd) Runs(unit string) Truth { return unitActive(s, unit).Truth }

// Names lists Signals in their order, and then the other signals of f: those of units, and those
// of a newer daemon.
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

// unitClauses are the clauses of the units that the policy requires and forbids in a mode. None is
// deciding: the mode is degraded if one is violated or unknown.
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

// vllmClauses are the clauses of inference: vLLM runs in the profile that the policy sets for the
// mode, or not at all. Without vLLM on the host compute has no such clause.
func vllmClauses(p policy.Policy, mode policy.Mode, f Facts) []clause {
	switch {
	case p.VLLMUnit(mode) != "":
	case mode == policy.Compute && !p.VLLM.Enabled:
		return nil
	default:
		return []clause{
			{VLLMActive, False, mode != policy.Compute, "vllm-active", "vLLM runs, which " + string(mode) + " forbids"},
		}
	}
	all := []clause{
		{VLLMActive, True, false, "vllm-not-active", "vLLM does not run"},
		{VLLMHealthy, True, false, "vllm-not-healthy", "vLLM is not healthy"},
	}
	for _, unit := range otherUnits(p, mode, f) {
		all = append(all, clause{
			UnitSignal(unit), False, false, "vllm-other-profile",
			"vLLM runs in another profile than " + p.Contract(mode).VLLMProfile + ", the profile of " + string(mode),
		})
	}
	return all
}

// otherUnits lists the units of vLLM that a mode does not run: those of other profiles, and all
// further instances of their template that f has a fact of.
func otherUnits(p policy.Policy, mode policy.Mode, f Facts) []string {
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

// VLLMUnits lists all units of vLLM: those of the profiles, and the further instances of their
// template that systemd has loaded.
func VLLMUnits(p policy.Policy, s Systemd) []string {
	units := p.VLLMUnits()
	var instances []string
	for unit := range s.Units {
		if _, ok := p.InstanceOfVLLM(unit); ok && !slices.Contains(units, unit) {
			instances = append(instances, unit)
		}
	}
	slices.Sort(instances)
	return append(units, instances...)
}

// OtherVLLMUnits lists VLLMUnits without that of the mode.
func OtherVLLMUnits(p policy.Policy, s Systemd, mode policy.Mode) []string {
	own := p.VLLMUnit(mode)
	return slices.DeleteFunc(VLLMUnits(p, s), func(unit string) bool { return unit == own })
}

// vllmActive is True if vLLM runs in any profile, and False if it is known to run in none.
func vllmActive(p policy.Policy, s Systemd) Fact {
	var facts []Fact
	for _, unit := range VLLMUnits(p, s) {
		facts = append(facts, unitActive(s, unit))
	}
	return strongest(facts, True, Unknown, False)
}

// RunningVLLM returns the unit of vLLM that is not down. Of several it returns the one that became
// active last, since that one has the port now. The name is empty if all are down.
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

// wrongHost returns a reason if the policy places the purpose of a mode on another machine. A
// reload of the policy can cause that while the mode is on.
func wrongHost(p policy.Policy, mode policy.Mode) []Reason {
	if p.Location(mode) == policy.Local {
		return nil
	}
	if mode == policy.StudioLocal {
		return []Reason{{"studio-externalized", "the policy places the studio on another machine (placement.studio)"}}
	}
	return []Reason{{"ai-externalized", "the policy places inference on another machine (placement.ai)"}}
}
