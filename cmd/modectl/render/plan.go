package render

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
)

// Window is one of a session's that would end.
type Window struct {
	Title     string `json:"title"`
	Program   string `json:"program"`
	Workspace string `json:"workspace"`
}

// Windows are those of one user's session, as its compositor says.
type Windows struct {
	UID  uint32   `json:"uid"`
	List []Window `json:"list"`
	// Fault says why they are not known, empty when they are.
	Fault string `json:"fault,omitempty"`
}

// Plan is `modectl dry-run`: what a request would do, in sections. windows may be
// nil.
func Plan(p status.Preview, windows *Windows) string {
	to := clean(string(p.To))
	if p.Reached {
		return fmt.Sprintf("%s is observed: a request for it does nothing\nfingerprint: %s\n", to, clean(p.Fingerprint))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s -> %s: %s\n", clean(string(p.From)), to, outcome(p))
	chapter(&b, "sessions that end", sessionLines(p, windows))
	chapter(&b, "units that stop", stopLines(p))
	chapter(&b, "units that start", startLines(p))
	chapter(&b, "who has to let go of a display GPU", holderLines(p))
	chapter(&b, "guards", []string{strings.TrimSuffix(Guards(p.Guards), "\n")})
	chapter(&b, "steps", planSteps(p))
	fmt.Fprintf(&b, "\nexpected time: %s\nfingerprint: %s\n", expectation(p), clean(p.Fingerprint))
	if len(blocking(p.Guards)) == 0 {
		fmt.Fprintf(&b, "to do exactly this: modectl request %s --plan %s\n", to, clean(p.Fingerprint))
	}
	return b.String()
}

// outcome says in a line what a request would come to.
func outcome(p status.Preview) string {
	if stands := blocking(p.Guards); len(stands) > 0 {
		line := "a request would be refused by " + clean(string(stands[0].Guard))
		if more := len(stands) - 1; more > 0 {
			line += fmt.Sprintf(" and %s more", number(more, "guard"))
		}
		return line + ", and nothing done"
	}
	line := "a request would take " + number(len(p.Steps), "step")
	if n := len(p.Sessions); n > 0 {
		line += fmt.Sprintf(" and end %s", number(n, "session"))
	}
	return line
}

func chapter(b *strings.Builder, title string, lines []string) {
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
	told := false
	for _, s := range p.Sessions {
		line := fmt.Sprintf(
			"session %s of %s (uid %d): %s %s", clean(s.ID), clean(s.User), s.UID, clean(s.Type), clean(s.Class),
		)
		if s.Seat != "" {
			line += " on " + clean(s.Seat)
		}
		lines = append(lines, line)
		// A user may have several sessions, and a compositor does not say which it is.
		if windows != nil && windows.UID == s.UID && !told {
			told = true
			lines = append(lines, windowLines(*windows)...)
		}
	}
	return lines
}

func windowLines(w Windows) []string {
	switch {
	case w.Fault != "":
		return []string{"  its windows are not known: " + clean(w.Fault)}
	case len(w.List) == 0:
		return []string{"  it has no window"}
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
		lines = append(lines, "not known: "+clean(p.UnitsReason))
	case p.Refused != "":
		lines = append(lines, "systemd would refuse to isolate: "+clean(p.Refused))
	}
	for _, c := range p.Stops {
		line := clean(c.Unit) + ": " + clean(c.Why())
		if c.Transient {
			line += "; it does not come back"
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
		lines = append(lines, fmt.Sprintf("%s: %s", clean(h.GPU), clean(h.String()))+goesWith(p, h.Session))
	}
	for _, u := range p.Unseen {
		line := "perhaps: " + clean(u.Evidence())
		if u.Truncated == 0 {
			line += goesWith(p, u.Session)
		}
		lines = append(lines, line)
	}
	return lines
}

func goesWith(p status.Preview, session string) string {
	for _, s := range p.Sessions {
		if s.ID == session {
			return ", which goes with session " + clean(s.ID)
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
	_ = table.Flush() // a Builder takes everything
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
		return "not known, it has not been done before; " + bound
	}
	if e.Count == 1 {
		return fmt.Sprintf("%s, by the one transition like it; %s", roughly(e.Median), bound)
	}
	return fmt.Sprintf(
		"%s, by %d transitions like it, of which the longest took %s; %s", roughly(e.Median), e.Count, roughly(e.Longest),
		bound,
	)
}

func number(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// PlanJSON is `modectl dry-run --json`: the preview as it travels, and the windows
// that modectl asked for itself, null where it did not. Durations are in nanoseconds.
func PlanJSON(p status.Preview, windows *Windows) string {
	return marshal(struct {
		status.Preview
		Runs    bool     `json:"runs"` // no guard stands in the way
		Windows *Windows `json:"windows"`
	}{p, len(guards.Blocking(p.Guards)) == 0, windows})
}
