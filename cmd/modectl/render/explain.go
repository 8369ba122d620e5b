package render

import (
	"fmt"
	"strings"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
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
	if e.Contract != nil && len(e.Modes) == 1 {
		b.WriteString(contract(e.Modes[0].Mode, *e.Contract))
	}
	return b.String()
}

// contract is what a mode is by the policy, whatever the host is.
func contract(mode policy.Mode, c observer.Contract) string {
	var s sheet
	s.add("target", targetLines(c)...)
	s.add("runs", each(c.Expected)...)
	s.add("runs not", each(c.Forbidden)...)
	if c.StopForbidden {
		s.add("", "what the policy forbids of these is stopped on the way to the mode")
	}
	promises := make([]string, len(c.Requirements))
	for i, p := range c.Requirements {
		promises[i] = fmt.Sprintf("%s is %s", clean(string(p.Signal)), p.Want)
	}
	s.add("promises", promises...)
	s.add("guards", each(c.Guards)...)
	s.add("gates", each(c.Gates)...)
	for _, o := range c.Ownership {
		s.add(clean(o.Resource), append([]string{"for " + clean(o.Owner)}, each(o.Terms)...)...)
	}
	s.add("vLLM", "profile "+clean(c.VLLMProfile))
	s.add("latency", each([]string{c.Latency})...)
	s.add("security", each([]string{c.Security})...)
	s.add("display GPU", each(c.DisplayGPUs)...)
	s.add("AI GPU", each(c.AIGPUs)...)
	s.add("planned GPU", each(c.PlannedGPUs)...)
	s.add("placement", append([]string{clean(string(c.Place))}, each(c.Assumptions)...)...)
	return fmt.Sprintf("the contract of %s:\n%s", clean(string(mode)), s.b.String())
}

// targetLines say what carries the mode and how it is entered.
func targetLines(c observer.Contract) []string {
	lines := []string{clean(c.Target)}
	if c.Overlay != "" {
		lines = append(lines, "with "+clean(c.Overlay)+" on top of it")
	}
	if c.Isolates {
		lines = append(lines, "isolated: what it does not want stops")
	}
	if c.EndsSessions {
		lines = append(lines, "people at the screen are logged out before that")
	}
	if !c.Trusted {
		lines = append(lines, "the policy does not trust the daemon with it (transitions)")
	}
	return lines
}

func each[T ~string](list []T) []string {
	lines := make([]string, len(list))
	for i, word := range list {
		lines[i] = clean(string(word))
	}
	return lines
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
