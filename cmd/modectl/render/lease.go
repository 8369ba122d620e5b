package render

import (
	"fmt"
	"time"

	"github.com/dubnium/dubnium/daemon/status"
)

// Terms is what a request that was reached says of its end; empty for one that has
// none, or was not reached.
func Terms(r status.Record, t status.Terms) string {
	if t == (status.Terms{}) || !r.Result.Reached() && r.Result != status.Degraded {
		return ""
	}
	var s sheet
	if t.Confirm > 0 {
		s.add("goes back", fmt.Sprintf("unless it is confirmed within %s: modectl confirm %d", t.Confirm, r.ID))
	}
	if t.For > 0 {
		s.add("goes back", fmt.Sprintf("after %s", t.For))
	}
	if t.UntilIdle > 0 {
		s.add("goes back", fmt.Sprintf("when vLLM has had no request for %s", t.UntilIdle))
	}
	return s.b.String()
}

// leaseLines say when a mode ends by itself.
func leaseLines(l status.Lease, now time.Time) []string {
	mode, back := clean(string(l.Mode)), clean(string(l.BackTo))
	lines := []string{fmt.Sprintf("%s, transition %d, asked by %s; then back to %s", mode, l.ID, clean(l.By), back)}
	if l.ExpiredReason != "" {
		lines = append(lines, "over: "+clean(l.ExpiredReason))
		if l.LastFailure != "" {
			lines = append(lines, fmt.Sprintf("the way back waits after %d attempts: %s", l.Attempts, clean(l.LastFailure)),
				"it is tried again "+ahead(l.Next, now)+"; "+stays(l))
		}
		return lines
	}
	if l.Confirm > 0 {
		lines = append(
			lines, fmt.Sprintf("unless it is confirmed, %s: modectl confirm %d", due("by", l.ConfirmBy, l.Confirm, now), l.ID),
		)
	}
	if l.For > 0 {
		lines = append(lines, due("at", l.Until, l.For, now))
	}
	if l.UntilIdle > 0 {
		idle := "which it is not now, as far as is known"
		if !l.IdleSince.IsZero() {
			idle = "which it is since " + moment(l.IdleSince, now)
		}
		lines = append(lines, fmt.Sprintf("when vLLM has had no request for %s, %s", l.UntilIdle, idle))
	}
	return lines
}

// stays says how a mode whose way back waits can be kept.
func stays(l status.Lease) string {
	if l.Confirm > 0 {
		return fmt.Sprintf("modectl confirm %d keeps %s", l.ID, clean(string(l.Mode)))
	}
	return fmt.Sprintf("modectl request %s keeps it", clean(string(l.Mode)))
}

// due is a moment that is known once the mode is reached.
func due(word string, at time.Time, term time.Duration, now time.Time) string {
	if at.IsZero() {
		return fmt.Sprintf("%s after it was reached", term)
	}
	return word + " " + ahead(at, now)
}

// ahead is a time to come, for people.
func ahead(t, now time.Time) string {
	if d := t.Sub(now); !t.IsZero() && d > 0 {
		return fmt.Sprintf("%s, in %s", t.Format("2006-01-02 15:04:05 MST"), roughly(d))
	}
	return "now"
}

// autoReconcileLine is what the daemon does about a host that is not what was asked;
// empty for nothing.
func autoReconcileLine(a status.AutoReconcile, now time.Time) string {
	switch {
	case !a.Enabled:
		return ""
	case a.Armed && a.Refusal != "":
		return fmt.Sprintf("by itself %s (%s)", ahead(a.Next, now), clean(a.Refusal))
	case a.Armed:
		return "by itself " + ahead(a.Next, now)
	case a.Refusal != "":
		return "not by itself: " + clean(a.Refusal)
	}
	return ""
}
