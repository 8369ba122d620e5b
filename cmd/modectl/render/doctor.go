package render

import (
	"fmt"
	"strings"

	"github.com/dubnium/dubnium/internal/doctor"
)

// Doctor has a line for each check with the remedy below it, and a summary.
func Doctor(r doctor.Report) string {
	var b strings.Builder
	for _, l := range r {
		fmt.Fprintf(&b, "%-8s %-9s %s\n", l.Verdict, l.Check, clean(l.Text))
		if l.Remedy != "" {
			fmt.Fprintf(&b, "%18s -> %s\n", "", clean(l.Remedy))
		}
	}
	fmt.Fprintf(&b, "\n%d ok, %d warnings, %d failures, %d unseen\n",
		r.Count(doctor.OK), r.Count(doctor.Warning), r.Count(doctor.Failure), r.Count(doctor.Unseen))
	return b.String()
}

// DoctorJSON is `modectl doctor --json`.
func DoctorJSON(r doctor.Report) string {
	return marshal(struct {
		OK       int           `json:"ok"`
		Warnings int           `json:"warnings"`
		Failures int           `json:"failures"`
		Unseen   int           `json:"unseen"`
		Lines    doctor.Report `json:"lines"`
	}{r.Count(doctor.OK), r.Count(doctor.Warning), r.Count(doctor.Failure), r.Count(doctor.Unseen), r})
}
