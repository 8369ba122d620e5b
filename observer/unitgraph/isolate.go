package unitgraph

import "slices"

// IsolateImpact is what isolating a target does to the units that run, in the worst case.
//
// systemd goes through its hash tables in an order that differs from boot to boot, and its releases differ
// in what a trigger keeps up (see transaction.go). Whatever stops or starts in one of these cases is listed,
// and a refusal in one of them is a refusal.
type IsolateImpact struct {
	// Target is the Id of the target.
	Target string `json:"target"`
	// Refused says why systemd would not isolate the target; nothing stops or starts then.
	Refused string `json:"refused,omitempty"`
	// Stops and Starts are in the order of their names.
	Stops  []StoppedUnit `json:"stops"`
	Starts []StartedUnit `json:"starts"`
}

// StoppedUnit is a unit that stops.
type StoppedUnit struct {
	Unit string `json:"unit"`
	// Transient: it has no file, and cannot be started again.
	Transient bool `json:"transient,omitempty"`
	// Cause says which rule stops it, and By which unit's job pulls its own in; of a step, the name by
	// which that stops it.
	Cause Cause  `json:"cause"`
	By    string `json:"by"`
}

// StartedUnit is a unit that starts.
type StartedUnit struct {
	Unit string `json:"unit"`
}

// Cause is the rule by which a unit stops.
type Cause string

// The causes.
const (
	CauseNotWanted  Cause = "not-wanted" // isolate itself: the target does not pull it in
	CauseConflict   Cause = "conflict"   // a unit that starts conflicts with it
	CausePropagated Cause = "propagated" // it depends on a unit that stops
	CauseUnneeded   Cause = "unneeded"   // StopWhenUnneeded=, and whoever needed it stops
	CauseStep       Cause = "step"       // no isolate: a step of a plan stops it
)

// StopsUnit reports whether the isolate stops the unit of that Id.
func (i IsolateImpact) StopsUnit(id string) bool {
	return slices.ContainsFunc(i.Stops, func(c StoppedUnit) bool { return c.Unit == id })
}

// ComputeIsolate computes which of the units that are up an isolate of target, which may be an alias, stops,
// and which units it starts. It is pure, and changes nothing in g.
//
// It does not foresee a start that fails, an ordering cycle that systemd breaks by dropping jobs, an
// irreversible job that is queued (a shutdown), and units that start again by themselves (Upholds= of a
// unit that stays, a trigger that stays).
func ComputeIsolate(g Graph, target string) IsolateImpact {
	n := index(g)
	impact := IsolateImpact{Target: target, Stops: []StoppedUnit{}, Starts: []StartedUnit{}}
	at, known := n.names[target]
	if !known {
		impact.Refused = "unit " + target + " is not loaded"
		return impact
	}
	impact.Target = n.list[at].id
	t := newTransaction(n)
	if err := t.isolate(at); err != nil {
		impact.Refused = err.Error()
		return impact
	}
	stopping := t.stopping()
	for i, u := range n.list {
		if j := stopping[i]; j != nil {
			impact.Stops = append(impact.Stops, t.stoppedUnit(j))
		}
		if !u.up() && t.survives(i, jobStart) {
			impact.Starts = append(impact.Starts, StartedUnit{u.id})
		}
	}
	return impact
}
