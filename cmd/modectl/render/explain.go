package render

import (
	"fmt"
	"strings"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// Explanation explains the observed state, and what rules out each mode of the
// explanation.
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

// contract is the contract of a mode, by the policy alone.
func contract(mode policy.Mode, c observer.Contract) string {
	s := sheet{width: labelWidth + 2}
	s.add("target", targetLines(c)...)
	s.add("must run", each(c.Expected)...)
	s.add("must not run", each(c.Forbidden)...)
	if c.StopForbidden {
		s.add("", "a transition to the mode stops those that the policy forbids")
	}
	requirements := make([]string, len(c.Requirements))
	for i, r := range c.Requirements {
		requirements[i] = requirement(r.Signal, r.Want)
	}
	s.add("requires", requirements...)
	s.add("guards", each(c.Guards)...)
	s.add("gates", each(c.Gates)...)
	for _, o := range c.Ownership {
		s.add(clean(o.Resource), append([]string{"owner: " + clean(o.Owner)}, each(o.Terms)...)...)
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

// targetLines are the target of a mode and how it is entered.
func targetLines(c observer.Contract) []string {
	lines := []string{clean(c.Target)}
	if c.Overlay != "" {
		lines = append(lines, "with the overlay "+clean(c.Overlay))
	}
	if c.Isolates {
		lines = append(lines, "isolated: units that it does not pull in stop")
	}
	if c.EndsSessions {
		lines = append(lines, "graphical sessions end before that")
	}
	if !c.Trusted {
		lines = append(lines, "not enabled in the policy (transitions)")
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

// WhyNot is what rules out each mode of the explanation.
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

// conditions name what a signal is about and what it says if it is true.
var conditions = map[observer.Signal]struct{ subject, verb string }{
	observer.ManagerStarted:   {"the system manager", "have finished starting"},
	observer.GraphicalTarget:  {"graphical.target", "be active"},
	observer.DesktopTarget:    {"the desktop target", "be active"},
	observer.ComputeTarget:    {"the compute target", "be active"},
	observer.GraphicalSession: {"a graphical session", "exist"},
	observer.Greeter:          {"a greeter", "be running"},
	observer.DisplayManager:   {"the display manager", "be running"},
	observer.DesktopPresence:  {"a greeter or graphical session", "exist"},
	observer.StudioPolicy:     {"the studio policy", "be active"},
	observer.AudioPriority:    {"the audio priority", "be active"},
	observer.VLLMActive:       {"vLLM", "be running"},
	observer.VLLMHealthy:      {"vLLM", "be healthy"},
	observer.K3sActive:        {"k3s", "be running"},
	observer.DisplayReleased:  {"the display GPUs", "be released"},
	observer.AudioStack:       {"the audio server", "be running"},
	observer.AudioActive:      {"audio", "be playing"},
	observer.DisplayPresent:   {"the display GPUs", "be present"},
	observer.AIPresent:        {"the AI GPUs", "be present"},
	observer.PlannedPresent:   {"the planned GPUs", "be present"},
	observer.MaintenanceQuiet: {"maintenance", "be quiet"},
}

// requirement says in words what a signal has to be.
func requirement(signal observer.Signal, want observer.Truth) string {
	must := "must"
	if want == observer.False {
		must = "must not"
	}
	if c, ok := conditions[signal]; ok {
		return fmt.Sprintf("%s %s %s", c.subject, must, c.verb)
	}
	if unit, ok := strings.CutPrefix(string(signal), "unit:"); ok {
		return fmt.Sprintf("%s %s be running", clean(unit), must)
	}
	return fmt.Sprintf("%s must be %s", clean(string(signal)), want)
}

func findingLine(f observer.Finding) string {
	line := fmt.Sprintf("%s is %s", clean(string(f.Signal)), f.Truth)
	if f.Want != observer.Unknown && f.Want != f.Truth {
		line = requirement(f.Signal, f.Want)
		if f.Truth == observer.Unknown {
			line += ", which is unknown"
		}
	}
	if f.Reason != "" {
		line += ": " + clean(f.Reason)
	}
	if f.Stale {
		line += fmt.Sprintf(" (older than %s)", f.Bound)
	}
	return line
}
