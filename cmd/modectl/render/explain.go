package render

import (
	"fmt"
	"strings"

	"github.com/dubnium/dubnium/observer"
)

// Explanation says why the host is called what it is called, and what stands
// against each mode that the explanation has.
func Explanation(e observer.Explanation) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, confidence %s (%s)\n", clean(string(e.State)), clean(string(e.Confidence)), clean(string(e.Rule)))
	for _, r := range e.Reasons {
		fmt.Fprintf(&b, "  because %s\n", reasonLine(r))
	}
	for _, f := range e.Decided {
		fmt.Fprintf(&b, "  %s\n", findingLine(f))
	}
	for _, m := range e.Modes {
		b.WriteString(whyNot(m))
	}
	return b.String()
}

// WhyNot is only what stands against the modes of the explanation.
func WhyNot(e observer.Explanation) string {
	var b strings.Builder
	for _, m := range e.Modes {
		b.WriteString(whyNot(m))
	}
	return b.String()
}

func whyNot(m observer.WhyNot) string {
	if m.Observed {
		return clean(string(m.Mode)) + " is observed\n"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "not %s:\n", clean(string(m.Mode)))
	for _, r := range m.Because {
		fmt.Fprintf(&b, "  %s\n", reasonLine(r))
	}
	for _, f := range m.Against {
		fmt.Fprintf(&b, "  %s\n", findingLine(f))
	}
	return b.String()
}

func findingLine(f observer.Finding) string {
	line := fmt.Sprintf("%s is %s", clean(string(f.Signal)), f.Truth)
	if f.Want != observer.Unknown && f.Want != f.Truth {
		line += fmt.Sprintf(" and would have to be %s", f.Want)
	}
	if f.Reason != "" {
		line += ": " + clean(f.Reason)
	}
	if f.Stale {
		line += fmt.Sprintf(" (older than %s)", f.Bound)
	}
	return line
}
