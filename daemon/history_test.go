package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/daemon/history"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/policy"
)

type object = map[string]any

// eventLines is what the history says, the oldest first.
func eventLines(t *testing.T, stateDir string) []object {
	t.Helper()
	return linesOf(t, filepath.Join(stateDir, "events.jsonl"))
}

func linesOf(t *testing.T, path string) []object {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	var lines []object
	for text := range strings.Lines(string(data)) {
		var line object
		require.NoError(t, json.Unmarshal([]byte(text), &line), text)
		require.Contains(t, line, "event")
		require.Contains(t, line, "time")
		lines = append(lines, line)
	}
	return lines
}

func ofKind(lines []object, kind string) []object {
	return slices.DeleteFunc(slices.Clone(lines), func(l object) bool { return l["event"] != kind })
}

// TestHistory: who asked by what right, what every guard said,
// how far each step got and when, how it ended; and who was turned down.
func TestHistory(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		alice := uint32(1000)
		r.Rejected(
			status.RejectedRequest{
				Mode: "sleep", By: "uid 1000 (alice)", UID: alice, Reason: "UnknownMode", Text: "unknown mode",
			},
		)
		request := status.Request{
			Mode: policy.Compute, Origin: status.OriginOperator, By: "uid 1000 (alice)", UID: 1000, Why: "nightly",
			Authorization: status.ByPolkit("org.dubnium.mode1.request-compute"),
		}
		id, err := r.Request(t.Context(), request)
		require.NoError(t, err)
		request.By = "uid 0 (root)"
		joined, err := r.Request(t.Context(), request)
		require.NoError(t, err)
		require.Equal(t, id, joined)
		record := *r.settle().Last
		require.Equal(t, status.Success, record.Result)

		lines := eventLines(t, filepath.Join(r.dir, "state"))
		assert.Equal(t, thisBoot, ofKind(lines, "start")[0]["boot_id"])
		refused := ofKind(linesOf(t, filepath.Join(r.dir, "state", "refusals.jsonl")), "refused")
		require.Len(t, refused, 1)
		assert.Equal(
			t, []any{"sleep", "UnknownMode", 1000.0}, []any{refused[0]["mode"], refused[0]["reason"], refused[0]["uid"]},
		)
		requests := ofKind(lines, "request")
		require.Len(t, requests, 2)
		assert.Equal(t, "polkit org.dubnium.mode1.request-compute", requests[0]["authorization"])
		assert.Equal(t, []any{"uid 1000 (alice)", 1000.0, "nightly", "compute"},
			[]any{requests[0]["by"], requests[0]["uid"], requests[0]["why"], requests[0]["mode"]})
		assert.Equal(
			t, []any{"uid 0 (root)", true, float64(id)}, []any{requests[1]["by"], requests[1]["joined"], requests[1]["id"]},
		)

		verdicts := ofKind(lines, "verdict")
		require.Len(t, verdicts, len(record.Guards))
		for i, v := range verdicts {
			assert.Equal(t, []any{string(record.Guards[i].Guard), true, float64(id)}, []any{v["guard"], v["ok"], v["id"]})
		}
		var reported []string
		for _, s := range ofKind(lines, "step") {
			reported = append(reported, fmt.Sprint(s["step"], " ", s["status"]))
			assert.NotEmpty(t, s["started"])
			assert.Equal(t, s["status"] == "done", s["finished"] != nil, s)
		}
		var want []string
		for _, s := range record.Steps {
			want = append(want, s.ID+" doing", s.ID+" done")
		}
		assert.Equal(t, want, reported)
		outcomes := ofKind(lines, "outcome")
		require.Len(t, outcomes, 1)
		assert.Equal(t, []any{"success", float64(id), "polkit org.dubnium.mode1.request-compute"},
			[]any{outcomes[0]["result"], outcomes[0]["id"], outcomes[0]["authorization"]})
		kept, err := r.Record(t.Context(), id)
		require.NoError(t, err)
		assert.Equal(t, alice, *kept.UID)
		assert.False(t, kept.Judged.IsZero())
	})
}

