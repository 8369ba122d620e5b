package unitgraph

import (
	"fmt"
	"slices"
)

// This file is systemd's own reckoning (src/core/transaction.c of v257, with the
// meaning of each relation from src/core/unit-dependency-atom.c), reduced to the
// job types that an isolate makes. Each rule names the function it is taken from.

type jobType int8

const (
	jobStart jobType = iota
	jobVerify
	jobStop
)

// job is one job of a transaction; a unit may have one of each type until they
// are merged.
type job struct {
	unit  int
	kind  jobType
	cause Cause // of a stop: the first thing that asked for it
	by    int

	gone    bool
	matters bool   // matters_to_anchor: without it the request makes no sense
	pulls   []link // jobs that this one pulled in (subject_list)
	pulled  []link // jobs that pulled this one in (object_list)
}

// link ties a job to one that it pulled in (JobDependency).
type link struct {
	other     *job
	matters   bool // the puller cannot go without the pulled
	conflicts bool // it was pulled in by Conflicts=
}

type transaction struct {
	n      *nodes
	rank   []int
	jobs   map[int][]*job // by unit
	anchor *job
	rule   triggerRule // of an isolate
	// unneeded are units that stop after the transaction, when nobody needs them, and
	// with them what they take along.
	unneeded map[int]*job
}

// triggerRule says which triggers keep what they trigger. systemd changed it in its
// stable releases (the loop of transaction_add_isolate_jobs before, shall_stop_on_isolate
// of v257.13 after), and does not tell which one it has.
type triggerRule bool

const (
	keptByAnyJob   triggerRule = false // by a trigger that has any job, to stop it too
	keptByStayJobs triggerRule = true  // only by one that is up and is not to stop
)

func (n *nodes) transaction(rank []int) *transaction {
	return &transaction{n: n, rank: rank, jobs: map[int][]*job{}, unneeded: map[int]*job{}}
}

func (t *transaction) unit(i int) *node { return &t.n.list[i] }

// ordered gives units in the transaction's order, which stands for that of
// systemd's hash tables.
func (t *transaction) ordered(units []int) []int {
	sorted := slices.Clone(units)
	slices.SortFunc(sorted, func(a, b int) int { return t.rank[a] - t.rank[b] })
	return sorted
}

func (t *transaction) related(i int, relations ...Relation) []int {
	var all []int
	for _, r := range relations {
		all = append(all, t.unit(i).relations[r]...)
	}
	return t.ordered(all)
}

// isolate is StartUnit with the mode isolate (manager_add_job, then
// transaction_activate). The error is systemd's refusal.
func (t *transaction) isolate(target int) error {
	if u := t.unit(target); u.LoadState == "loaded" && !u.AllowIsolate {
		return fmt.Errorf("%s may not be isolated (AllowIsolate=)", u.id)
	}
	if err := t.add(jobStart, target, nil, link{}, ""); err != nil {
		return err
	}
	t.addIsolate()
	markMattering(t.anchor)
	t.dropRedundant()
	// transaction_collect_garbage is left out when isolating: a job whose puller was
	// dropped stays.
	if err := t.merge(); err != nil {
		return err
	}
	t.dropRedundant()
	t.stopUnneeded()
	return nil
}

// add is transaction_add_job_and_dependencies. as says how the puller is tied
// to the job.
func (t *transaction) add(kind jobType, unit int, by *job, as link, cause Cause) error {
	u := t.unit(unit)
	if kind != jobStop && u.LoadState != "loaded" { // bus_unit_validate_load_state
		return fmt.Errorf("unit %s is %s", u.id, u.LoadState)
	}
	if kind == jobStop && u.Perpetual { // unit_job_is_applicable: EBADR, which every caller ignores
		return nil
	}
	j, isNew := t.one(kind, unit)
	if by == nil {
		t.anchor = j
	} else {
		by.pulls = append(by.pulls, link{j, as.matters, as.conflicts})
		j.pulled = append(j.pulled, link{by, as.matters, as.conflicts})
	}
	if !isNew {
		return nil
	}
	j.cause, j.by = cause, unit
	if by != nil {
		j.by = by.unit
	}
	switch kind {
	case jobStart:
		return t.pullIn(j)
	case jobStop:
		return t.propagateStop(j)
	}
	return nil
}

