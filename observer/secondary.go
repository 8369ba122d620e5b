package observer

import "github.com/dubnium/dubnium/policy"

// softRequirements lists what a mode requires beyond its contract: the GPUs that the policy names,
// and in studio-local that maintenance is quiet. A violated clause degrades the mode. One that is
// unknown only lowers the confidence, because the deciding facts do not depend on it: NVML only
// confirms what the open files show, and other drivers have no NVML.
func softRequirements(p policy.Policy, mode policy.Mode) []clause {
	var all []clause
	display := len(p.GPU.Display) > 0
	switch {
	case mode == policy.Compute && display:
		all = append(all, clause{
			DisplayGraphics, False, false, "display-graphics", "a process has a graphics context on a display GPU",
		})
	case display:
		all = append(all, displayMissing, computeOnDisplay)
	}
	if mode == policy.Compute && len(p.AIGPUs(mode)) > 0 {
		all = append(all, aiMissing)
	}
	if mode == policy.StudioLocal && len(p.Studio.Quiesce) > 0 {
		all = append(
			all, clause{MaintenanceQuiet, True, false, "maintenance-runs", "a unit runs that studio-local stops"},
		)
	}
	return all
}

// These clauses degrade a mode and are disagreements too.
var (
	displayMissing   = clause{DisplayPresent, True, false, "display-gpu-missing", "a display GPU cannot be used"}
	aiMissing        = clause{AIPresent, True, false, "ai-gpu-missing", "a GPU for inference cannot be used"}
	plannedMissing   = clause{PlannedPresent, True, false, "planned-gpu-missing", "a GPU that is planned is missing"}
	computeOnDisplay = clause{
		DisplayCompute, False, false, "compute-on-display-gpu", "a compute process uses a display GPU outside compute",
	}
)

// disagreements lists the facts that contradict what the policy states about the GPUs. They are
// published as conflicts in every mode, but do not keep a host from being in one.
func disagreements(p policy.Policy, f Facts) []Reason {
	var clauses []clause
	if len(p.GPU.Display) > 0 {
		clauses = append(clauses, displayMissing)
		if f.Is(ComputeTarget) == False {
			clauses = append(clauses, computeOnDisplay)
		}
	}
	clauses = append(clauses, aiMissing, plannedMissing) // both facts are true if the policy names none
	var found []Reason
	for _, c := range clauses {
		if fact := f[c.signal]; violates(c, fact) {
			found = append(found, Reason{c.code, c.text + ": " + fact.Reason})
		}
	}
	return found
}

// violates reports whether a fact is known and differs from what the clause requires.
func violates(c clause, f Fact) bool { return f.Truth != Unknown && f.Truth != c.want }

// judgeSecondary applies the soft requirements as judgeContract does the contract.
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
