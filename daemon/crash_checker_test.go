//go:build faultpoints

package daemon

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/daemon/runner"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// checker compares what a daemon publishes with the host and the disk.
type checker struct {
	m     *matrix
	t     *testing.T
	p     plan
	where string
	dir   string
	host  *fakeHost
	from  status.View
	// origin is what was on the host before the transition.
	origin   effects
	rebooted bool
	refused  bool // the request was
}

func (j checker) report(kind, format string, args ...any) {
	j.m.report(j.where, kind, format, args...)
}

func (j checker) word(name string) string {
	data, err := os.ReadFile(filepath.Join(j.dir, "run", name))
	if err != nil {
		j.report("a file cannot be read", "%v", err)
	}
	return strings.TrimSpace(string(data))
}

// check checks a daemon in which nothing runs. died are the files that it found,
// nil when it did not die.
func (j checker) check(v status.View, died map[string][]byte) {
	files, err := readFiles(j.dir)
	require.NoError(j.t, err)
	j.checkObservation(v)
	j.checkDesired(v)
	outcomes := j.outcomes(files["state/events.jsonl"])
	j.checkLast(v, outcomes)
	if died != nil {
		if _, there := files["state/transition.json"]; there {
			j.report("the journal is not ended", "")
		}
		j.checkRecovery(outcomes, j.journal(died), j.outcomes(died["state/events.jsonl"]))
	} else if entry := j.journal(files); entry != nil && entry.Record.Result == "" {
		j.report("the journal is not ended", "")
	}
	for name := range files {
		if strings.HasPrefix(filepath.Base(name), ".") && died == nil {
			j.report("a temporary file is left", "%s", name)
		}
	}
	j.checkEffects(v)
}

// checkObservation: what is published is what expectedState has of the host,
// and the files have the same.
func (j checker) checkObservation(v status.View) {
	mode, want := j.host.expectedState()
	doubt := v.Last != nil && slices.Contains(
		[]status.Result{"failed", "timed-out", "rollback-failed", "interrupted"}, v.Last.Result,
	)
	if doubt && (mode != v.Desired.Mode || want == "unknown") {
		want = "failed-transition"
	}
	if v.Observation.State != want {
		j.report(
			"the observed state is not the host's", "%s, and the host is %s (%v)", v.Observation.State, want,
			v.Observation.Reasons,
		)
	}
	if got := j.word("current"); got != string(v.Observation.State) {
		j.report("the file current is not what is observed", "%s, not %s", got, v.Observation.State)
	}
}

// checkDesired: desired is the mode of the request or the one before it, the same on disk
// as published.
func (j checker) checkDesired(v status.View) {
	if got := j.word("desired"); got != string(v.Desired.Mode) {
		j.report("the file desired is not what is published", "%s, not %s", got, v.Desired.Mode)
	}
	var saved struct{ Mode policy.Mode }
	if err := json.Unmarshal([]byte(j.word("desired.json")), &saved); err != nil || saved.Mode != v.Desired.Mode {
		j.report("the file desired.json is not what is published", "%s (%v), not %s", saved.Mode, err, v.Desired.Mode)
	}
	before, requested := j.from.Desired.Mode, j.p.to()
	ended := v.Last != nil && (j.from.Last == nil || v.Last.ID > j.from.Last.ID)
	switch {
	case j.rebooted:
		before, requested = policy.Desktop, policy.Desktop
	case j.refused || ended && v.Last.Result == status.Canceled:
		requested = before
	case ended:
		before = requested
	}
	if v.Desired.Mode != before && v.Desired.Mode != requested {
		j.report("desired was never requested", "%s, not %s or %s; last %+v", v.Desired.Mode, before, requested, v.Last)
	}
}

// outcomes returns the outcomes in a history, by id.
func (j checker) outcomes(data []byte) map[uint64]status.Record {
	all := map[uint64]status.Record{}
	for line := range bytes.Lines(data) {
		var o struct {
			Event string
			status.Record
		}
		if !bytes.HasSuffix(line, []byte("\n")) || json.Unmarshal(line, &o) != nil || o.Event != "outcome" {
			continue
		}
		if _, twice := all[o.ID]; twice {
			j.report("an outcome is written twice", "%d", o.ID)
		}
		all[o.ID] = o.Record
	}
	return all
}

