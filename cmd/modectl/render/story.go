package render

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
)

// Story is the course of a finished transition. Each event has the time since the
// request.
func Story(r status.Record) string {
	s := story{begin: r.Started}
	fmt.Fprintf(
		&s.b, "transition %d: %s -> %s, %s\n", r.ID, clean(string(r.From)), clean(string(r.To)), clean(string(r.Result)),
	)
	s.request(r)
	s.guards(r)
	for _, step := range r.Steps {
		s.step(step)
		s.notes(step)
	}
	s.undo(r.Steps)
	s.at(r.Finished, "%s", finishedSentence(r))
	return s.b.String()
}

// Unfinished is the progress of a running transition.
func Unfinished(t status.Transition, now time.Time) string {
	return strings.Join(runningLines(t, now), "\n") + "\n"
}

type story struct {
	b     strings.Builder
	begin time.Time
}

// margin is the width of the column of times.
const margin = 12

// at adds a line with the time since the request, if it is known.
func (s *story) at(t time.Time, format string, args ...any) {
	when := ""
	if !t.IsZero() && !s.begin.IsZero() {
		when = fmt.Sprintf("%+.1f s", t.Sub(s.begin).Seconds())
	}
	fmt.Fprintf(&s.b, "%*s  %s\n", margin-2, when, fmt.Sprintf(format, args...))
}

// under adds an indented line below the last event.
func (s *story) under(depth int, text string) {
	fmt.Fprintf(&s.b, "%*s%s\n", margin+2*depth, "", text)
}

func (s *story) request(r status.Record) {
	by := clean(r.By)
	switch r.Authorization {
	case "":
	case status.ByCredentials:
		by += ", authorized as root"
	default:
		by += ", authorized by " + clean(r.Authorization)
	}
	fmt.Fprintf(&s.b, "requested on %s by %s\n", r.Started.Format("2006-01-02 15:04:05 MST"), by)
	if r.Why != "" {
		fmt.Fprintf(&s.b, "reason: %s\n", clean(r.Why))
	}
	s.b.WriteString("\n")
}

func (s *story) guards(r status.Record) {
	blocked := len(blocking(r.Guards))
	switch {
	case len(r.Guards) == 0:
		return
	case len(r.Forced) > 0:
		s.at(r.Judged, "%d of %d guards blocked it; it was forced past %s", blocked, len(r.Guards), guardList(r.Forced))
	case blocked == 0:
		s.at(r.Judged, "all guards passed")
	default:
		s.at(r.Judged, "%d of %d guards blocked it", blocked, len(r.Guards))
	}
	for _, v := range r.Guards {
		s.verdict(v)
	}
}

func (s *story) verdict(v guards.Verdict) {
	line := fmt.Sprintf("%-9s%s", verdictWord(v), clean(string(v.Guard)))
	if v.Code != 0 {
		line += fmt.Sprintf(" (%d)", v.Code)
	}
	if v.Reason != "" {
		line += ": " + clean(v.Reason)
	}
	s.under(0, line)
	for _, evidence := range v.Evidence {
		s.under(4, clean(evidence))
	}
	if v.Remedy != "" {
		s.under(4, "remedy: "+clean(v.Remedy))
	}
}

// step is the execution of a step. Its undo is listed later.
func (s *story) step(step status.Step) {
	id := clean(step.ID)
	if step.Started.IsZero() {
		why := ""
		if step.Error != "" {
			why = ": " + sentence(step.Error)
		}
		s.at(time.Time{}, "%s not run%s", id, why)
		return
	}
	switch {
	case step.Error != "":
		cause := sentence(strings.TrimPrefix(step.Error, "step "+step.ID+" failed: "))
		s.at(step.Started, "%s failed%s: %s", id, lasted(" after ", step.Started, step.Finished), cause)
	case step.Status == status.StepDoing:
		s.at(step.Started, "%s started; its end is not recorded", id)
	default:
		s.at(step.Started, "%s done%s", id, lasted(" in ", step.Started, step.Finished))
	}
}

// lasted is a duration in seconds after a word; empty if it is unknown.
func lasted(word string, from, to time.Time) string {
	if took(from, to) == "" {
		return ""
	}
	return fmt.Sprintf("%s%.1f s", word, to.Sub(from).Seconds())
}

// notes are listed below their step.
func (s *story) notes(step status.Step) {
	for _, m := range step.Residual {
		s.under(0, fmt.Sprintf("%s had %.0f MiB in use without a holder", clean(m.GPU), m.MiB()))
	}
	for _, note := range step.Notes {
		s.under(0, sentence(note))
	}
}

// undo lists the undo of the steps, in its order.
func (s *story) undo(steps []status.Step) {
	for _, step := range slices.Backward(steps) {
		id, from, to := clean(step.ID), step.UndoStarted, step.UndoFinished
		switch step.Status {
		case status.StepUndone:
			s.at(from, "%s undone%s", id, lasted(" in ", from, to))
		case status.StepNotUndoable:
			s.at(from, "%s cannot be undone: %s", id, sentence(step.UndoError))
		case status.StepUndoFailed:
			cause := sentence(strings.TrimPrefix(step.UndoError, "cannot undo step "+step.ID+": "))
			s.at(from, "undo of %s failed%s: %s", id, lasted(" after ", from, to), cause)
		}
	}
}

// finishedSentence is the result and its cause.
func finishedSentence(r status.Record) string {
	reached := r.Result.Reached() && r.Cause != ""
	r.Cause = sentence(r.Cause)
	line, _, _ := strings.Cut(finishedLine(r), fmt.Sprintf(" (transition %d", r.ID))
	if reached {
		line += "; note: " + r.Cause
	}
	return line
}

// sentence joins the lines of a joined error.
func sentence(text string) string { return clean(strings.ReplaceAll(text, "\n", "; ")) }
