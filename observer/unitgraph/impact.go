// Package unitgraph models the units that systemd has loaded and computes what a plan does to them: which
// units an isolate, a stop and the end of sessions stop and start beside those that the plan names. It is
// pure. The reader of the units is internal/busconn/systemd1.
package unitgraph

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dubnium/dubnium/observer"
)

// UnitOperations is what a plan does to units by its own steps.
type UnitOperations struct {
	// Isolate is the target that is isolated; empty for none.
	Isolate string
	// Starts and Stops are the units that steps start and stop.
	Starts, Stops []string
	// SessionUnits are units that stop as sessions end: their scopes, and the display
	// manager before them.
	SessionUnits []string
}

// Impact is how far a plan reaches beyond the units that its steps name, as
// the manager's units were when they were read. The zero value is one that nobody
// has read.
type Impact struct {
	observer.Reading
	// Isolation is what the plan's isolate does; nil where nothing is isolated.
	Isolation *IsolateImpact `json:"isolation,omitempty"`
	// Stopped are the units that the steps stop and what goes down with them, and
	// Unseated the same of the sessions that end.
	Stopped             []StoppedUnit `json:"stopped"`
	StoppedWithSessions []StoppedUnit `json:"unseated"`
	// Started are the units that the steps start and that are not up.
	Started []string `json:"started"`
	// Jobs are those in the manager's queue, in the order of their units. Reversed are
	// those of them that the steps would have systemd cancel, being the contrary, and
	// Opposed those that are the contrary of what stops as sessions end.
	Jobs            []QueuedJob `json:"jobs"`
	CanceledJobs    []QueuedJob `json:"reversed"`
	ConflictingJobs []QueuedJob `json:"opposed"`
	// IDs has the Id of every unit by each of its names.
	IDs map[string]string `json:"ids"`
}

// QueuedJob is a job that somebody has asked for and that has not ended.
type QueuedJob struct {
	Unit string `json:"unit"`
	Type string `json:"type"` // start, stop, restart, ...
}

// ComputeImpact computes how far an errand reaches. It is pure, and changes nothing in g.
func ComputeImpact(g Graph, e UnitOperations) Impact {
	n := index(g)
	b := Impact{Started: []string{}, Jobs: []QueuedJob{}, IDs: make(map[string]string, len(n.names))}
	b.Stopped, b.CanceledJobs = n.stop(e.Stops)
	b.StoppedWithSessions, b.ConflictingJobs = n.stop(e.SessionUnits)
	if e.Isolate != "" {
		impact := ComputeIsolate(g, e.Isolate)
		b.Isolation = &impact
	}
	for name, at := range n.names {
		b.IDs[name] = n.list[at].id
	}
	for _, name := range e.Starts {
		at, known := n.names[name]
		if known && !n.list[at].up() {
			b.Started = append(b.Started, n.list[at].id)
		}
		if known && n.list[at].Job == "stop" {
			b.CanceledJobs = append(b.CanceledJobs, n.list[at].queued())
		}
	}
	for _, u := range n.list {
		if u.Job != "" {
			b.Jobs = append(b.Jobs, u.queued())
		}
	}
	return b
}

func (u node) queued() QueuedJob { return QueuedJob{u.id, u.Job} }

// stop is StopUnit for each of the names, which do not fail each other: what goes
// down, and the queued jobs that are the contrary (job_type_is_conflicting). A unit
// that is down may have one.
func (n *nodes) stop(names []string) (stopped []StoppedUnit, contrary []QueuedJob) {
	t := n.transaction(n.order(0))
	named := map[int]string{}
	for _, name := range names {
		if at, known := n.names[name]; known {
			named[at] = name
			_ = t.add(jobStop, at, nil, link{}, CauseStep) // a stop is never refused
		}
	}
	t.stopUnneeded()
	stopped, contrary = []StoppedUnit{}, []QueuedJob{}
	stopping := t.stopping()
	for _, at := range slices.Sorted(maps.Keys(stopping)) {
		u, j := n.list[at], stopping[at]
		c := StoppedUnit{Unit: u.id, Transient: u.Transient, Cause: j.cause, By: n.list[j.by].id}
		if name, ok := named[at]; ok { // whatever else takes it along
			c.Cause, c.By = CauseStep, name
		}
		stopped = append(stopped, c)
	}
	for _, at := range slices.Sorted(maps.Keys(t.jobs)) {
		if u := n.list[at]; u.Job != "" && u.Job != "stop" && u.Job != "nop" {
			contrary = append(contrary, u.queued())
		}
	}
	return stopped, contrary
}

// StoppedUnits are all units that stop, each once, in the order of their names. The
// scopes of sessions that end are not among them: those are told as sessions.
func (b Impact) StoppedUnits() []StoppedUnit {
	all := map[string]StoppedUnit{}
	if b.Isolation != nil {
		for _, c := range b.Isolation.Stops {
			all[c.Unit] = c
		}
	}
	for _, c := range slices.Concat(b.Stopped, b.StoppedWithSessions) { // by then they are down already
		if !c.isScope() {
			all[c.Unit] = c
		}
	}
	return slices.SortedFunc(maps.Values(all), func(a, b StoppedUnit) int { return cmp.Compare(a.Unit, b.Unit) })
}

func (c StoppedUnit) isScope() bool {
	return c.Cause == CauseStep && strings.HasSuffix(c.Unit, ".scope")
}

// causes say by which rule a unit stops, with the unit that is the cause.
var causes = map[Cause]string{
	CauseNotWanted:  "%s does not pull it in",
	CauseConflict:   "%s conflicts with it",
	CausePropagated: "it goes down with %s",
	CauseUnneeded:   "nothing needs it without %s",
	CauseStep:       "a step of the plan stops %s",
}

// Why says for people why the unit stops. A cause of a newer version is told by its
// own word.
func (c StoppedUnit) Why() string {
	if form, known := causes[c.Cause]; known {
		return fmt.Sprintf(form, c.By)
	}
	return fmt.Sprintf("%s by %s", c.Cause, c.By)
}

// Starters are all units that start, each once, in the order of their names.
func (b Impact) Starters() []Starter {
	all := map[string]Starter{}
	if b.Isolation != nil {
		for _, s := range b.Isolation.Starts {
			all[s.Unit] = s
		}
	}
	for _, unit := range b.Started {
		all[unit] = Starter{Unit: unit}
	}
	return slices.SortedFunc(maps.Values(all), func(a, b Starter) int { return cmp.Compare(a.Unit, b.Unit) })
}

// AffectedOf lists those of the units, named by whatever name of theirs, that stop or
// may stop, as casualties.
func (b Impact) AffectedOf(units []string) []StoppedUnit {
	var lost []StoppedUnit
	for _, c := range b.StoppedUnits() {
		if slices.ContainsFunc(units, func(name string) bool { return b.ID(name) == c.Unit }) {
			lost = append(lost, c)
		}
	}
	return lost
}

// ID is the Id of the unit of that name, or the name where there is no such unit.
func (b Impact) ID(name string) string { return cmp.Or(b.IDs[name], name) }