func (j checker) journal(files map[string][]byte) *runner.Entry {
	data, there := files["state/transition.json"]
	if !there {
		return nil
	}
	var entry runner.Entry
	require.NoError(j.t, json.Unmarshal(data, &entry))
	return &entry
}

// checkLast: the last transition is the last of the history, and the file's.
func (j checker) checkLast(v status.View, outcomes map[uint64]status.Record) {
	var newest uint64
	for id := range outcomes {
		newest = max(newest, id)
	}
	var published uint64
	if v.Last != nil {
		published = v.Last.ID
	}
	unwritten := strings.Contains(j.where, " events.jsonl.") && newest < published // it waits, or was lost with the daemon
	if newest != published && !unwritten && !(j.rebooted && published == 0) {
		j.report("the last transition is not the last", "%d is published, the history has %d", published, newest)
	}
	if v.Last == nil {
		return
	}
	var file struct {
		ID     uint64
		Result status.Result
		Guards []json.RawMessage
	}
	if err := json.Unmarshal([]byte(j.word("last-transition.json")), &file); err != nil ||
		file.ID != published || file.Result != v.Last.Result {
		j.report(
			"last-transition.json is not the last", "%d %s (%v), not %d %s", file.ID, file.Result, err, published, v.Last.Result,
		)
	}
	var verdicts []json.RawMessage
	err := json.Unmarshal([]byte(j.word("last-guards.json")), &verdicts)
	if err != nil || len(verdicts) != len(file.Guards) {
		j.report("last-guards.json is not of the last", "%d verdicts (%v), not %d", len(verdicts), err, len(file.Guards))
	}
	if v.Last.Final == "" {
		j.report("an end without a state", "%+v", v.Last)
	}
	if v.Last.Result == status.RolledBack || v.Last.Result == status.RollbackFailed {
		j.requireUndone(*v.Last, func(int) bool { return true })
	}
}

// requireUndone: of the steps that count nothing is left, or the record says that it could
// not be taken back.
func (j checker) requireUndone(r status.Record, counts func(int) bool) {
	for i, s := range r.Steps {
		if counts(i) && (s.Status == status.StepDoing || s.Status == status.StepDone || s.Status == status.StepFailed) {
			j.report("a step is not taken back", "%s is %s, after %s to %s: %s", s.ID, s.Status, r.Result, r.Final, r.Cause)
		}
	}
}

// checkRecovery: a transition whose daemon died in it is interrupted, and the record
// names the step; one that had ended has the end that it had.
func (j checker) checkRecovery(
	outcomes map[uint64]status.Record, entry *runner.Entry, before map[uint64]status.Record,
) {
	for id, was := range before {
		if outcomes[id].Result != was.Result {
			j.report("the history was rewritten", "%d: %s was %s", id, outcomes[id].Result, was.Result)
		}
	}
	if entry == nil {
		return
	}
	record, ended := outcomes[entry.Record.ID]
	if _, recorded := before[entry.Record.ID]; recorded {
		return // the end was on disk, if not in the journal
	}
	step := "before the first step"
	for _, s := range entry.Record.Steps {
		if s.Status != "pending" {
			step = "in step " + s.ID
		}
	}
	switch {
	case !ended:
		j.report("a transition without an end", "%d", entry.Record.ID)
	case entry.Record.Result != "":
		if record.Result != entry.Record.Result {
			j.report("an end was changed", "%s was %s", record.Result, entry.Record.Result)
		}
	case record.Result != status.Interrupted && record.Result != status.RollbackFailed:
		j.report("a crash is not recorded", "%s: %s", record.Result, record.Cause)
	case !strings.Contains(record.Cause, step):
		j.report("the step is not recorded", "%q does not say %q", record.Cause, step)
	case j.rebooted && !strings.Contains(record.Cause, "the machine restarted"):
		j.report("the restart is not recorded", "%q", record.Cause)
	}
	stays := entry.OriginMode == policy.Compute && record.Final != "compute" // somebody may be logged in by then
	if entry.Record.Result == "" && !j.rebooted && record.Final != observer.Of(record.To) && !stays {
		j.requireUndone(record, func(i int) bool { return !entry.Steps[i].Waits() })
	}
}

