package render

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/policy"
)

// Finished is the result of a requested transition in a line, followed by the guards
// that blocked it, their remedies, and the errors and notes of its steps.
func Finished(r status.Record) string {
	var b strings.Builder
	b.WriteString(finishedLine(r) + "\n")
	for _, v := range blocking(r.Guards) {
		if slices.Contains(r.Forced, v.Guard) {
			continue
		}
		for i, line := range verdictLines(v) {
			fmt.Fprintf(&b, "%s%s\n", strings.Repeat("  ", i+1), line)
		}
	}
	for _, s := range r.Steps {
		if s.Error != "" {
			fmt.Fprintf(&b, "  step %s, %s: %s\n", clean(s.ID), clean(string(s.Status)), clean(s.Error))
		}
		for _, note := range s.Notes {
			fmt.Fprintf(&b, "  step %s: %s\n", clean(s.ID), clean(note))
		}
		if s.UndoError != "" {
			fmt.Fprintf(&b, "  step %s, %s: %s\n", clean(s.ID), clean(string(s.Status)), clean(s.UndoError))
		}
	}
	return b.String()
}

func finishedLine(r status.Record) string {
	to, final := clean(string(r.To)), clean(string(r.Final))
	var line string
	switch r.Result {
	case status.Success:
		line = to + " reached"
	case status.Noop:
		line = to + " already, nothing to do"
	case status.Blocked, status.Inhibited:
		line = fmt.Sprintf("%s: %s was not entered, the host stays %s", r.Result, to, final)
	default:
		line = fmt.Sprintf("%s: %s was not reached, the host is %s", clean(string(r.Result)), to, final)
	}
	if cause := causeOf(r); cause != "" && !r.Result.Reached() {
		line += ": " + cause
	}
	details := fmt.Sprintf("transition %d", r.ID)
	if len(r.Forced) > 0 {
		details += ", forced past " + guardList(r.Forced)
	}
	if d := took(r.Started, r.Finished); d != "" {
		details += ", " + d
	}
	return line + " (" + details + ")"
}

func guardList(ids []policy.GuardID) string {
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = clean(string(id))
	}
	return strings.Join(names, ", ")
}

// causeOf is the cause of a result; empty for a refusal, which the guards explain.
func causeOf(r status.Record) string {
	if r.Result == status.Blocked && len(blocking(r.Guards)) > 0 {
		return ""
	}
	return clean(r.Cause)
}

// Accepted is the output of `modectl request --no-wait`.
func Accepted(id uint64) string { return fmt.Sprintf("accepted: transition %d\n", id) }

// History is a table of finished transitions.
func History(records []status.Record) string {
	if len(records) == 0 {
		return "no transition yet\n"
	}
	var b strings.Builder
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tENDED\tTRANSITION\tRESULT\tIN\tBY\tREASON")
	for _, r := range records {
		fmt.Fprintf(table, "%d\t%s\t%s -> %s\t%s\t%s\t%s\t%s\n", r.ID, r.Finished.Format("2006-01-02 15:04:05"),
			clean(string(r.From)), clean(string(r.To)), resultWord(r), clean(string(r.Final)), clean(r.By), clean(r.Why))
	}
	_ = table.Flush() // writes to a Builder do not fail
	return trimLines(b.String())
}

// HistoryLine is one transition of `modectl history --follow`.
func HistoryLine(r status.Record) string {
	line := fmt.Sprintf("%d  %s  %s -> %s  %s  in %s  by %s", r.ID, r.Finished.Format("2006-01-02 15:04:05"),
		clean(string(r.From)), clean(string(r.To)), resultWord(r), clean(string(r.Final)), clean(r.By))
	if r.Why != "" {
		line += ": " + clean(r.Why)
	}
	return line + "\n"
}

// resultWord is the result, with the first guard that blocked.
func resultWord(r status.Record) string {
	if v := blocking(r.Guards); len(v) > 0 && !r.Result.Reached() {
		return fmt.Sprintf("%s by %s", clean(string(r.Result)), clean(string(v[0].Guard)))
	}
	return clean(string(r.Result))
}

// trimLines drops the padding of empty last columns.
func trimLines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

// Step is one line of progress.
func Step(s status.StepEvent) string {
	return fmt.Sprintf("[%d/%d] %s: %s", s.Index+1, s.Count, clean(s.Step), clean(string(s.Status)))
}

// Progress is the progress of a long step, in a line.
func Progress(s status.StepProgress) string {
	return fmt.Sprintf("[%d/%d] %s: %s", s.Index+1, s.Count, clean(s.Step), clean(s.Text))
}