// one is transaction_add_one_job.
func (t *transaction) one(kind jobType, unit int) (j *job, isNew bool) {
	for _, j := range t.jobs[unit] {
		if j.kind == kind {
			return j, false
		}
	}
	j = &job{unit: unit, kind: kind}
	t.jobs[unit] = append(t.jobs[unit], j)
	return j, true
}

// pullIn adds what a start job needs. When something that it requires cannot be
// loaded the job itself is dropped, but what it pulled in until then stays (the
// label fail in transaction_add_job_and_dependencies).
func (t *transaction) pullIn(j *job) error {
	required := link{matters: true}
	for _, other := range t.related(j.unit, Requires, BindsTo) { // UNIT_ATOM_PULL_IN_START
		if err := t.add(jobStart, other, j, required, ""); err != nil {
			t.drop(j, false)
			return err
		}
	}
	for _, other := range t.related(j.unit, Wants, Upholds) { // UNIT_ATOM_PULL_IN_START_IGNORED
		_ = t.add(jobStart, other, j, link{}, "") // what cannot be had is done without
	}
	for _, other := range t.related(j.unit, Requisite) { // UNIT_ATOM_PULL_IN_VERIFY
		if err := t.add(jobVerify, other, j, required, ""); err != nil {
			t.drop(j, false)
			return err
		}
	}
	for _, other := range t.related(j.unit, Conflicts) { // UNIT_ATOM_PULL_IN_STOP
		if err := t.add(jobStop, other, j, link{matters: true, conflicts: true}, CauseConflict); err != nil {
			t.drop(j, false)
			return err
		}
	}
	for _, other := range t.related(j.unit, ConflictedBy) { // UNIT_ATOM_PULL_IN_STOP_IGNORED
		_ = t.add(jobStop, other, j, link{}, CauseConflict)
	}
	return nil
}

// propagateStop stops what depends on a unit that stops, whatever it says of
// isolate (UNIT_ATOM_PROPAGATE_STOP). PropagatesStopTo= does not belong to it
// (UNIT_ATOM_PROPAGATE_STOP_GRACEFUL): it acts when a person stops the unit.
func (t *transaction) propagateStop(j *job) error {
	for _, other := range t.related(j.unit, RequiredBy, RequisiteOf, BoundBy, ConsistsOf) {
		if err := t.add(jobStop, other, j, link{matters: true}, CausePropagated); err != nil {
			return err
		}
	}
	return nil
}

// addIsolate is transaction_add_isolate_jobs: stop what runs, or is about to,
// and is not mentioned. It asks about a trigger while it adds jobs itself, so
// whether a unit goes down with its trigger may depend on which of them comes first.
func (t *transaction) addIsolate() {
	all := make([]int, len(t.n.list))
	for i := range all {
		all[i] = i
	}
	for _, i := range t.ordered(all) {
		u := t.unit(i)
		if u.down() && u.Job == "" || t.spared(i) || slices.ContainsFunc(u.relations[TriggeredBy], t.keeps) {
			continue
		}
		_ = t.add(jobStop, i, t.anchor, link{matters: true}, CauseNotWanted) // "Cannot add isolate job, ignoring"
	}
}

// spared: isolate itself adds no stop for the unit.
func (t *transaction) spared(i int) bool { return t.unit(i).IgnoreOnIsolate || len(t.jobs[i]) > 0 }

// keeps: what the trigger triggers is spared with it.
func (t *transaction) keeps(trigger int) bool {
	if t.rule == keptByAnyJob {
		return t.spared(trigger)
	}
	switch t.unit(trigger).ActiveState {
	case "inactive", "failed", "deactivating": // UNIT_IS_INACTIVE_OR_DEACTIVATING
		return false
	}
	return t.spared(trigger) && !slices.ContainsFunc(t.jobs[trigger], func(j *job) bool { return j.kind == jobStop })
}

