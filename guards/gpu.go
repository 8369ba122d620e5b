package guards

import (
	"fmt"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// gpuDisplayReleased blocks while any process but the permitted ones has a device node of
// a display GPU open. Missing evidence does not pass.
func gpuDisplayReleased(p policy.Policy, s observer.Snapshot, _ Request) finding {
	fact := observer.Derive(p, s)[observer.DisplayReleased]
	switch fact.Truth {
	case observer.True:
		if f, blocks := judgeNVML(p, s); blocks {
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
	f := cannotTell("cannot determine which processes hold the display GPU: "+fact.Reason, seeHolders)
	if unseen := observer.MayHold(p, s.Processes); len(unseen) > 0 {
		f.remedy = "end that process, or close its files"
		for _, u := range unseen {
			f.evidence = append(f.evidence, u.Evidence())
		}
	}
	return f
}

// judgeNVML blocks on what NVML reports of the policy's display GPUs and the open files
// do not show. What NVML cannot report does not block: the open files have been judged
// already.
func judgeNVML(p policy.Policy, s observer.Snapshot) (finding, bool) {
	if len(p.GPU.Display) == 0 {
		return finding{}, false
	}
	facts := observer.Derive(p, s)
	if f := facts[observer.DisplayGraphics]; f.Truth == observer.True {
		return block(f.Reason, "end that program: none may draw on a display GPU that compute uses"), true
	}
	// Out of compute, residual memory does not matter to the desktop.
	if p.GPU.ResidualMiB == 0 || facts.Is(observer.ComputeTarget) == observer.True {
		return finding{}, false
	}
	for _, memory := range observer.DisplayMemory(p, s) {
		if memory.MiB() <= float64(p.GPU.ResidualMiB) {
			continue
		}
		return block(fmt.Sprintf("no process holds %s, but %.0f MiB of its memory are in use, more than %d",
			memory.GPU, memory.MiB(), p.GPU.ResidualMiB),
			"wait a moment; if it persists, `modectl doctor` proposes another gpu.residual_mib"), true
	}
	return finding{}, false
}
