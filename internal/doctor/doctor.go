package doctor

import (
	"fmt"
	"slices"
)

// Verdict is the result of a check.
type Verdict string

// The verdicts.
const (
	OK      Verdict = "ok"
	Warning Verdict = "warning" // it works, but should be checked
	Failure Verdict = "failure" // something that Dubnium promises does not work
	Unseen  Verdict = "unseen"  // it could not be checked
)

// Line is the result of one check.
type Line struct {
	Check   string  `json:"check"`
	Verdict Verdict `json:"verdict"`
	Text    string  `json:"text"`
	// Remedy is empty only for OK.
	Remedy string `json:"remedy,omitempty"`
}

// Report is the lines in the order of the checks.
type Report []Line

// Count is the number of lines with the verdict.
func (r Report) Count(v Verdict) int {
	return len(slices.DeleteFunc(slices.Clone(r), func(l Line) bool { return l.Verdict != v }))
}

// checks are in order of dependency: the first are needed by the others.
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

// Examine runs every check.
func Examine(f Facts) Report {
	var all Report
	for _, c := range checks {
		s := sheet{check: c.name}
		c.run(f, &s)
		all = append(all, s.lines...)
	}
	return all
}

// sheet collects the lines of one check.
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

// unseen adds what could not be checked; the remedy makes it checkable.
func (s *sheet) unseen(remedy, format string, args ...any) { s.add(Unseen, remedy, format, args...) }

const (
	startDaemon = "systemctl start dubniumd; if it stops again: journalctl -u dubniumd"
	asRoot      = "run modectl doctor as root"
)
