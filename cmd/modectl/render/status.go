package render

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/policy"
)

// Status is `modectl status`: the observed state, the desired mode, whether they
// agree, and what blocks.
func Status(v status.View, now time.Time) string {
	var s sheet
	s.b.WriteString(headline(v) + "\n\n")
	s.add("desired", desiredLine(v.Desired, now))
	s.add("observed", fmt.Sprintf("%s, confidence %s, since %s",
		clean(string(v.Observation.State)), clean(string(v.Observation.Confidence)), timeText(v.ObservedSince, now)))
	for _, r := range v.Observation.Conflicts {
		s.add("conflict", reasonLine(r))
	}
	for _, r := range v.Observation.Reasons {
		if !slices.Contains(v.Observation.Conflicts, r) {
			s.add("because", reasonLine(r))
		}
	}
	s.add("elsewhere", elsewhere(v.Placement)...)
	s.add("missing GPU", each(v.Topology.Missing)...)
	for _, r := range v.Warnings {
		s.add("warning", reasonLine(r))
	}
	s.add("reconcile", reconcileLine(v))
	if line := autoReconcileLine(v.Reconcile, now); line != "" {
		s.add("", line)
	}
	if v.Lease != nil {
		s.add("lease", leaseLines(*v.Lease, now)...)
	}
	if v.Running != nil {
		s.add("running", runningLines(*v.Running, now)...)
	}
	for _, i := range v.Inhibitors {
		s.add("inhibitor", inhibitorLine(i, now))
	}
	if v.Last != nil {
		s.add("last", lastLines(*v.Last, now)...)
	}
	for _, verdict := range blocking(v.BlockedBy) {
		s.add("blocked by", verdictLines(verdict)...)
	}
	return s.b.String()
}

// elsewhere lists the capabilities that are placed on another machine.
func elsewhere(places map[string]policy.Place) []string {
	var list []string
	for _, capability := range slices.Sorted(maps.Keys(places)) {
		if place := places[capability]; place != policy.Local {
			list = append(list, clean(capability)+" is "+clean(string(place)))
		}
	}
	return list
}

// headline summarizes the status in a line.
func headline(v status.View) string {
	state, desired := clean(string(v.Observation.State)), clean(string(v.Desired.Mode))
	wants := fmt.Sprintf("%s -> wants %s", state, desired)
	switch last := v.Last; {
	case v.Running != nil:
		return fmt.Sprintf("%s -> %s: transition %d is running",
			clean(string(v.Running.From)), clean(string(v.Running.To)), v.Running.ID)
	case v.Converged():
		return state + ", as desired"
	case desired == "":
		return state
	case len(blocking(v.BlockedBy)) > 0:
		return wants + ": blocked by " + guardNames(v)
	case last != nil && last.To == v.Desired.Mode && !last.Result.Reached():
		return fmt.Sprintf("%s: transition %d ended %s", wants, last.ID, clean(string(last.Result)))
	}
	return wants
}

func guardNames(v status.View) string {
	var names []string
	for _, verdict := range blocking(v.BlockedBy) {
		names = append(names, clean(string(verdict.Guard)))
	}
	return strings.Join(names, ", ")
}

func desiredLine(d status.Desired, now time.Time) string {
	if d.Mode == "" {
		return "nothing was requested yet"
	}
	return fmt.Sprintf(
		"%s, requested by %s, origin %s, since %s", clean(string(d.Mode)), clean(d.By), clean(string(d.Origin)),
		timeText(d.Since, now),
	)
}

func reconcileLine(v status.View) string {
	switch {
	case v.Running != nil:
		return "running"
	case v.Converged():
		return "not needed"
	case v.Desired.Mode == "":
		return "not needed, nothing was requested"
	}
	return "needed: modectl request " + clean(string(v.Desired.Mode))
}

func runningLines(t status.Transition, now time.Time) []string {
	lines := []string{fmt.Sprintf("transition %d: %s -> %s, requested by %s, %s",
		t.ID, clean(string(t.From)), clean(string(t.To)), clean(t.By), timeText(t.Started, now))}
	if !t.Deadline.IsZero() {
		return append(lines, clean(string(t.Phase))+", "+startsBy(t.Deadline, t.ID))
	}
	if t.Step == "" {
		return append(lines, clean(string(t.Phase)))
	}
	line := fmt.Sprintf("%s, step %d of %d: %s", clean(string(t.Phase)), t.StepIndex+1, t.StepCount, clean(t.Step))
	if t.Progress != "" {
		line += " (" + clean(t.Progress) + ")"
	}
	return append(lines, line)
}

func lastLines(r status.Record, now time.Time) []string {
	from, to := clean(string(r.From)), clean(string(r.To))
	lines := []string{fmt.Sprintf("transition %d: %s -> %s, %s, ended in %s, %s",
		r.ID, from, to, clean(string(r.Result)), clean(string(r.Final)), timeText(r.Finished, now))}
	if cause := causeOf(r); cause != "" {
		lines = append(lines, "cause: "+cause)
	}
	return lines
}
