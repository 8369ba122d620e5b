package render

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
)

// Window is a window of a session that would end.
type Window struct {
	Title     string `json:"title"`
	Program   string `json:"program"`
	Workspace string `json:"workspace"`
}

// Windows are the windows of one user's session, as read from its compositor.
type Windows struct {
	UID  uint32   `json:"uid"`
	List []Window `json:"list"`
	// Fault says why they are unknown; empty if they are known.
	Fault string `json:"fault,omitempty"`
}

// Plan is `modectl dry-run`: the plan of a request, in sections. windows may be nil.
func Plan(p status.Preview, windows *Windows) string {
	to := clean(string(p.To))
	if p.Reached {
		return fmt.Sprintf("%s is observed: a request for it does nothing\nfingerprint: %s\n", to, clean(p.Fingerprint))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s -> %s: %s\n", clean(string(p.From)), to, outcome(p))
	addSection(&b, "sessions that end", sessionLines(p, windows))
	addSection(&b, "units that stop", stopLines(p))
	addSection(&b, "units that start", startLines(p))
	addSection(&b, "processes using a display GPU", holderLines(p))
	addSection(&b, "guards", []string{strings.TrimSuffix(Guards(p.Guards), "\n")})
	addSection(&b, "steps", planSteps(p))
	fmt.Fprintf(&b, "\nexpected time: %s\nfingerprint: %s\n", expectation(p), clean(p.Fingerprint))
	if len(blocking(p.Guards)) == 0 {
		fmt.Fprintf(&b, "run exactly this plan: modectl request %s --plan %s\n", to, clean(p.Fingerprint))
	}
	return b.String()
}

// outcome is the expected result of a request, in a line.
func outcome(p status.Preview) string {
	if blocked := blocking(p.Guards); len(blocked) > 0 {
		line := "a request would be blocked by " + clean(string(blocked[0].Guard))
		if more := len(blocked) - 1; more > 0 {
			line += " and " + number(more, "more guard")
		}
		return line
	}
	line := "a request would run " + number(len(p.Steps), "step")
	if n := len(p.Sessions); n > 0 {
		line += fmt.Sprintf(" and end %s", number(n, "session"))
	}
	return line
}

func addSection(b *strings.Builder, title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s:\n", title)
	for line := range strings.SplitSeq(strings.Join(lines, "\n"), "\n") {
		b.WriteString(strings.TrimRight("  "+line, " ") + "\n")
	}
}

func sessionLines(p status.Preview, windows *Windows) []string {
	var lines []string
	listed := false
	for _, s := range p.Sessions {
		line := fmt.Sprintf(
			"session %s of %s (uid %d): %s %s", clean(s.ID), clean(s.User), s.UID, clean(s.Type), clean(s.Class),
		)
		if s.Seat != "" {
			line += " on " + clean(s.Seat)
		}
		lines = append(lines, line)
		// A compositor does not report its session: list the windows of a user with
		// several sessions once.
		if windows != nil && windows.UID == s.UID && !listed {
			listed = true
			lines = append(lines, windowLines(*windows)...)
		}
	}
	return lines
}

func windowLines(w Windows) []string {
	switch {
	case w.Fault != "":
		return []string{"  its windows are unknown: " + clean(w.Fault)}
	case len(w.List) == 0:
		return []string{"  no windows"}
	}
	lines := make([]string, len(w.List))
	for i, window := range w.List {
		lines[i] = fmt.Sprintf("  %s: %s (workspace %s)", clean(window.Program), clean(window.Title), clean(window.Workspace))
	}
	return lines
}

func stopLines(p status.Preview) []string {
	var lines []string
	switch {
	case p.UnitsReason != "":
		lines = append(lines, "unknown: "+clean(p.UnitsReason))
	case p.Refused != "":
		lines = append(lines, "systemd would refuse to isolate: "+clean(p.Refused))
	}
	for _, c := range p.Stops {
		line := clean(c.Unit) + ": " + clean(c.Why())
		if c.Transient {
			line += "; it cannot be started again"
		}
		lines = append(lines, line)
	}
	return lines
}

func startLines(p status.Preview) []string {
	var lines []string
	for _, s := range p.Starts {
		lines = append(lines, clean(s.Unit))
	}
	return lines
}

func holderLines(p status.Preview) []string {
	var lines []string
	for _, h := range p.Holders {
		lines = append(lines, fmt.Sprintf("%s: %s", clean(h.GPU), clean(h.String()))+endsWith(p, h.Session))
	}
	for _, u := range p.Unseen {
		line := "possibly: " + clean(u.Evidence())
		if u.Truncated == 0 {
			line += endsWith(p, u.Session)
		}
		lines = append(lines, line)
	}
	return lines
}

func endsWith(p status.Preview, session string) string {
	for _, s := range p.Sessions {
		if s.ID == session {
			return ", ends with session " + clean(s.ID)
		}
	}
	return ""
}

func planSteps(p status.Preview) []string {
	var b strings.Builder
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\tSTEP\tAT MOST\tWHAT\tUNDO")
	for i, s := range p.Steps {
		undo := clean(s.Undo)
		if undo == "" {
			undo = "-"
		}
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\n", i+1, clean(s.ID), s.Timeout, clean(s.Does), undo)
		for _, change := range s.Changes {
			fmt.Fprintf(table, "\t\t\t  %s\t\n", clean(change))
		}
	}
	_ = table.Flush() // writes to a Builder do not fail
	return []string{strings.TrimSuffix(b.String(), "\n")}
}

func expectation(p status.Preview) string {
	e := p.Expected
	var most time.Duration
	for _, s := range p.Steps {
		most += s.Timeout
	}
	bound := fmt.Sprintf("at most %s", most)
	if e.Count == 0 {
		return "unknown, no transition like it yet; " + bound
	}
	if e.Count == 1 {
		return fmt.Sprintf("%s, as the one transition like it; %s", roughly(e.Median), bound)
	}
	return fmt.Sprintf("%s, the median of %d transitions like it (longest: %s); %s",
		roughly(e.Median), e.Count, roughly(e.Longest), bound)
}

func number(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// PlanJSON is `modectl dry-run --json`: the preview of the daemon, and the windows that
// modectl read, null if it read none. Durations are in nanoseconds.
func PlanJSON(p status.Preview, windows *Windows) string {
	return marshal(struct {
		status.Preview
		Runs    bool     `json:"runs"` // no guard blocks
		Windows *Windows `json:"windows"`
	}{p, len(guards.Blocking(p.Guards)) == 0, windows})
}
