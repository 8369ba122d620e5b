// Package render formats the values of the daemon for modectl. Its functions are pure.
package render

import (
	"cmp"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/observer"
)

// clean replaces what is not printable, so that the name of a process cannot control
// the terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}

// timeText is a time for people, in the time zone of t.
func timeText(t, now time.Time) string {
	if t.IsZero() {
		return "an unknown time"
	}
	return t.Format("2006-01-02 15:04:05 MST") + ", " + ago(now.Sub(t))
}

// ago is a rounded duration before now.
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

// took is a duration for people; empty if it is unknown.
func took(from, to time.Time) string {
	if from.IsZero() || to.Before(from) {
		return ""
	}
	return roughly(to.Sub(from))
}

// roughly is a rounded duration, for people.
func roughly(d time.Duration) string {
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// blocking are the verdicts that block.
func blocking(verdicts []guards.Verdict) []guards.Verdict {
	var found []guards.Verdict
	for _, v := range verdicts {
		if !v.OK {
			found = append(found, v)
		}
	}
	return found
}

// verdictLines are the reason and the remedy of a verdict. A code of 20 or more means
// that the answer is unknown, which blocks as well but has another remedy.
func verdictLines(v guards.Verdict) []string {
	line := fmt.Sprintf("%s (%d): %s", clean(string(v.Guard)), v.Code, clean(v.Reason))
	if v.Code >= 20 {
		line = fmt.Sprintf("%s (%d), unknown: %s", clean(string(v.Guard)), v.Code, clean(v.Reason))
	}
	if v.Remedy == "" {
		return []string{line}
	}
	return []string{line, "remedy: " + clean(v.Remedy)}
}

func reasonLine(r observer.Reason) string { return clean(r.Code) + ": " + clean(r.Text) }

// sheet is a list of labelled lines, with the texts in one column.
type sheet struct {
	b     strings.Builder
	width int // of the labels; 0 for labelWidth
}

const labelWidth = 12

// add writes lines with a label before the first.
func (s *sheet) add(label string, lines ...string) {
	for _, line := range lines {
		fmt.Fprintf(&s.b, "  %-*s%s\n", cmp.Or(s.width, labelWidth), label, line)
		label = ""
	}
}

// Word is a line of one word, for scripts.
func Word[T ~string](word T) string { return clean(string(word)) + "\n" }
