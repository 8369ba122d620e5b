package unitgraph

import (
	"cmp"
	"math/rand/v2"
	"slices"

	"github.com/dubnium/dubnium/observer"
)

// Relation is a dependency property of org.freedesktop.systemd1.Unit, by its
// name there.
type Relation string

// The relations that decide what an isolate does. After= and Before= are not
// among them: they only put jobs into an order.
const (
	Requires     Relation = "Requires"
	Requisite    Relation = "Requisite"
	Wants        Relation = "Wants"
	BindsTo      Relation = "BindsTo"
	Upholds      Relation = "Upholds"
	Conflicts    Relation = "Conflicts"
	ConflictedBy Relation = "ConflictedBy"
	RequiredBy   Relation = "RequiredBy"
	RequisiteOf  Relation = "RequisiteOf"
	BoundBy      Relation = "BoundBy"
	ConsistsOf   Relation = "ConsistsOf"
	TriggeredBy  Relation = "TriggeredBy"
	WantedBy     Relation = "WantedBy"
	PartOf       Relation = "PartOf"
	Triggers     Relation = "Triggers"
	UpheldBy     Relation = "UpheldBy"
)

// Relations lists them all.
func Relations() []Relation {
	return []Relation{
		Requires, Requisite, Wants, BindsTo, Upholds, Conflicts, ConflictedBy,
		RequiredBy, RequisiteOf, BoundBy, ConsistsOf, TriggeredBy, WantedBy, UpheldBy, PartOf, Triggers,
	}
}

// Graph is every unit that the manager has loaded, by Id.
type Graph map[string]Unit

// Unit is what an isolate looks at in one unit.
type Unit struct {
	// Names are the unit's Id and its aliases.
	Names       []string `json:"names"`
	LoadState   string   `json:"load_state"`
	ActiveState string   `json:"active_state"`
	// Job is the type of the queued job, empty for none.
	Job              string                `json:"job,omitempty"`
	AllowIsolate     bool                  `json:"allow_isolate,omitempty"`
	IgnoreOnIsolate  bool                  `json:"ignore_on_isolate,omitempty"`
	StopWhenUnneeded bool                  `json:"stop_when_unneeded,omitempty"`
	Perpetual        bool                  `json:"perpetual,omitempty"`
	Transient        bool                  `json:"transient,omitempty"`
	Relations        map[Relation][]string `json:"relations"`
}

// down: nothing of the unit runs (UNIT_IS_INACTIVE_OR_FAILED).
func (u Unit) down() bool { return u.ActiveState == "inactive" || u.ActiveState == "failed" }

// up: UNIT_IS_ACTIVE_OR_RELOADING.
func (u Unit) up() bool { return observer.Unit{ActiveState: u.ActiveState}.Active() }

// IsolateImpact is what isolating a target would do to the units that run.
//
// systemd walks its hash tables in an order that differs from boot to boot, and
// for a few units the outcome depends on it, or on systemd's release (see
// transaction.go). What every order and release does is certain; what some do is
// only possible, and whoever guards a unit has to count it as lost.
type IsolateImpact struct {
	// Target is the Id of the target.
	Target string `json:"target"`
	// Refused says why systemd would not isolate the target at all; nothing stops
	// or starts then. When it may be refused only, RefusalPossible is set beside
	// what happens if it is not.
	Refused         string `json:"refused,omitempty"`
	RefusalPossible string `json:"refusal_possible,omitempty"`
	// Stops and Starts are in the order of their names.
	Stops  []StoppedUnit `json:"stops"`
	Starts []Starter     `json:"starts"`
}

// StoppedUnit is a unit that isolate stops.
type StoppedUnit struct {
	Unit string `json:"unit"`
	// Possible: it depends on the order in which systemd looks at its units.
	Possible bool `json:"possible,omitempty"`
	// Transient: it has no file, and cannot be started again.
	Transient bool `json:"transient,omitempty"`
	// Cause says which rule stops it, and By which unit's job pulls its own in; of a
	// step, the name by which that stops it.
	Cause Cause  `json:"cause"`
	By    string `json:"by"`
}

