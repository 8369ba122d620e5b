package unitgraph

import (
	"cmp"
	"slices"

	"github.com/dubnium/dubnium/observer"
)

// Relation is a dependency property of org.freedesktop.systemd1.Unit, by its name there.
type Relation string

// The relations that decide what a transaction contains. After= and Before= are not among them: they only
// order its jobs.
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

// inverse relations: systemd shows each of these from both sides.
var inverse = map[Relation]Relation{
	Requires: RequiredBy, Requisite: RequisiteOf, BindsTo: BoundBy, Wants: WantedBy, Upholds: UpheldBy,
	Conflicts: ConflictedBy, PartOf: ConsistsOf, Triggers: TriggeredBy,
}

// Relations lists them all.
func Relations() []Relation {
	return []Relation{
		Requires, Requisite, Wants, BindsTo, Upholds, Conflicts, ConflictedBy,
		RequiredBy, RequisiteOf, BoundBy, ConsistsOf, TriggeredBy, WantedBy, UpheldBy, PartOf, Triggers,
	}
}

// Graph is every unit that the manager has loaded, by Id.
type Graph map[string]Unit

// Unit is what a transaction depends on in one unit.
type Unit struct {
	// Names are the unit's Id and its aliases.
	Names       []string
	LoadState   string
	ActiveState string
	// Job is the type of the queued job, empty for none.
	Job              string
	AllowIsolate     bool
	IgnoreOnIsolate  bool
	StopWhenUnneeded bool
	Perpetual        bool
	Transient        bool
	Relations        map[Relation][]string
}

// down: nothing of the unit runs (UNIT_IS_INACTIVE_OR_FAILED).
func (u Unit) down() bool { return u.ActiveState == "inactive" || u.ActiveState == "failed" }

// up: UNIT_IS_ACTIVE_OR_RELOADING.
func (u Unit) up() bool { return observer.Unit{ActiveState: u.ActiveState}.Active() }

// node is a unit with its relations resolved to other nodes.
type node struct {
	Unit
	id        string
	relations map[Relation][]int
}

func (u node) queued() QueuedJob { return QueuedJob{u.id, u.Job} }

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
		n.names[u.id] = i // an Id takes precedence over an alias
	}
	for i := range n.list {
		n.list[i].relations = n.resolve(n.list[i].Relations)
	}
	n.addInverse()
	return n
}

// resolve leaves out names of units that are not in the graph: the manager has an object for every name
// that it has seen, so these units were unloaded while the graph was read.
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

// addInverse completes the inverse relations: a unit that was read before another was loaded does not name
// that other one.
func (n *nodes) addInverse() {
	for i := range n.list {
		for forward, back := range inverse {
			for _, other := range n.list[i].relations[forward] {
				if u := &n.list[other]; !slices.Contains(u.relations[back], i) {
					u.relations[back] = append(u.relations[back], i)
				}
			}
		}
	}
}

// related lists the units to which unit i has one of the relations, in the order of their names.
func (n *nodes) related(i int, relations ...Relation) []int {
	var all []int
	for _, r := range relations {
		all = append(all, n.list[i].relations[r]...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}
