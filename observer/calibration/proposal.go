package calibration

import (
	"fmt"
	"math"
)

// Proposal is what the releases say about policy's gpu.residual_mib.
type Proposal struct {
	Passes         int `json:"passes"`
	Indeterminates int `json:"indeterminates"`
	// LargestMiB is the largest residue that was measured.
	LargestMiB float64 `json:"largest_mib"`
	// ResidualMiB is the threshold to write into the policy, 0 for none.
	ResidualMiB int `json:"residual_mib"`
	// Why says how it came about, or why there is none.
	Why string `json:"why"`
}

const (
	// enough is how many releases a threshold has to rest on.
	enough = 3
	// Above the largest residue there is room for one that was not seen: a quarter
	// of it, and no less than a small driver update costs.
	leastRoom = 64
	// step keeps the number one that a person would write.
	step = 16
)

// Propose makes releases into a threshold. It proposes none when too few were
// measured, or when a GPU in use has been seen with less memory than that: then
// memory cannot tell, and a threshold would only pretend to.
func Propose(releases []Release) Proposal {
	var p Proposal
	leastHeld := math.Inf(1)
	for _, r := range releases {
		if r.Held != nil {
			leastHeld = min(leastHeld, *r.Held/mib)
		}
		if r.Outcome != Pass || r.Residual == nil {
			p.Indeterminates++
			continue
		}
		p.Passes++
		p.LargestMiB = max(p.LargestMiB, *r.Residual/mib)
	}
	if p.Passes < enough {
		p.Why = fmt.Sprintf("%d releases were measured, and a threshold rests on at least %d", p.Passes, enough)
		return p
	}
	room := max(leastRoom, p.LargestMiB/4)
	threshold := int(math.Ceil((p.LargestMiB+room)/step)) * step
	if leastHeld <= float64(threshold) {
		p.Why = fmt.Sprintf("a GPU that was held had %.0f MiB in use, no more than the %d MiB that a threshold would be: "+
			"memory cannot tell a released GPU from one in use here", leastHeld, threshold)
		return p
	}
	p.ResidualMiB = threshold
	p.Why = fmt.Sprintf("the largest of %d residues is %.0f MiB, with %.0f MiB of room above it", p.Passes, p.LargestMiB, room)
	return p
}
