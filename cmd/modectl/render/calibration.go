package render

import (
	"fmt"
	"strings"

	"github.com/dubnium/dubnium/observer/calibration"
)

// Release is a line about one release of a GPU.
func Release(r calibration.Release) string {
	if r.Residual == nil {
		return fmt.Sprintf("%s  %s  %s: %s", r.At.Local().Format("15:04:05"), clean(r.GPU), clean(string(r.Outcome)), clean(r.Reason))
	}
	return fmt.Sprintf("%s  %s  %s: %.0f MiB in use", r.At.Local().Format("15:04:05"), clean(r.GPU), clean(string(r.Outcome)), *r.Residual/(1<<20))
}

// Calibration is a proposal as a person reads it: what to write, and why.
func Calibration(file string, p calibration.Proposal) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d releases measured, %d indeterminate; recorded in %s\n", p.Passes, p.Indeterminates, clean(file))
	if p.ResidualMiB == 0 {
		fmt.Fprintf(&b, "no threshold: %s\n", p.Why)
		return b.String()
	}
	fmt.Fprintf(&b, "%s; for the policy:\n\n[gpu]\nresidual_mib = %d\n", p.Why, p.ResidualMiB)
	return b.String()
}

// CalibrationJSON is a proposal with what it was made from.
func CalibrationJSON(file string, releases []calibration.Release, p calibration.Proposal) string {
	if releases == nil {
		releases = []calibration.Release{}
	}
	return marshal(struct {
		File     string                `json:"file"`
		Releases []calibration.Release `json:"releases"`
		calibration.Proposal
	}{file, releases, p})
}
