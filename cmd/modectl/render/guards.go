package render

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/dubnium/dubnium/guards"
)

// Guards is a table of verdicts, followed by the evidence and the remedies of those
// that block.
func Guards(verdicts []guards.Verdict) string {
	if len(verdicts) == 0 {
		return "no guard applies\n"
	}
	var b strings.Builder
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "GUARD\tVERDICT\tCODE\tHARD\tREASON")
	for _, v := range verdicts {
		fmt.Fprintf(
			table, "%s\t%s\t%d\t%s\t%s\n", clean(string(v.Guard)), verdictWord(v), v.Code, yesNo(v.Hard), clean(v.Reason),
		)
	}
	_ = table.Flush() // writes to a Builder do not fail
	for _, v := range blocking(verdicts) {
		fmt.Fprintf(&b, "\n%s\n", clean(string(v.Guard)))
		for _, line := range v.Evidence {
			fmt.Fprintf(&b, "  %s\n", clean(line))
		}
		if v.Remedy != "" {
			fmt.Fprintf(&b, "  remedy: %s\n", clean(v.Remedy))
		}
	}
	return trimLines(b.String())
}

func verdictWord(v guards.Verdict) string {
	switch {
	case v.OK:
		return "pass"
	case v.Code >= 20:
		return "unknown"
	}
	return "block"
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// GuardsJSON is `modectl guards --json`.
func GuardsJSON(verdicts []guards.Verdict) string { return marshal(verdicts) }

// GuardLines has a line of JSON for each verdict.
func GuardLines(verdicts []guards.Verdict) string { return jsonLines(verdicts) }
