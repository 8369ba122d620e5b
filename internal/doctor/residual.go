package doctor

import (
	"fmt"
	"math"
	"slices"

	"github.com/dubnium/dubnium/observer"
)

const (
	// minReleases is how many releases a proposal rests on at least; maxReleases, how
	// many of the newest are judged, because a new driver makes old numbers wrong.
	minReleases = 5
	maxReleases = 20
	// Above the largest number there is room for one that was not seen: a quarter of it,
	// and no less than a small driver update costs. The result is rounded up.
	minRoomMiB = 64
	roundToMiB = 16
)

// threshold is the gpu.residual_mib for releases that left this much in use at most.
func threshold(mostMiB float64) int {
	return int(math.Ceil((mostMiB+max(minRoomMiB, mostMiB/4))/roundToMiB)) * roundToMiB
}

// residual proposes gpu.residual_mib from what releases left in use, and warns of one
// that releases have exceeded.
func (f Facts) residual(s *sheet) {
	limit := f.Policy.GPU.ResidualMiB
	if f.HistoryErr != "" && len(f.Policy.GPU.Display) > 0 {
		s.unseen("run modectl doctor again in a minute",
			"what releases of the display GPUs left in use is not known: %s", f.HistoryErr)
		return
	}
	count, over, worst, most := f.releases(float64(limit))
	switch {
	case limit > 0 && over > 0:
		s.warn(fmt.Sprintf("modectl show %d; if nothing had the GPU then: gpu.residual_mib = %d", worst, threshold(most)),
			"%d of the last %d releases of a display GPU left more than gpu.residual_mib = %d in use, %.0f MiB at most",
			over, count, limit, most)
	case limit > 0 && count > 0:
		s.ok("the last %d releases of a display GPU left %.0f MiB in use at most, and gpu.residual_mib = %d allows it",
			count, most, limit)
	case limit == 0 && count >= minReleases:
		f.propose(s, count, most)
	}
}

// releases sums up the newest releases of the GPUs that the policy names: how many
// there are, how many left more in use than the limit, and which left the most.
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

// propose says which threshold the releases allow. Where a GPU that somebody holds has
// no more memory in use than that, memory does not tell a released GPU from one in use.
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
	s.ok("the last %d releases of a display GPU left %.0f MiB in use at most; "+
		"to have that judged, set gpu.residual_mib = %d in the policy", count, mostMiB, proposed)
}
