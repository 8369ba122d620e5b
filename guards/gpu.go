package guards

import (
	"fmt"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// gpuDisplayReleased blocks while any process but the permitted ones keeps a
// node of a display GPU open. Evidence that is missing never passes: a GPU that
// is released is proved, not assumed.
func gpuDisplayReleased(p policy.Policy, s observer.Snapshot, _ Request) finding {
	fact := observer.Derive(p, s)[observer.DisplayReleased]
	switch fact.Truth {
	case observer.True:
		if f, blocks := onTheCard(p, s); blocks {
			return f
		}
		return pass(fact.Reason)
	case observer.False:
		f := block(fact.Reason, "end that process, or name its unit under gpu.permitted_holders in the policy")
		for _, h := range observer.ForeignHolders(p, s.Processes) {
			f.evidence = append(f.evidence, fmt.Sprintf("%s holds %s", h, h.GPU))
		}
		return f
	}
	f := cannotTell("who holds the display GPU could not be found out: "+fact.Reason,
		"look at `systemctl status dubnium-probe-holders.socket`")
	if unseen := observer.MayHold(p, s.Processes); len(unseen) > 0 {
		f.remedy = "end that process, or have its user close what it has open"
		for _, u := range unseen {
			f.evidence = append(f.evidence, u.Evidence())
		}
	}
	return f
}

// onTheCard is what NVML knows against a release that the open files do not show,
// where policy names the display GPUs. What NVML cannot tell does not block: the
// open files have been judged already.
func onTheCard(p policy.Policy, s observer.Snapshot) (finding, bool) {
	if len(p.GPU.Display) == 0 {
		return finding{}, false
	}
	facts := observer.Derive(p, s)
	if f := facts[observer.DisplayGraphics]; f.Truth == observer.True {
		return block(f.Reason, "end that program: none may draw on a display GPU that is given away"), true
	}
	// On the way out of compute the desktop needs no memory to spare.
	if p.GPU.ResidualMiB == 0 || facts.Is(observer.ComputeTarget) == observer.True {
		return finding{}, false
	}
	for _, memory := range observer.DisplayMemory(p, s) {
		if memory.MiB() <= float64(p.GPU.ResidualMiB) {
			continue
		}
		return block(fmt.Sprintf("nobody holds %s, and %.0f MiB of its memory are in use, more than %d",
			memory.GPU, memory.MiB(), p.GPU.ResidualMiB),
			"wait a moment; if it stays so, `modectl doctor` proposes another gpu.residual_mib for the policy"), true
	}
	return finding{}, false
}
