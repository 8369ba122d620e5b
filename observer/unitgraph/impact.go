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
	// SessionUnits are units that stop as sessions end: their scopes, and the display manager before them.
	SessionUnits []string
}

// Impact is what a plan does to units beyond those that its steps name, in the worst case, as the units were
// when they were read. In the zero value they have not been read.
type Impact struct {
	observer.Reading
	// Isolation is what the plan's isolate does; nil where nothing is isolated.
	Isolation *IsolateImpact
	// Stopped are the units that the steps stop and what stops with them, and StoppedWithSessions the same
	// of the sessions that end.
	Stopped, StoppedWithSessions []StoppedUnit
	// Started are the units that the steps start and that are not up.
	Started []string
	// Jobs are those in the manager's queue, in the order of their units. CanceledJobs are those of them
	// that the steps make systemd cancel, and ConflictingJobs those that conflict with the stops of the
	// sessions' end.
	Jobs, CanceledJobs, ConflictingJobs []QueuedJob
	// IDs has the Id of every unit by each of its names.
	IDs map[string]string
}

// QueuedJob is a job that was requested and has not ended.
type QueuedJob struct {
	Unit string
	Type string // start, stop, restart, ...
}

// ComputeImpact computes the impact of a plan's operations. It is pure, and changes nothing in g.
func ComputeImpact(g Graph, o UnitOperations) Impact {
	n := index(g)
	b := Impact{Started: []string{}, Jobs: []QueuedJob{}, IDs: make(map[string]string, len(n.names))}
	b.Stopped, b.CanceledJobs = n.stop(o.Stops)
	b.StoppedWithSessions, b.ConflictingJobs = n.stop(o.SessionUnits)
	if o.Isolate != "" {
		isolation := ComputeIsolate(g, o.Isolate)
		b.Isolation = &isolation
	}
	for name, at := range n.names {
		b.IDs[name] = n.list[at].id
	}
	for _, name := range o.Starts {
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

// stop is StopUnit for each of the names, one transaction after the other: the units that stop, and the
// queued jobs that conflict with these stops (job_type_is_conflicting). A unit that is down may have one.
func (n *nodes) stop(names []string) (stopped []StoppedUnit, conflicting []QueuedJob) {
	t := newTransaction(n)
	named := map[int]string{}
	for _, name := range names {
		if at, known := n.names[name]; known {
			named[at] = name
			t.add(jobStop, at, nil, link{}, CauseStep)
		}
	}
	t.stopUnneeded()
	stopped, conflicting = []StoppedUnit{}, []QueuedJob{}
	stopping := t.stopping()
	for i, u := range n.list {
		if j := stopping[i]; j != nil {
			c := t.stoppedUnit(j)
			if name, ok := named[i]; ok { // whatever else stops it
				c.Cause, c.By = CauseStep, name
			}
			stopped = append(stopped, c)
		}
		if t.survives(i, jobStop) && u.Job != "" && u.Job != "stop" && u.Job != "nop" {
			conflicting = append(conflicting, u.queued())
		}
	}
	return stopped, conflicting
}

// StoppedUnits are all units that stop, each once, in the order of their names. The scopes of sessions that
// end are left out: sessions are listed apart.
func (b Impact) StoppedUnits() []StoppedUnit {
	all := map[string]StoppedUnit{}
	if b.Isolation != nil {
		for _, c := range b.Isolation.Stops {
			all[c.Unit] = c
		}
	}
	for _, c := range slices.Concat(b.Stopped, b.StoppedWithSessions) { // these stop before the isolate
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
	CausePropagated: "it depends on %s",
	CauseUnneeded:   "nothing needs it without %s",
	CauseStep:       "a step of the plan stops %s",
}

// Why says for people why the unit stops. A cause of a newer version is shown by its own name.
func (c StoppedUnit) Why() string {
	if form, known := causes[c.Cause]; known {
		return fmt.Sprintf(form, c.By)
	}
	return fmt.Sprintf("%s by %s", c.Cause, c.By)
}

// StartedUnits are all units that start, each once, in the order of their names.
func (b Impact) StartedUnits() []StartedUnit {
	all := map[string]StartedUnit{}
	if b.Isolation != nil {
		for _, s := range b.Isolation.Starts {
			all[s.Unit] = s
		}
	}
	for _, unit := range b.Started {
		all[unit] = StartedUnit{Unit: unit}
	}
	return slices.SortedFunc(maps.Values(all), func(a, b StartedUnit) int { return cmp.Compare(a.Unit, b.Unit) })
}

// AffectedOf lists those of the units, by any of their names, that stop.
func (b Impact) AffectedOf(units []string) []StoppedUnit {
	var affected []StoppedUnit
	for _, c := range b.StoppedUnits() {
		if slices.ContainsFunc(units, func(name string) bool { return b.ID(name) == c.Unit }) {
			affected = append(affected, c)
		}
	}
	return affected
}

// ID is the Id of the unit of that name, or the name where there is no such unit.
func (b Impact) ID(name string) string { return cmp.Or(b.IDs[name], name) }