// drop is transaction_delete_job; with dependents, those that cannot go without
// it are dropped too.
func (t *transaction) drop(j *job, dependents bool) {
	if j.gone {
		return
	}
	j.gone = true
	if rest := slices.DeleteFunc(t.jobs[j.unit], func(o *job) bool { return o == j }); len(rest) > 0 {
		t.jobs[j.unit] = rest
	} else {
		delete(t.jobs, j.unit)
	}
	for _, l := range j.pulls {
		l.other.pulled = slices.DeleteFunc(l.other.pulled, func(back link) bool { return back.other == j })
	}
	pulled := j.pulled
	j.pulls, j.pulled = nil, nil
	for _, l := range pulled {
		l.other.pulls = slices.DeleteFunc(l.other.pulls, func(down link) bool { return down.other == j })
		if dependents && l.matters {
			t.drop(l.other, true)
		}
	}
}

// markMattering is transaction_find_jobs_that_matter_to_anchor.
func markMattering(j *job) {
	j.matters = true
	for _, l := range j.pulls {
		if l.matters && !l.other.matters {
			markMattering(l.other)
		}
	}
}

// units lists those that have jobs, in the transaction's order.
func (t *transaction) units() []int {
	units := make([]int, 0, len(t.jobs))
	for i := range t.jobs {
		units = append(units, i)
	}
	return t.ordered(units)
}

// dropRedundant is transaction_drop_redundant: a unit all of whose jobs would
// change nothing is left alone.
func (t *transaction) dropRedundant() {
	for _, i := range t.units() {
		jobs := slices.Clone(t.jobs[i])
		if slices.ContainsFunc(jobs, func(j *job) bool { return j == t.anchor || !t.redundant(j) }) {
			continue
		}
		for _, j := range jobs {
			t.drop(j, false)
		}
	}
}

// redundant is job_type_is_redundant, and no queued job says the contrary
// (job_type_is_conflicting).
func (t *transaction) redundant(j *job) bool {
	u := t.unit(j.unit)
	if j.kind == jobStop {
		return u.down() && (u.Job == "" || u.Job == "stop" || u.Job == "nop")
	}
	return u.up() && u.Job != "stop"
}

// merge is transaction_merge_jobs: no unit can both stop and start. It fails when
// the request needs both.
func (t *transaction) merge() error {
	for again := true; again; {
		again = false
		for _, i := range t.units() {
			stop, other := t.opposed(i)
			if stop == nil {
				continue
			}
			loser := unmergeable(stop, other)
			if loser == nil {
				return fmt.Errorf("transaction contains conflicting jobs for %s: it would have to be both up and down", t.unit(i).id)
			}
			t.drop(loser, true)
			again = true
		}
	}
	return nil
}

func (t *transaction) opposed(i int) (stop, other *job) {
	for _, j := range t.jobs[i] {
		if j.kind == jobStop {
			stop = j
		} else {
			other = j
		}
	}
	if stop == nil || other == nil {
		return nil, nil
	}
	return stop, other
}

// unmergeable is delete_one_unmergeable_job: what matters stays; of two that do
// not, the start, unless only isolate's mirror of Conflicts= wants the stop.
func unmergeable(stop, other *job) *job {
	switch {
	case stop.matters && other.matters:
		return nil
	case stop.matters:
		return other
	case other.matters:
		return stop
	case slices.ContainsFunc(stop.pulled, func(l link) bool { return l.conflicts }):
		return other
	}
	return stop
}

// stopping are the units that are not down and get a stop job.
func (t *transaction) stopping() map[int]*job {
	all := map[int]*job{}
	for i, jobs := range t.jobs {
		if jobs[0].kind == jobStop && !t.unit(i).down() {
			all[i] = jobs[0]
		}
	}
	for i, j := range t.unneeded {
		all[i] = j
	}
	return all
}

// starting are the units that are not up and get a start job.
func (t *transaction) starting() []int {
	var all []int
	for i, jobs := range t.jobs {
		if !t.unit(i).up() && slices.ContainsFunc(jobs, func(j *job) bool { return j.kind == jobStart }) {
			all = append(all, i)
		}
	}
	return all
}