// checkEffects: what is on the host is what was there before, or what a mode is; and
// anything else is recorded.
func (j checker) checkEffects(v status.View) {
	now := j.host.effects()
	mode, _ := j.host.expectedState()
	if len(now.diff(j.origin)) == 0 {
		return
	}
	nearest := now.diff(j.origin)
	for _, m := range []policy.Mode{mode, j.p.to(), policy.Desktop} {
		clean := j.p.clean[m]
		if clean == nil {
			continue
		}
		if diff := j.p.concerning(m, now.diff(clean)); len(diff) < len(nearest) {
			nearest = diff
		}
	}
	nearest = slices.DeleteFunc(nearest, func(key string) bool { return j.accounted(v, key) })
	if len(nearest) > 0 {
		var last status.Record
		if v.Last != nil {
			last = *v.Last
		}
		j.report(
			"half an effect that is not recorded", "%v, in %s after %s (%s): %+v", nearest, v.Observation.State, last.Result,
			last.Cause, last.Steps,
		)
	}
}

// accounted reports whether an effect is published: the last record has a step that did it and
// was not undone, or the host is degraded, by the state or by the record's
// final state, or the state is unknown.
func (j checker) accounted(v status.View, key string) bool {
	if v.Observation.Degraded() || v.Observation.State == observer.StateUnknown {
		return true
	}
	if v.Last != nil && strings.HasPrefix(string(v.Last.Final), "degraded-") {
		return true
	}
	if strings.HasPrefix(key, "mode-prepare-") && v.Last != nil && v.Last.Result.Reached() {
		return true // it stays up, as its own unit has it
	}
	if v.Last == nil || v.Last.Cause == "" {
		return false
	}
	unit, _, _ := strings.Cut(key, "/")
	bare := unit[:strings.LastIndexByte(unit, '.')]
	return slices.ContainsFunc(v.Last.Steps, func(s status.Step) bool {
		left := s.Status == status.StepDoing ||
			s.Status == status.StepDone || s.Status == status.StepFailed || s.Status == status.StepUndoFailed
		return left && (strings.HasSuffix(s.ID, unit) || strings.HasSuffix(s.ID, bare) ||
			strings.HasPrefix(s.ID, "isolate-") || strings.HasSuffix(s.ID, "-maintenance") ||
			strings.HasPrefix(s.ID, "set-slices") && strings.HasSuffix(unit, ".slice"))
	})
}

// nextRequest: whatever happened, a request for desktop reaches it.
func (j checker) nextRequest(r *harness) {
	r.host.fault = nil
	request := j.p.request
	request.Mode = policy.Desktop
	id, err := r.Request(j.t.Context(), request)
	if err != nil {
		j.report("the next request is refused", "%v", err)
		return
	}
	v := r.settle()
	switch {
	case v.Last == nil || v.Last.ID != id:
		j.report("the next request has no end", "%d: %+v", id, v.Last)
	case !v.Last.Result.Reached() || v.Observation.State != "desktop":
		j.report("the next request does not work", "%s, %s: %s", v.Last.Result, v.Observation.State, v.Last.Cause)
	}
	now := j.host.effects()
	diff := slices.DeleteFunc(
		j.p.concerning(policy.Desktop, now.diff(j.p.clean[policy.Desktop])),
		func(key string) bool { return strings.HasPrefix(key, "mode-prepare-") },
	)
	if len(diff) > 0 {
		j.report("the next request leaves something", "%v", diff)
	}
	if _, state := j.host.expectedState(); state != "desktop" {
		j.report("the next request claims what is not so", "the host is %s", state)
	}
	if _, err := os.Stat(filepath.Join(j.dir, "run", "reconcile.pid")); err == nil {
		j.report("the lock's pid is left", "")
	}
	if _, err := os.Stat(filepath.Join(j.dir, "state", "transition.json")); err == nil {
		j.report("the journal is left", "")
	}
}
