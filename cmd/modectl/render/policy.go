package render

import (
	"fmt"
	"strings"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/policy"
)

// Findings are the faults of a policy, a line each.
func Findings(findings []policy.Finding) string {
	var b strings.Builder
	for _, f := range findings {
		b.WriteString(clean(f.String()) + "\n")
	}
	return b.String()
}

// FindingsJSON is `modectl policy check --json`.
func FindingsJSON(findings []policy.Finding) string { return marshal(findings) }

// Policy is the policy in force as a policy file, with the origin of each value.
func Policy(p busapi.Policy) string {
	var b strings.Builder
	for _, s := range p.Settings {
		b.WriteString(clean(s.Line()) + " # " + clean(s.Origin) + "\n")
	}
	return b.String()
}

// PolicyJSON is `modectl policy show --json`. Values keep their JSON type.
func PolicyJSON(p busapi.Policy) string { return marshal(p) }

// Diff are the changes of a policy, the old line before the new one.
func Diff(changes []policy.Change) string {
	var b strings.Builder
	for _, c := range changes {
		note := ""
		if c.New.Restart {
			note = ", needs a restart of dubniumd"
		}
		fmt.Fprintf(
			&b, "- %s # %s\n+ %s # %s%s\n", clean(c.Old.Line()), clean(c.Old.Origin), clean(c.New.Line()), clean(c.New.Origin),
			note,
		)
	}
	return b.String()
}

// DiffJSON is `modectl policy diff --json`.
func DiffJSON(changes []policy.Change) string { return marshal(changes) }
