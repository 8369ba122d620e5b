package render

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/internal/doctor"
	"github.com/dubnium/dubnium/policy"
)

// stories are what `modectl show` may have to tell.
func stories() map[string]status.Record {
	alice := uint32(1000)
	at := func(seconds float64) time.Time {
		return before(10 * time.Minute).Add(time.Duration(seconds * float64(time.Second)))
	}
	told := func(result status.Result) status.Record {
		r := ended(result, "desktop")
		r.UID, r.Authorization, r.Judged = &alice, status.ByPolkit("org.dubnium.mode1.request-compute"), at(0.3)
		r.Guards = []guards.Verdict{passed}
		return r
	}
	reached := told(status.Success)
	reached.Final, reached.Finished = "compute", at(33)
	reached.Steps = []status.Step{
		{ID: "stop-display-manager", Status: status.StepDone, Started: at(0.5), Finished: at(1.25)},
		{ID: "await-vllm-healthy", Status: status.StepDone, Started: at(1.5), Finished: at(32)},
	}

	blocked := told(status.Blocked)
	blocked.Cause, blocked.Finished = "check_target_reachable: compute.target is masked", at(0.4)
	blocked.Guards = []guards.Verdict{passed, masked, unjudged}

	back := told(status.RollbackFailed)
	back.Final = "failed-transition"
	back.Cause = "step isolate-compute failed: the job ended as failed\nthe way back was not observed"
	back.Steps = []status.Step{
		{
			ID: "stop-display-manager", Status: status.StepUndoFailed, Started: at(0.5), Finished: at(1.25),
			UndoStarted: at(6), UndoFinished: at(16), UndoError: "cannot undo step stop-display-manager: it does not start",
		},
		{
			ID: "isolate-compute", Status: status.StepUndone, Started: at(1.5), Finished: at(5),
			Error:       "step isolate-compute failed: the job ended as failed",
			UndoStarted: at(5.5), UndoFinished: at(5.75),
		},
		{ID: "start-vllm", Status: status.StepPending},
	}

	lost := told(status.RolledBack)
	lost.Cause, lost.Finished = "step isolate-compute failed: the job ended as failed", at(12)
	lost.Steps = []status.Step{
		{
			ID: "end-sessions", Status: status.StepNotUndoable, Started: at(1), Finished: at(2), UndoStarted: at(6),
			UndoFinished: at(6),
			UndoError:    "the session of alice (uid 1000) was ended and cannot be restored",
		},
		{
			ID: "isolate-compute", Status: status.StepUndone, Started: at(2), Finished: at(5), Error: "the job ended as failed",
			UndoStarted: at(5.5), UndoFinished: at(6),
		},
	}

	died := told(status.Interrupted)
	died.Cause = "the daemon ended in step isolate-compute (doing)"
	died.Steps = []status.Step{
		{ID: "isolate-compute", Status: status.StepDoing, Started: at(1.5)},
		{ID: "start-vllm", Status: status.StepPending, Error: "cannot write transition.json: no space left on device"},
	}

	// Written by a version that knew less.
	old := ended(status.RolledBack, "desktop")
	old.Why = ""
	old.Steps = []status.Step{{ID: "isolate", Status: status.StepUndone, Started: at(1), Finished: at(2)}}
	late := told(status.Success)
	late.Cause = "the step took longer than it should have"
	hostile := told(status.Failed)
	hostile.Why, hostile.By, hostile.Cause = "\x1b[2J", "uid 1000 (al\x07ice)", "a\nb"
	hostile.Steps = []status.Step{{ID: "s\x1b", Status: status.StepFailed, Started: at(1), Error: "\x1b[31mred"}}
	return map[string]status.Record{
		"reached": reached, "blocked": blocked, "rollback-failed": back, "lost": lost,
		"interrupted": died, "old": old, "late": late, "hostile": hostile,
	}
}

func TestStories(t *testing.T) {
	for name, r := range stories() {
		t.Run(name, func(t *testing.T) {
			text := Story(r)
			require.NotContains(t, text, "\x1b")
			golden(t, "story-"+name, text)
		})
	}
	golden(t, "story-rollback-failed.json", FinishedJSON(stories()["rollback-failed"]))
}

func TestATransitionThatRunsHasAStoryTooFar(t *testing.T) {
	running := *views()["running"].Running
	golden(t, "story-running", Unfinished(running, now)+TransitionJSON(running))
}

func TestHistoryGoesOnLineByLine(t *testing.T) {
	refusal := ended(status.Blocked, "desktop")
	refusal.Guards = []guards.Verdict{masked}
	back := status.Record{
		ID: 6, From: "compute", To: policy.Desktop, Final: "desktop", Result: status.Success, By: "uid 0 (root)",
		Finished: before(50 * time.Hour),
	}
	golden(t, "history-lines", HistoryLine(back)+HistoryLine(refusal))
}

func TestTheDoctorSpeaks(t *testing.T) {
	report := doctor.Report{
		{Check: "bus", Verdict: doctor.OK, Text: "dubniumd owns org.dubnium.Mode1 and answers"},
		{Check: "clock", Verdict: doctor.Warning, Text: "the clock is not synchronized", Remedy: "timedatectl set-ntp true"},
		{
			Check: "polkit", Verdict: doctor.Failure, Text: "polkit does not answer: \x1b[2J", Remedy: "systemctl status polkit",
		},
		{
			Check: "paths", Verdict: doctor.Unseen, Text: "/var/lib/mode-controller cannot be looked at",
			Remedy: "run modectl doctor as root",
		},
	}
	golden(t, "doctor", Doctor(report)+Doctor(nil))
	golden(t, "doctor.json", DoctorJSON(report)+DoctorJSON(nil))
}
