package observer

import (
	"cmp"

	"github.com/dubnium/dubnium/policy"
)

// Contract is what a mode promises and what is judged on the way to it, by the
// policy alone: nothing is looked at for it.
type Contract struct {
	Target string `json:"target"`
	// Expected are the units that run in the mode beside its target, and Forbidden
	// those that do not.
	Expected  []string `json:"expected"`
	Forbidden []string `json:"forbidden"`
	// Promises are facts with what they have to be.
	Promises []Promise `json:"promises"`
	// Guards are those of a request, from whatever mode, and Gates those that are
	// judged again once others have let go.
	Guards []policy.GuardID `json:"guards"`
	Gates  []policy.GuardID `json:"gates"`
	// The GPUs that policy names. Where it names no display GPU, every one that could
	// drive a display is one.
	DisplayGPUs []string `json:"display_gpus"`
	AIGPUs      []string `json:"ai_gpus"`
	PlannedGPUs []string `json:"planned_gpus"`
	// Place is which machine has what the mode is for.
	Place policy.Place `json:"place"`
}

// Promise is a fact with what it has to be.
type Promise struct {
	Signal Signal `json:"signal"`
	Want   Truth  `json:"want"`
}

// ContractOf is the contract of one mode, for a machine with somebody at it.
func ContractOf(p policy.Policy, mode policy.Mode) *Contract {
	c := &Contract{
		Target: p.Target(mode), DisplayGPUs: p.GPU.Display, AIGPUs: p.GPU.AI, PlannedGPUs: p.GPU.Planned,
		Place: map[policy.Mode]policy.Place{policy.StudioLocal: p.Placement.Studio, policy.Compute: p.Placement.AI}[mode],
	}
	c.Place = cmp.Or(c.Place, policy.Local)
	c.Guards, c.Gates = p.GuardsTo(mode)
	clauses := promise(p, mode, Facts{GraphicalSession: {Truth: True}})
	for _, clause := range append(clauses, secondary(p, mode)...) {
		c.Promises = append(c.Promises, Promise{clause.signal, clause.want})
		unit := unitOf(p, clause.signal)
		switch {
		case unit == "" || unit == c.Target:
		case clause.want == True:
			c.Expected = append(c.Expected, unit)
		default:
			c.Forbidden = append(c.Forbidden, unit)
		}
	}
	return c
}

// unitOf is the unit whose state is a signal, empty for none.
func unitOf(p policy.Policy, s Signal) string {
	return map[Signal]string{
		DesktopTarget: p.Units.DesktopTarget, ComputeTarget: p.Units.ComputeTarget, StudioPolicy: p.Units.StudioPolicy,
		AudioPriority: p.Units.AudioPriority, DisplayManager: p.Units.DisplayManager, VLLMActive: p.Units.VLLM,
	}[s]
}
