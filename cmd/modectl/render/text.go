// Package render turns the daemon's values into what modectl prints. Its
// functions are pure: value in, text out.
package render

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/observer"
)

// clean keeps what a process calls itself from steering the reader's terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}

// moment is a time for people, in the zone that t is in.
func moment(t, now time.Time) string {
	if t.IsZero() {
		return "an unknown time"
	}
	return t.Format("2006-01-02 15:04:05 MST") + ", " + ago(now.Sub(t))
}

// ago says roughly how long something is past.
func ago(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < 0:
		return "in the future"
	case d < time.Minute:
		return fmt.Sprintf("%d s ago", int(d/time.Second))
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", int(d/time.Minute))
	case d < 2*day:
		return fmt.Sprintf("%d h ago", int(d/time.Hour))
	}
	return fmt.Sprintf("%d days ago", int(d/day))
}

// took is how long something lasted, for people; empty when it is not known.
func took(from, to time.Time) string {
	if from.IsZero() || to.Before(from) {
		return ""
	}
	return roughly(to.Sub(from))
}

// roughly is a duration for people.
func roughly(d time.Duration) string {
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// blocking are the verdicts that stand in the way.
func blocking(verdicts []guards.Verdict) []guards.Verdict {
	var found []guards.Verdict
	for _, v := range verdicts {
		if !v.OK {
			found = append(found, v)
		}
	}
	return found
}

// verdictLines are a verdict's reason and remedy. A code of 20 or more means that
// the evidence was missing, which blocks as well and is cleared in another way.
func verdictLines(v guards.Verdict) []string {
	line := fmt.Sprintf("%s (%d): %s", clean(string(v.Guard)), v.Code, clean(v.Reason))
	if v.Code >= 20 {
		line = fmt.Sprintf("%s (%d), could not be judged: %s", clean(string(v.Guard)), v.Code, clean(v.Reason))
	}
	if v.Remedy == "" {
		return []string{line}
	}
	return []string{line, "to clear it: " + clean(v.Remedy)}
}

func reasonLine(r observer.Reason) string { return clean(r.Code) + ": " + clean(r.Text) }

// sheet is labelled lines with their texts in one column.
type sheet struct{ b strings.Builder }

const labelWidth = 12

// add writes the lines behind one label, which stands before the first.
func (s *sheet) add(label string, lines ...string) {
	for _, line := range lines {
		fmt.Fprintf(&s.b, "  %-*s%s\n", labelWidth, label, line)
		label = ""
	}
}

// Word is a line with one word for scripts.
func Word[T ~string](word T) string { return clean(string(word)) + "\n" }
