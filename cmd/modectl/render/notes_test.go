package render

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

func TestWhatAStepHadToTellIsToldWithIt(t *testing.T) {
	begun := time.Date(2026, 1, 1, 8, 0, 0, 0, time.UTC)
	r := status.Record{
		ID: 7, From: "compute", To: policy.Desktop, Final: "desktop", Result: status.Success, Started: begun,
		Finished: begun.Add(9 * time.Second),
		Steps: []status.Step{{
			ID: "stop-vllm", Status: status.StepDone, Started: begun.Add(time.Second), Finished: begun.Add(3 * time.Second),
			Notes: []string{"worker (pid 9, vllm.service) outlived vllm.service\x1b[2J"},
		}},
	}
	const told = "worker (pid 9, vllm.service) outlived vllm.service"
	assert.Contains(t, Finished(r), "  step stop-vllm: "+told)
	assert.Contains(t, Story(r), "stop-vllm done in 2.0 s\n            "+told)
	assert.NotContains(t, Finished(r)+Story(r), "\x1b")
}

func TestTheStoryTellsWhatAReleaseLeftInUse(t *testing.T) {
	begun := time.Date(2026, 1, 1, 8, 0, 0, 0, time.UTC)
	r := status.Record{
		ID: 7, From: "desktop", To: policy.Compute, Final: "compute", Result: status.Success, Started: begun,
		Finished: begun.Add(time.Minute),
		Steps: []status.Step{{
			ID: "gate-display-gpu", Status: status.StepDone, Started: begun, Finished: begun.Add(2 * time.Second),
			Residual: []observer.GPUMemory{{GPU: "0000:01:00.0", Bytes: 80 << 20}},
		}},
	}
	assert.Contains(t, Story(r), "gate-display-gpu done in 2.0 s\n"+
		"            0000:01:00.0 had 80 MiB in use without a holder\n")
	assert.NotContains(t, Finished(r), "80 MiB", "it is nothing that whoever asked has to act on")
}

func TestARunningStepSaysHowFarItIs(t *testing.T) {
	now := time.Date(2026, 1, 1, 8, 0, 0, 0, time.UTC)
	v := status.View{Running: &status.Transition{
		ID: 7, From: "desktop", To: policy.Compute, Phase: status.PhaseActing, Step: "await-vllm-healthy", StepIndex: 8,
		StepCount: 9, Started: now,
		Progress: "loading, 40 s of 600 s",
	}}
	assert.Contains(t, Status(v, now), "acting, step 9 of 9: await-vllm-healthy (loading, 40 s of 600 s)\n")
}

func TestTheStoryOfAForcedTransitionSaysSo(t *testing.T) {
	r := status.Record{
		ID: 7, From: "desktop", To: policy.Compute, Final: "compute", Result: status.Success, By: "uid 0 (root)",
		Guards: []guards.Verdict{
			{Guard: policy.CheckTargetReachable, OK: true},
			{Guard: policy.CheckCPULoadSafe, Code: 16, Reason: "the machine is busy"},
		},
		Forced: []policy.GuardID{policy.CheckCPULoadSafe},
	}
	assert.Contains(t, Story(r), "1 of 2 guards blocked it; it was forced past check_cpu_load_safe")
	r.Forced = nil
	assert.NotContains(t, Story(r), "forced")
}

func TestARunningTransitionIsWholeInJSON(t *testing.T) {
	at := time.Date(2026, 1, 1, 8, 0, 0, 0, time.UTC)
	told := TransitionJSON(
		status.Transition{
			ID: 7, Phase: status.PhaseAnnounced, Started: at, Deadline: at.Add(time.Minute), Cancellable: true,
			Progress: "loading",
		},
	)
	for _, line := range []string{`"cancellable": true`, `"deadline": "2026-01-01T08:01:00Z"`, `"progress": "loading"`} {
		assert.Contains(t, told, line)
	}
}
