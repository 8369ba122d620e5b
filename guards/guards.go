package guards

import (
	"fmt"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// judge is one guard: a pure function of policy, snapshot and request.
type judge func(policy.Policy, observer.Snapshot, Request) finding

// finding is a verdict before its identity and code are filled in.
type finding struct {
	answer   observer.Truth // True: pass; False: block; Unknown: cannot tell
	reason   string
	remedy   string
	evidence []string
}

var judges = map[policy.GuardID]judge{
	policy.CheckAudioIdle:                  audioIdle,
	policy.CheckGPUDisplayReleased:         gpuDisplayReleased,
	policy.CheckCPULoadSafe:                cpuLoadSafe,
	policy.CheckUserJobsSafe:               userJobsSafe,
	policy.CheckNoInhibitor:                noInhibitor,
	policy.CheckMemoryHeadroom:             memoryHeadroom,
	policy.CheckVLLMDrainable:              vllmDrainable,
	policy.CheckGraphicalSessionPresent:    sessionPresent,
	policy.CheckGraphicalSessionAbsent:     sessionAbsent,
	policy.CheckGraphicalSessionTerminable: sessionTerminable,
	policy.CheckTargetReachable:            targetReachable,
	policy.CheckPersistencePathsReady:      pathsReady,
	policy.CheckStudioCapabilityLocal:      studioLocal,
	policy.CheckComputeCapabilityLocal:     computeLocal,
}

// Evaluate evaluates the named guards, in order. An unknown name blocks: a plan that has
// one cannot be trusted.
func Evaluate(p policy.Policy, s observer.Snapshot, r Request, ids []policy.GuardID) []Verdict {
	verdicts := make([]Verdict, len(ids))
	for i, id := range ids {
		verdicts[i] = evaluate(p, s, r, id)
	}
	return verdicts
}

func evaluate(p policy.Policy, s observer.Snapshot, r Request, id policy.GuardID) Verdict {
	spec, known := policy.Guard(id)
	judge, implemented := judges[id]
	if !known || !implemented {
		return Verdict{
			Guard: id, Code: policy.Misuse, Hard: true,
			Reason: fmt.Sprintf("%s is not a guard of this version", id),
		}
	}
	f := judge(p, s, r)
	v := Verdict{Guard: id, Hard: spec.Hard, Reason: f.reason, Remedy: f.remedy, Evidence: f.evidence}
	switch f.answer {
	case observer.True:
		v.OK, v.Code = true, policy.Pass
	case observer.False:
		v.Code = spec.Block
	default:
		v.Code = spec.Unknown()
	}
	return v
}

// Blocking returns the verdicts that do not pass, in order.
func Blocking(verdicts []Verdict) []Verdict {
	var blocking []Verdict
	for _, v := range verdicts {
		if !v.OK {
			blocking = append(blocking, v)
		}
	}
	return blocking
}

func pass(reason string) finding { return finding{answer: observer.True, reason: reason} }

func block(reason, remedy string) finding {
	return finding{answer: observer.False, reason: reason, remedy: remedy}
}

func cannotTell(reason, remedy string) finding {
	return finding{answer: observer.Unknown, reason: reason, remedy: remedy}
}
