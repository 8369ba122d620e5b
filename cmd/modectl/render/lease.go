package render

import (
	"fmt"
	"time"

	"github.com/dubnium/dubnium/daemon/status"
)

// Terms says when the mode of a request ends; empty if it has no terms or was not
// reached.
func Terms(r status.Record, t status.Terms) string {
	if t == (status.Terms{}) || !r.Result.Reached() && r.Result != status.Degraded {
		return ""
	}
	var s sheet
	if t.Confirm > 0 {
		s.add("ends", fmt.Sprintf("unless confirmed within %s: modectl confirm %d", t.Confirm, r.ID))
	}
	if t.For > 0 {
		s.add("ends", fmt.Sprintf("after %s", t.For))
	}
	if t.UntilIdle > 0 {
		s.add("ends", fmt.Sprintf("when vLLM got no request for %s", t.UntilIdle))
	}
	return s.b.String()
}

// leaseLines say when a mode ends by itself.
func leaseLines(l status.Lease, now time.Time) []string {
	mode, back := clean(string(l.Mode)), clean(string(l.BackTo))
	lines := []string{fmt.Sprintf("%s, transition %d, requested by %s; then back to %s", mode, l.ID, clean(l.By), back)}
	if l.ExpiredReason != "" {
		lines = append(lines, "expired: "+clean(l.ExpiredReason))
		if l.LastFailure != "" {
			lines = append(lines,
				fmt.Sprintf("the way back failed %d times: %s", l.Attempts, clean(l.LastFailure)),
				"next attempt "+future(l.Next, now)+"; "+keepHint(l))
		}
		return lines
	}
	if l.Confirm > 0 {
		by := termEnd("by", l.ConfirmBy, l.Confirm, now)
		lines = append(lines, fmt.Sprintf("unless confirmed %s: modectl confirm %d", by, l.ID))
	}
	if l.For > 0 {
		lines = append(lines, termEnd("at", l.Until, l.For, now))
	}
	if l.UntilIdle > 0 {
		idle := "not idle now"
		if !l.IdleSince.IsZero() {
			idle = "idle since " + timeText(l.IdleSince, now)
		}
		lines = append(lines, fmt.Sprintf("when vLLM got no request for %s; %s", l.UntilIdle, idle))
	}
	return lines
}

// keepHint says how to keep a mode whose way back failed.
func keepHint(l status.Lease) string {
	if l.Confirm > 0 {
		return fmt.Sprintf("modectl confirm %d keeps %s", l.ID, clean(string(l.Mode)))
	}
	return fmt.Sprintf("modectl request %s keeps it", clean(string(l.Mode)))
}

// termEnd is the end of a term; its time is known once the mode is reached.
func termEnd(word string, at time.Time, term time.Duration, now time.Time) string {
	if at.IsZero() {
		return fmt.Sprintf("%s after it was reached", term)
	}
	return word + " " + future(at, now)
}

// future is a time after now, for people.
func future(t, now time.Time) string {
	if d := t.Sub(now); !t.IsZero() && d > 0 {
		return fmt.Sprintf("%s, in %s", t.Format("2006-01-02 15:04:05 MST"), roughly(d))
	}
	return "now"
}

// autoReconcileLine is the state of automatic reconciliation; empty if it is idle.
func autoReconcileLine(a status.AutoReconcile, now time.Time) string {
	switch {
	case !a.Enabled:
		return ""
	case a.Armed && a.Refusal != "":
		return fmt.Sprintf("automatic %s (%s)", future(a.Next, now), clean(a.Refusal))
	case a.Armed:
		return "automatic " + future(a.Next, now)
	case a.Refusal != "":
		return "not automatic: " + clean(a.Refusal)
	}
	return ""
}