// A step's own error and that of its undo are recorded apart.
func TestHistoryOfUndo(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		r.host.fault = func(_ context.Context, _, what string) error {
			if what == "apply isolate-compute" || what == "undo stop-display-manager" {
				return errBroken
			}
			return nil
		}
		record := r.request(policy.Compute)
		byID := map[string]status.Step{}
		for _, s := range record.Steps {
			byID[s.ID] = s
		}
		isolate, dm := byID["isolate-compute"], byID["stop-display-manager"]
		assert.Equal(t, status.StepUndone, isolate.Status)
		assert.Contains(t, isolate.Error, "broken on purpose")
		assert.Empty(t, isolate.UndoError)
		assert.False(t, isolate.UndoFinished.Before(isolate.UndoStarted))
		assert.Equal(t, status.StepUndoFailed, dm.Status)
		assert.Empty(t, dm.Error, "it was done well")
		assert.Contains(t, dm.UndoError, "broken on purpose")
		var undone []any
		for _, s := range ofKind(eventLines(t, filepath.Join(r.dir, "state")), "step") {
			if s["status"] == "undo-failed" {
				undone = append(undone, s["step"], s["error"])
			}
		}
		require.Len(t, undone, 2)
		assert.Equal(t, "stop-display-manager", undone[0])
		assert.Contains(t, undone[1], "cannot undo step stop-display-manager")
	})
}

// TestALostSessionIsTold: a rollback after somebody's session was ended says whose it
// was, and one before that claims no loss.
func TestALostSessionIsTold(t *testing.T) {
	const lost = "the session of alice (uid 1000) was ended and cannot be restored"
	type end struct {
		status status.StepStatus
		text   string
	}
	for broken, want := range map[string]struct{ sessions, dm end }{
		"before apply isolate-compute":      {end{status.StepNotUndoable, lost}, end{status: status.StepUndone}},
		"after apply end-sessions":          {end{status.StepNotUndoable, lost}, end{status: status.StepUndone}},
		"before apply end-sessions":         {end{status: status.StepUndone}, end{status: status.StepUndone}},
		"before apply stop-display-manager": {end{status: status.StepPending}, end{status: status.StepUndone}},
		// A display manager may take the session along.
		"after apply stop-display-manager": {end{status: status.StepPending}, end{status.StepUndone, lost}},
	} {
		t.Run(broken, func(t *testing.T) {
			onDesktop(t, func(t *testing.T, r *harness) {
				r.host.fault = func(_ context.Context, when, what string) error {
					if when+" "+what != broken {
						return nil
					}
					if want.dm.text != "" {
						r.host.change(r.host.endSessions)
					}
					return errBroken
				}
				record := r.request(policy.Compute)
				require.Equal(t, status.RolledBack, record.Result, record.Cause)
				byID := map[string]status.Step{}
				for _, s := range record.Steps {
					byID[s.ID] = s
				}
				sessions, dm := byID["end-sessions"], byID["stop-display-manager"]
				assert.Equal(t, want.sessions, end{sessions.Status, sessions.UndoError})
				assert.Equal(t, want.dm, end{dm.Status, strings.Join(dm.Notes, "")})
				assert.Empty(t, dm.UndoError)

				events, err := os.ReadFile(filepath.Join(r.dir, "state", "events.jsonl"))
				require.NoError(t, err)
				assert.Equal(t, want.sessions.text != "", strings.Contains(string(events), "not-undoable"))
				assert.Equal(t, want.sessions.text+want.dm.text != "", strings.Contains(string(events), lost))
			})
		})
	}
}

// TestHistoryUnwritable: transitions go on, a warning is published,
// nothing is forgotten, and it is all written once that is possible again, without
// a request.
func TestHistoryUnwritable(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		require.Empty(t, r.View().Warnings)
		file, away := filepath.Join(r.dir, "state", "events.jsonl"), filepath.Join(r.dir, "away")
		require.NoError(t, os.Rename(file, away))
		require.NoError(t, os.Mkdir(file, 0o755))
		record := r.request(policy.Compute)
		assert.Equal(t, status.Success, record.Result, record.Cause)
		warnings := r.View().Warnings
		require.Len(t, warnings, 1)
		assert.Equal(t, status.WarnHistory, warnings[0].Code)
		assert.Contains(t, warnings[0].Text, "is a directory")
		kept, err := r.Record(t.Context(), record.ID)
		require.NoError(t, err, "it is in memory")
		assert.Equal(t, status.Success, kept.Result)

		require.NoError(t, os.Remove(file))
		require.NoError(t, os.Rename(away, file))
		time.Sleep(history.RetryAfter + time.Second)
		synctest.Wait()
		assert.Empty(t, r.View().Warnings)
		assert.Len(t, ofKind(eventLines(t, filepath.Join(r.dir, "state")), "outcome"), 1)
	})
}