// Starter is a unit that isolate starts.
type Starter struct {
	Unit     string `json:"unit"`
	Possible bool   `json:"possible,omitempty"`
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

// StopsUnit reports whether isolate stops, or may stop, the unit of that name.
func (i IsolateImpact) StopsUnit(name string) bool {
	return slices.ContainsFunc(i.Stops, func(c StoppedUnit) bool { return c.Unit == name })
}

// orders is in how many orders the units are gone through, half of them by each
// rule of systemd's for triggers. The first two are chosen to pull apart, see order.
const orders = 16

// ComputeIsolate computes which of the units that are up an isolate of target,
// which may be an alias, stops, and which it starts. It is pure, and changes
// nothing in g.
//
// What it cannot know: a start that fails, an ordering cycle that systemd breaks
// by dropping jobs, an irreversible job that is queued (a shutdown), and what
// comes back by itself after it was stopped (Upholds= of a unit that stays, a
// trigger that stays).
func ComputeIsolate(g Graph, target string) IsolateImpact {
	n := index(g)
	at, known := n.names[target]
	if !known {
		return IsolateImpact{Target: target, Refused: "unit " + target + " is not loaded", Stops: []StoppedUnit{}, Starts: []Starter{}}
	}
	tally := newTally(n, at)
	for i := range orders {
		t := n.transaction(n.order(i))
		t.rule = triggerRule(i >= orders/2)
		tally.add(t, t.isolate(at))
	}
	return tally.impact()
}

// node is a unit with its relations resolved to other nodes.
type node struct {
	Unit
	id        string
	relations map[Relation][]int
}

// nodes are the units in the order of their names.
type nodes struct {
	list  []node
	names map[string]int
}

func index(g Graph) *nodes {
	n := &nodes{names: make(map[string]int, len(g))}
	for id, u := range g {
		n.list = append(n.list, node{Unit: u, id: id})
	}
	slices.SortFunc(n.list, func(a, b node) int { return cmp.Compare(a.id, b.id) })
	for i, u := range n.list {
		for _, name := range u.Names {
			n.names[name] = i
		}
	}
	for i, u := range n.list {
		n.names[u.id] = i // an Id is nobody's alias
	}
	for i := range n.list {
		n.list[i].relations = n.resolve(n.list[i].Relations)
	}
	n.mirror()
	return n
}

// mirror completes what depends on each unit: one that was read before another was
// loaded does not name it.
func (n *nodes) mirror() {
	for i := range n.list {
		for forward, back := range map[Relation]Relation{
			Requires: RequiredBy, Requisite: RequisiteOf, BindsTo: BoundBy, Conflicts: ConflictedBy, Wants: WantedBy, Upholds: UpheldBy,
			PartOf: ConsistsOf, Triggers: TriggeredBy,
		} {
			for _, other := range n.list[i].relations[forward] {
				if u := &n.list[other]; !slices.Contains(u.relations[back], i) {
					u.relations[back] = append(u.relations[back], i)
				}
			}
		}
	}
}

// resolve leaves out names of units that are not in the graph: the manager has
// an object for every name that it has seen, so they went while it was read.
func (n *nodes) resolve(named map[Relation][]string) map[Relation][]int {
	resolved := make(map[Relation][]int, len(named))
	for relation, names := range named {
		for _, name := range names {
			if i, ok := n.names[name]; ok {
				resolved[relation] = append(resolved[relation], i)
			}
		}
	}
	return resolved
}

// order is a rank for each unit. Order 0 has whatever is triggered first, 1 what
// triggers it and what cannot be loaded; the others are shuffled, the same each
// time.
func (n *nodes) order(number int) []int {
	rank := rand.New(rand.NewPCG(uint64(number), 1)).Perm(len(n.list))
	if number > 1 {
		return rank
	}
	for i, u := range n.list {
		late := len(u.relations[TriggeredBy]) == 0 || u.LoadState != "loaded"
		if late == (number == 0) {
			rank[i] += len(n.list)
		}
	}
	return rank
}

// tally counts what the orders agree on.
type tally struct {
	n       *nodes
	target  int
	runs    int // that were not refused
	refused string
	stops   map[int]int
	starts  map[int]int
	first   map[int]StoppedUnit
}

func newTally(n *nodes, target int) *tally {
	return &tally{n: n, target: target, stops: map[int]int{}, starts: map[int]int{}, first: map[int]StoppedUnit{}}
}

func (y *tally) add(t *transaction, err error) {
	if err != nil {
		y.refused = err.Error()
		return
	}
	y.runs++
	for i, j := range t.stopping() {
		y.stops[i]++
		if _, told := y.first[i]; !told {
			y.first[i] = StoppedUnit{Unit: y.n.list[i].id, Transient: y.n.list[i].Transient, Cause: j.cause, By: y.n.list[j.by].id}
		}
	}
	for _, i := range t.starting() {
		y.starts[i]++
	}
}

func (y *tally) impact() IsolateImpact {
	i := IsolateImpact{Target: y.n.list[y.target].id, Stops: []StoppedUnit{}, Starts: []Starter{}}
	if y.runs == 0 {
		i.Refused = y.refused
		return i
	}
	i.RefusalPossible = y.refused
	for at := range y.n.list { // sorted by name
		if count := y.stops[at]; count > 0 {
			c := y.first[at]
			c.Possible = count < y.runs
			i.Stops = append(i.Stops, c)
		}
		if count := y.starts[at]; count > 0 {
			i.Starts = append(i.Starts, Starter{y.n.list[at].id, count < y.runs})
		}
	}
	return i
}
