package render

import (
	"fmt"
	"strings"
	"time"

	"github.com/dubnium/dubnium/daemon/status"
)

// Announced is the line for a transition that waits before its point of no return.
func Announced(p status.Prepare) string {
	line := fmt.Sprintf("transition %d to %s is announced", p.ID, clean(string(p.To)))
	if p.Deadline.IsZero() {
		return line
	}
	return fmt.Sprintf("%s, %s", line, startsBy(p.Deadline, p.ID))
}

// startsBy is the end of an announced wait.
func startsBy(deadline time.Time, id uint64) string {
	return fmt.Sprintf("starts by %s; to cancel: modectl cancel %d", deadline.Format(time.TimeOnly), id)
}

// Inhibitors is `modectl inhibit --list`.
func Inhibitors(list []status.Inhibitor, now time.Time) string {
	if len(list) == 0 {
		return "no inhibitors\n"
	}
	var b strings.Builder
	for _, i := range list {
		b.WriteString(inhibitorLine(i, now) + "\n")
	}
	return b.String()
}

func inhibitorLine(i status.Inhibitor, now time.Time) string {
	what := "every transition"
	if i.Mode != "" {
		what = "transitions to " + clean(string(i.Mode))
	}
	verb := map[status.How]string{status.Block: "blocks", status.Delay: "delays"}[i.How]
	return fmt.Sprintf(
		"%d: %s (uid %d) %s %s: %s; since %s", i.ID, clean(i.Who), i.UID, verb, what, clean(i.Why), timeText(i.Since, now),
	)
}

// InhibitorsJSON is `modectl inhibit --list --json`.
func InhibitorsJSON(list []status.Inhibitor) string { return marshal(list) }