// TestStepIsJournaledFirst: the disk is lost in the middle. What
// the journal could not say is not done, the rest is taken back, and the record is
// there all the same.
func TestStepIsJournaledFirst(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		state, away := filepath.Join(r.dir, "state"), filepath.Join(r.dir, "away")
		r.host.fault = func(_ context.Context, when, what string) error {
			if when == "before" && what == "prepare end-sessions" {
				return os.Rename(state, away)
			}
			return nil
		}
		record := r.request(policy.Compute)
		assert.Equal(t, status.RolledBack, record.Result, record.Cause)
		assert.Contains(t, record.Cause, "transition.json")
		assert.NotContains(t, r.applied(), "apply end-sessions")
		assert.Contains(t, r.applied(), "undo stop-display-manager")
		require.Len(t, r.View().Warnings, 1)
		kept, err := r.Record(t.Context(), record.ID)
		require.NoError(t, err)
		assert.Equal(t, status.RolledBack, kept.Result)

		r.host.fault = nil
		require.NoError(t, os.Rename(away, state))
		require.NoError(t, os.Remove(filepath.Join(state, "transition.json")), "it could not be removed")
		assert.Equal(t, status.Noop, r.request(policy.Desktop).Result)
		assert.Empty(t, r.View().Warnings)
		assert.Len(t, ofKind(eventLines(t, state), "outcome"), 2)
		for _, s := range ofKind(eventLines(t, state), "step") {
			assert.NotEqual(t, "end-sessions doing", fmt.Sprint(s["step"], " ", s["status"]))
		}
	})
}

// An id is not given twice when the history was lost or could not be written.
func TestIDsGoOnWithoutAHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		host := newFakeHost(testPolicy(dir))
		r := startHarness(t, host, dir, thisBoot)
		r.settle()
		first := r.request(policy.StudioLocal)
		r.stop()
		require.NoError(t, os.Remove(filepath.Join(dir, "state", "events.jsonl")))
		r = startHarness(t, host, dir, thisBoot)
		defer r.stop()
		r.settle()
		assert.Greater(t, r.request(policy.Desktop).ID, first.ID)
	})
}

// TestANoopTakesOneShortLine: whoever may ask for a mode that is there already could
// fill the files else.
func TestANoopTakesOneShortLine(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		state := filepath.Join(r.dir, "state")
		before := len(eventLines(t, state))
		require.Equal(t, status.Noop, r.request(policy.Desktop).Result)
		lines := eventLines(t, state)[before:]
		require.Len(t, lines, 1)
		require.Equal(t, "outcome", lines[0]["event"])
		text, err := json.Marshal(lines[0])
		require.NoError(t, err)
		require.Less(t, len(text), 512)
	})
}

// A record whose evidence is beyond all measure is kept without it.
func TestOutcomeBounded(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		record := r.request(policy.Desktop)
		record.ID = 99
		record.Guards = append(
			record.Guards,
			guards.Verdict{Guard: policy.CheckAudioIdle, OK: true, Evidence: []string{strings.Repeat("x", 2<<20)}},
		)
		r.deps.History.Ended(record)
		kept, err := r.Record(t.Context(), 99)
		require.NoError(t, err)
		assert.Equal(t, policy.CheckAudioIdle, kept.Guards[len(kept.Guards)-1].Guard)
		assert.Empty(t, r.warnings())
	})
}

// TestHistoryBoundsOfPolicy: a reload changes them.
func TestHistoryBoundsOfPolicy(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		old := filepath.Join(r.dir, "state", "events.jsonl.1")
		for range 3 {
			r.deps.History.Ended(status.Record{ID: 90, To: policy.Desktop, Why: strings.Repeat("x", 600_000)})
			r.deps.History.Started(strings.Repeat("x", 600_000))
		}
		require.NoFileExists(t, old)
		next := r.View().Policy
		next.Audit.MaxMiB = 1
		_, err := r.Reload(t.Context(), next)
		require.NoError(t, err)
		r.request(policy.Desktop)
		assert.FileExists(t, old)
	})
}
