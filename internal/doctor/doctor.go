package doctor

import (
	"fmt"
	"slices"
)

// Verdict is what a check comes to.
type Verdict string

// The verdicts.
const (
	OK      Verdict = "ok"
	Warning Verdict = "warning" // it works, and somebody should look
	Failure Verdict = "failure" // something of what Dubnium promises does not work
	Unseen  Verdict = "unseen"  // it could not be looked at
)

// Line is one thing that was checked.
type Line struct {
	Check   string  `json:"check"`
	Verdict Verdict `json:"verdict"`
	Text    string  `json:"text"`
	// Remedy says what to do about it; never empty but for OK.
	Remedy string `json:"remedy,omitempty"`
}

// Report is all lines, in the order of the checks.
type Report []Line

// Count is how many lines have the verdict.
func (r Report) Count(v Verdict) int {
	return len(slices.DeleteFunc(slices.Clone(r), func(l Line) bool { return l.Verdict != v }))
}

// checks are made in this order: what others rest on is first.
var checks = []struct {
	name string
	run  func(Facts, *sheet)
}{
	{"bus", bus},
	{"units", units},
	{"polkit", polkit},
	{"policy", policies},
	{"paths", paths},
	{"probes", probes},
	{"gpu", gpus},
	{"audio", audio},
	{"clock", clock},
	{"versions", versions},
}

// Checks names the checks.
func Checks() []string {
	var names []string
	for _, c := range checks {
		names = append(names, c.name)
	}
	return names
}

// Examine makes every check.
func Examine(f Facts) Report {
	var all Report
	for _, c := range checks {
		s := sheet{check: c.name}
		c.run(f, &s)
		all = append(all, s.lines...)
	}
	return all
}

// sheet takes the lines of one check.
type sheet struct {
	check string
	lines Report
}

func (s *sheet) add(v Verdict, remedy, format string, args ...any) {
	s.lines = append(s.lines, Line{s.check, v, fmt.Sprintf(format, args...), remedy})
}

func (s *sheet) ok(format string, args ...any) { s.add(OK, "", format, args...) }

func (s *sheet) warn(remedy, format string, args ...any) { s.add(Warning, remedy, format, args...) }

func (s *sheet) fail(remedy, format string, args ...any) { s.add(Failure, remedy, format, args...) }

// unseen says what would let it be seen.
func (s *sheet) unseen(remedy, format string, args ...any) { s.add(Unseen, remedy, format, args...) }

const (
	startDaemon = "systemctl start dubniumd, and if it does not stay: journalctl -u dubniumd"
	asRoot      = "run modectl doctor as root"
)
