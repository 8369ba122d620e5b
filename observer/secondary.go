package observer

import "github.com/dubnium/dubnium/policy"

// softRequirements lists what a mode promises beyond its contract: that studio-local is
// quiet, and what it does where policy names GPUs. What speaks against such a clause degrades the mode; one that is unknown
// costs confidence and no more, since the deciding facts stand without it: NVML
// is a second witness beside the open files, and drivers of other makes have none.
func softRequirements(p policy.Policy, mode policy.Mode) []clause {
	var all []clause
	display := len(p.GPU.Display) > 0
	switch {
	case mode == policy.Compute && display:
		all = append(all, clause{DisplayGraphics, False, false, "display-graphics", "a program draws on a display GPU"})
	case display:
		all = append(all, displayMissing, computeOnDisplay)
	}
	if mode == policy.Compute && len(p.AIGPUs(mode)) > 0 {
		all = append(all, aiMissing)
	}
	if mode == policy.StudioLocal && len(p.Studio.Quiesce) > 0 {
		all = append(
			all, clause{MaintenanceQuiet, True, false, "maintenance-runs", "a unit runs that studio-local keeps quiet"},
		)
	}
	return all
}

// What degrades a mode and is a disagreement too.
var (
	displayMissing   = clause{DisplayPresent, True, false, "display-gpu-missing", "a display GPU cannot be used"}
	aiMissing        = clause{AIPresent, True, false, "ai-gpu-missing", "a GPU for inference cannot be used"}
	plannedMissing   = clause{PlannedPresent, True, false, "planned-gpu-missing", "a GPU that is planned is missing"}
	computeOnDisplay = clause{
		DisplayCompute, False, false, "compute-on-display-gpu", "a compute process uses a display GPU outside compute",
	}
)

// disagreements are facts that contradict the policy's account of the GPUs. They
// are told as conflicts in every mode; a host with one is safe to name.
func disagreements(p policy.Policy, f Facts) []Reason {
	var asked []clause
	if len(p.GPU.Display) > 0 {
		asked = append(asked, displayMissing)
		if f.Is(ComputeTarget) == False {
			asked = append(asked, computeOnDisplay)
		}
	}
	asked = append(asked, aiMissing, plannedMissing) // true where none is named
	var found []Reason
	for _, c := range asked {
		if fact := f[c.signal]; violates(c, fact) {
			found = append(found, Reason{c.code, c.text + ": " + fact.Reason})
		}
	}
	return found
}

// violates reports whether a fact that is known is not what a clause wants.
func violates(c clause, f Fact) bool { return f.Truth != Unknown && f.Truth != c.want }

// judgeSecondary does for the secondary clauses what judgeContract does for those
// of the contract.
func (o *Observation) judgeSecondary(p policy.Policy) {
	for _, c := range softRequirements(p, o.Inferred) {
		fact := o.Facts[c.signal]
		switch {
		case violates(c, fact):
			o.Reasons = append(o.Reasons, Reason{c.code, c.text + ": " + fact.Reason})
		case fact.Truth == Unknown && o.Confidence == High:
			o.Confidence = Medium
		}
	}
}
