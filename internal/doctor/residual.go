package doctor

import (
	"fmt"
	"math"
	"slices"

	"github.com/dubnium/dubnium/observer"
)

const (
	// minReleases is the number of releases that a proposal needs. maxReleases is the
	// number of newest releases that count: a new driver invalidates old numbers.
	minReleases = 5
	maxReleases = 20
	// A threshold exceeds the largest number seen by a quarter, and by at least what a
	// small driver update costs. The result is rounded up.
	minRoomMiB = 64
	roundToMiB = 16
)

// threshold is the gpu.residual_mib for releases that left at most this much in use.
func threshold(mostMiB float64) int {
	return int(math.Ceil((mostMiB+max(minRoomMiB, mostMiB/4))/roundToMiB)) * roundToMiB
}

// residual proposes gpu.residual_mib from the memory that releases left in use, and
// warns if releases have exceeded it.
func (f Facts) residual(s *sheet) {
	limit := f.Policy.GPU.ResidualMiB
	if f.HistoryErr != "" && len(f.Policy.GPU.Display) > 0 {
		s.unseen("run modectl doctor again in a minute",
			"the memory in use after releases of the display GPUs is unknown: %s", f.HistoryErr)
		return
	}
	count, over, worst, most := f.releases(float64(limit))
	switch {
	case limit > 0 && over > 0:
		s.warn(fmt.Sprintf("modectl show %d; if no process used the GPU then: gpu.residual_mib = %d",
			worst, threshold(most)),
			"%d of the last %d releases of a display GPU left more than gpu.residual_mib = %d in use, at most %.0f MiB",
			over, count, limit, most)
	case limit > 0 && count > 0:
		s.ok("the last %d releases of a display GPU left at most %.0f MiB in use; gpu.residual_mib = %d allows it",
			count, most, limit)
	case limit == 0 && count >= minReleases:
		f.propose(s, count, most)
	}
}

// releases counts the newest releases of the display GPUs, and those that left more in
// use than the limit. worst is the transition that left the most.
func (f Facts) releases(limitMiB float64) (count, over int, worst uint64, mostMiB float64) {
	for _, r := range f.Releases {
		measured, left := false, 0.0
		for _, m := range r.InUse {
			if slices.Contains(f.Policy.GPU.Display, m.GPU) {
				measured, left = true, max(left, m.MiB())
			}
		}
		if !measured || count == maxReleases {
			continue
		}
		count++
		if left > limitMiB {
			over++
		}
		if count == 1 || left > mostMiB {
			worst, mostMiB = r.Transition, left
		}
	}
	return count, over, worst, mostMiB
}

// propose reports the threshold that fits the releases. If a GPU that a process holds
// has no more memory in use than that, memory cannot tell a released GPU from one in
// use, and no threshold is proposed.
func (f Facts) propose(s *sheet, count int, mostMiB float64) {
	proposed := threshold(mostMiB)
	holders := observer.ForeignHolders(f.Policy.Policy, f.Evidence.Processes)
	for _, m := range observer.DisplayMemory(f.Policy.Policy, f.Evidence) {
		held := slices.ContainsFunc(holders, func(h observer.Holder) bool { return h.GPU == m.GPU })
		if held && m.MiB() <= float64(proposed) {
			s.ok("no gpu.residual_mib is proposed: %s is held with %.0f MiB in use, "+
				"and the last %d releases of a display GPU left up to %.0f MiB", m.GPU, m.MiB(), count, mostMiB)
			return
		}
	}
	s.ok("the last %d releases of a display GPU left at most %.0f MiB in use; "+
		"to check that, set gpu.residual_mib = %d in the policy", count, mostMiB, proposed)
}
