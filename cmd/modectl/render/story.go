package render

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
)

// Story tells one finished transition from its beginning to its end, with the time
// since it was asked for before each thing that happened.
func Story(r status.Record) string {
	s := story{begin: r.Started}
	fmt.Fprintf(
		&s.b, "transition %d: %s -> %s, %s\n", r.ID, clean(string(r.From)), clean(string(r.To)), clean(string(r.Result)),
	)
	s.asked(r)
	s.judged(r)
	for _, step := range r.Steps {
		s.step(step)
		s.notes(step)
	}
	s.wayBack(r.Steps)
	s.at(r.Finished, "%s", finishedSentence(r))
	return s.b.String()
}

// Unfinished tells a transition that still runs.
func Unfinished(t status.Transition, now time.Time) string {
	return strings.Join(runningLines(t, now), "\n") + "\n"
}

type story struct {
	b     strings.Builder
	begin time.Time
}

// margin is as wide as what stands before a sentence with a time.
const margin = 12

// at begins a line with the time since the beginning, where it is known.
func (s *story) at(t time.Time, format string, args ...any) {
	when := ""
	if !t.IsZero() && !s.begin.IsZero() {
		when = fmt.Sprintf("%+.1f s", t.Sub(s.begin).Seconds())
	}
	fmt.Fprintf(&s.b, "%*s  %s\n", margin-2, when, fmt.Sprintf(format, args...))
}

// under adds a line below the last sentence.
func (s *story) under(depth int, text string) {
	fmt.Fprintf(&s.b, "%*s%s\n", margin+2*depth, "", text)
}

func (s *story) asked(r status.Record) {
	by := clean(r.By)
	if r.Authorization != "" {
		by += ", by right of " + clean(r.Authorization)
	}
	fmt.Fprintf(&s.b, "asked for on %s by %s\n", r.Started.Format("2006-01-02 15:04:05 MST"), by)
	if r.Why != "" {
		fmt.Fprintf(&s.b, "in their own words: %s\n", clean(r.Why))
	}
	s.b.WriteString("\n")
}

func (s *story) judged(r status.Record) {
	stopped := len(blocking(r.Guards))
	switch {
	case len(r.Guards) == 0:
		return
	case len(r.Forced) > 0:
		s.at(r.Judged, "%d of %d guards blocked it; it was forced past %s", stopped, len(r.Guards), guardList(r.Forced))
	case stopped == 0:
		s.at(r.Judged, "the guards let it pass")
	default:
		s.at(r.Judged, "%d of %d guards stood in the way", stopped, len(r.Guards))
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
		s.under(4, "to clear it: "+clean(v.Remedy))
	}
}

// step says how the step itself went; the way back has its own place.
func (s *story) step(step status.Step) {
	id := clean(step.ID)
	if step.Started.IsZero() {
		why := ""
		if step.Error != "" {
			why = ": " + sentence(step.Error)
		}
		s.at(time.Time{}, "%s was not done%s", id, why)
		return
	}
	lasted := ""
	if d := took(step.Started, step.Finished); d != "" && !step.Finished.IsZero() {
		lasted = " after " + d
	}
	switch {
	case step.Error != "":
		s.at(
			step.Started, "%s failed%s: %s", id, lasted, sentence(strings.TrimPrefix(step.Error, "step "+step.ID+" failed: ")),
		)
	case step.Status == status.StepDoing:
		s.at(step.Started, "%s had begun, and nobody saw its end", id)
	default:
		s.at(step.Started, "%s was done%s", id, lasted)
	}
}

// notes are under the step that they are about.
func (s *story) notes(step status.Step) {
	for _, m := range step.Residual {
		s.under(0, fmt.Sprintf("%s had %.0f MiB of its memory in use with nobody holding it", clean(m.GPU), m.MiB()))
	}
	for _, note := range step.Notes {
		s.under(0, sentence(note))
	}
}

// wayBack tells what was taken back, in the order in which it was.
func (s *story) wayBack(steps []status.Step) {
	for _, step := range slices.Backward(steps) {
		id, lasted := clean(step.ID), ""
		if d := took(step.UndoStarted, step.UndoFinished); d != "" {
			lasted = " after " + d
		}
		switch step.Status {
		case status.StepUndone:
			s.at(step.UndoStarted, "%s was taken back%s", id, lasted)
		case status.StepNotUndoable:
			s.at(step.UndoStarted, "%s cannot be undone: %s", id, sentence(step.UndoError))
		case status.StepUndoFailed:
			s.at(
				step.UndoStarted, "%s could not be taken back%s: %s", id, lasted,
				sentence(strings.TrimPrefix(step.UndoError, "cannot undo step "+step.ID+": ")),
			)
		}
	}
}

// finishedSentence is how it ended and why.
func finishedSentence(r status.Record) string {
	reached := r.Result.Reached() && r.Cause != ""
	r.Cause = sentence(r.Cause)
	line, _, _ := strings.Cut(finishedLine(r), fmt.Sprintf(" (transition %d", r.ID))
	if reached {
		line += ", although: " + r.Cause
	}
	return line
}

// sentence puts what errors.Join put on lines of their own behind each other.
func sentence(text string) string { return clean(strings.ReplaceAll(text, "\n", "; ")) }
