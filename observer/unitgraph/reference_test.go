package unitgraph

import (
	"fmt"
	"slices"
)

// The reference is systemd's transaction with one order of its hash tables and the rule of one release,
// step by step as src/core/transaction.c does it. The model has to cover every such run.

// job is one job of a transaction; a unit may have one of each type until they
// are merged.
type exactJob struct {
	unit  int
	kind  jobType
	cause Cause // of a stop: the first thing that asked for it
	by    int

	gone    bool
	matters bool        // matters_to_anchor: without it the request makes no sense
	pulls   []exactLink // jobs that this one pulled in (subject_list)
	pulled  []exactLink // jobs that pulled this one in (object_list)
}

// exactLink connects a job to one that it pulled in (JobDependency).
type exactLink struct {
	other     *exactJob
	matters   bool // the puller cannot go without the pulled
	conflicts bool // it was pulled in by Conflicts=
}

type exact struct {
	n      *nodes
	rank   []int
	jobs   map[int][]*exactJob // by unit
	anchor *exactJob
	rule   triggerRule // of an isolate
	// unneeded are units that stop after the transaction, when nobody needs them, and
	// with them what they take along.
	unneeded map[int]*exactJob
}

// triggerRule says which triggers keep what they trigger. systemd changed it in its
// stable releases (the loop of transaction_add_isolate_jobs before, shall_stop_on_isolate
// of v257.13 after).
type triggerRule bool

const (
	keptByAnyJob   triggerRule = false // by a trigger that has any job, to stop it too
	keptByStayJobs triggerRule = true  // only by one that is up and is not to stop
)

func (n *nodes) exact(rank []int) *exact {
	return &exact{n: n, rank: rank, jobs: map[int][]*exactJob{}, unneeded: map[int]*exactJob{}}
}

func (t *exact) unit(i int) *node { return &t.n.list[i] }

// ordered gives units in the transaction's order, which stands for that of
// systemd's hash tables.
func (t *exact) ordered(units []int) []int {
	sorted := slices.Clone(units)
	slices.SortFunc(sorted, func(a, b int) int { return t.rank[a] - t.rank[b] })
	return sorted
}

func (t *exact) related(i int, relations ...Relation) []int {
	var all []int
	for _, r := range relations {
		all = append(all, t.unit(i).relations[r]...)
	}
	return t.ordered(all)
}

// isolate is StartUnit with the mode isolate (manager_add_job, then
// transaction_activate). The error is systemd's refusal.
func (t *exact) isolate(target int) error {
	if u := t.unit(target); u.LoadState == "loaded" && !u.AllowIsolate {
		return fmt.Errorf("%s may not be isolated (AllowIsolate=)", u.id)
	}
	if err := t.add(jobStart, target, nil, exactLink{}, ""); err != nil {
		return err
	}
	t.addIsolate()
	markExact(t.anchor)
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
func (t *exact) add(kind jobType, unit int, by *exactJob, as exactLink, cause Cause) error {
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
		by.pulls = append(by.pulls, exactLink{j, as.matters, as.conflicts})
		j.pulled = append(j.pulled, exactLink{by, as.matters, as.conflicts})
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
		t.propagateStop(j)
	}
	return nil
}

// one is transaction_add_one_job.
func (t *exact) one(kind jobType, unit int) (j *exactJob, isNew bool) {
	for _, j := range t.jobs[unit] {
		if j.kind == kind {
			return j, false
		}
	}
	j = &exactJob{unit: unit, kind: kind}
	t.jobs[unit] = append(t.jobs[unit], j)
	return j, true
}

// pullIn adds what a start job needs. When something that it requires cannot be
// loaded the job itself is dropped, but what it pulled in until then stays (the
// label fail in transaction_add_job_and_dependencies).
func (t *exact) pullIn(j *exactJob) error {
	required := exactLink{matters: true}
	for _, other := range t.related(j.unit, Requires, BindsTo) { // UNIT_ATOM_PULL_IN_START
		if err := t.add(jobStart, other, j, required, ""); err != nil {
			t.drop(j, false)
			return err
		}
	}
	for _, other := range t.related(j.unit, Wants, Upholds) { // UNIT_ATOM_PULL_IN_START_IGNORED
		_ = t.add(jobStart, other, j, exactLink{}, "") // what cannot be had is done without
	}
	for _, other := range t.related(j.unit, Requisite) { // UNIT_ATOM_PULL_IN_VERIFY
		if err := t.add(jobVerify, other, j, required, ""); err != nil {
			t.drop(j, false)
			return err
		}
	}
	for _, other := range t.related(j.unit, Conflicts) { // UNIT_ATOM_PULL_IN_STOP
		_ = t.add(jobStop, other, j, exactLink{matters: true, conflicts: true}, CauseConflict) // a stop never fails
	}
	for _, other := range t.related(j.unit, ConflictedBy) { // UNIT_ATOM_PULL_IN_STOP_IGNORED
		_ = t.add(jobStop, other, j, exactLink{}, CauseConflict)
	}
	return nil
}

// propagateStop stops what depends on a unit that stops, whatever it says of
// isolate (UNIT_ATOM_PROPAGATE_STOP). PropagatesStopTo= does not belong to it
// (UNIT_ATOM_PROPAGATE_STOP_GRACEFUL): it acts when a person stops the unit.
func (t *exact) propagateStop(j *exactJob) {
	for _, other := range t.related(j.unit, RequiredBy, RequisiteOf, BoundBy, ConsistsOf) {
		_ = t.add(jobStop, other, j, exactLink{matters: true}, CausePropagated)
	}
}

// addIsolate is transaction_add_isolate_jobs: stop what runs, or is about to,
// and is not mentioned. It asks about a trigger while it adds jobs itself, so
// whether a unit goes down with its trigger may depend on which of them comes first.
func (t *exact) addIsolate() {
	all := make([]int, len(t.n.list))
	for i := range all {
		all[i] = i
	}
	for _, i := range t.ordered(all) {
		u := t.unit(i)
		if u.down() && u.Job == "" || t.spared(i) || slices.ContainsFunc(u.relations[TriggeredBy], t.keeps) {
			continue
		}
		_ = t.add(jobStop, i, t.anchor, exactLink{matters: true}, CauseNotWanted) // "Cannot add isolate job, ignoring"
	}
}

// spared: isolate itself adds no stop for the unit.
func (t *exact) spared(i int) bool { return t.unit(i).IgnoreOnIsolate || len(t.jobs[i]) > 0 }

// keeps: what the trigger triggers is spared with it.
func (t *exact) keeps(trigger int) bool {
	if t.rule == keptByAnyJob {
		return t.spared(trigger)
	}
	switch t.unit(trigger).ActiveState {
	case "inactive", "failed", "deactivating": // UNIT_IS_INACTIVE_OR_DEACTIVATING
		return false
	}
	return t.spared(trigger) && !slices.ContainsFunc(t.jobs[trigger], func(j *exactJob) bool { return j.kind == jobStop })
}

// drop is transaction_delete_job; with dependents, those that cannot go without
// it are dropped too.
func (t *exact) drop(j *exactJob, dependents bool) {
	if j.gone {
		return
	}
	j.gone = true
	if rest := slices.DeleteFunc(t.jobs[j.unit], func(o *exactJob) bool { return o == j }); len(rest) > 0 {
		t.jobs[j.unit] = rest
	} else {
		delete(t.jobs, j.unit)
	}
	for _, l := range j.pulls {
		l.other.pulled = slices.DeleteFunc(l.other.pulled, func(back exactLink) bool { return back.other == j })
	}
	pulled := j.pulled
	j.pulls, j.pulled = nil, nil
	for _, l := range pulled {
		l.other.pulls = slices.DeleteFunc(l.other.pulls, func(down exactLink) bool { return down.other == j })
		if dependents && l.matters {
			t.drop(l.other, true)
		}
	}
}

// markExact is transaction_find_jobs_that_matter_to_anchor.
func markExact(j *exactJob) {
	j.matters = true
	for _, l := range j.pulls {
		if l.matters && !l.other.matters {
			markExact(l.other)
		}
	}
}

// units lists those that have jobs, in the transaction's order.
func (t *exact) units() []int {
	units := make([]int, 0, len(t.jobs))
	for i := range t.jobs {
		units = append(units, i)
	}
	return t.ordered(units)
}

// dropRedundant is transaction_drop_redundant: a unit all of whose jobs would
// change nothing is left alone.
func (t *exact) dropRedundant() {
	for _, i := range t.units() {
		jobs := slices.Clone(t.jobs[i])
		if slices.ContainsFunc(jobs, func(j *exactJob) bool { return j == t.anchor || !t.redundant(j) }) {
			continue
		}
		for _, j := range jobs {
			t.drop(j, false)
		}
	}
}

// redundant is job_type_is_redundant, and no queued job says the contrary
// (job_type_is_conflicting).
func (t *exact) redundant(j *exactJob) bool {
	u := t.unit(j.unit)
	if j.kind == jobStop {
		return u.down() && (u.Job == "" || u.Job == "stop" || u.Job == "nop")
	}
	return u.up() && u.Job != "stop"
}

// merge is transaction_merge_jobs: no unit can both stop and start. It fails when
// the request needs both.
func (t *exact) merge() error {
	for again := true; again; {
		again = false
		for _, i := range t.units() {
			stop, other := t.opposed(i)
			if stop == nil {
				continue
			}
			loser := exactLoser(stop, other)
			if loser == nil {
				return fmt.Errorf("transaction contains conflicting jobs for %s", t.unit(i).id)
			}
			t.drop(loser, true)
			again = true
		}
	}
	return nil
}

func (t *exact) opposed(i int) (stop, other *exactJob) {
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
func exactLoser(stop, other *exactJob) *exactJob {
	switch {
	case stop.matters && other.matters:
		return nil
	case stop.matters:
		return other
	case other.matters:
		return stop
	case slices.ContainsFunc(stop.pulled, func(l exactLink) bool { return l.conflicts }):
		return other
	}
	return stop
}

// stopping are the units that are not down and get a stop job.
func (t *exact) stopping() map[int]*exactJob {
	all := map[int]*exactJob{}
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
func (t *exact) starting() []int {
	var all []int
	for i, jobs := range t.jobs {
		if !t.unit(i).up() && slices.ContainsFunc(jobs, func(j *exactJob) bool { return j.kind == jobStart }) {
			all = append(all, i)
		}
	}
	return all
}

// stopUnneeded follows units with StopWhenUnneeded= (unit_is_unneeded, called
// when one that needed them has stopped).
func (t *exact) stopUnneeded() {
	for found := true; found; {
		found = false
		for i := range t.n.list {
			if u := t.unit(i); !u.StopWhenUnneeded || !u.up() || u.Job != "" || len(t.jobs[i]) > 0 || t.unneeded[i] != nil {
				continue
			}
			if last, unneeded := t.lostAll(i); unneeded {
				t.unneeded[i] = &exactJob{unit: i, kind: jobStop, cause: CauseUnneeded, by: last}
				t.dragDown(i)
				found = true
			}
		}
	}
}

// dragDown has a unit that is stopped for want of need take along what does not pin
// it and depends on it all the same: its own stop job propagates like any other.
func (t *exact) dragDown(i int) {
	for _, other := range t.related(i, RequiredBy, RequisiteOf, BoundBy, ConsistsOf) {
		if u := t.unit(other); u.down() || u.Perpetual || len(t.jobs[other]) > 0 || t.unneeded[other] != nil {
			continue
		}
		t.unneeded[other] = &exactJob{unit: other, kind: jobStop, cause: CausePropagated, by: i}
		t.dragDown(other)
	}
}

// lostAll reports whether nothing that needs the unit is left, and one that was.
func (t *exact) lostAll(i int) (last int, unneeded bool) {
	stopping := t.stopping()
	// UNIT_ATOM_PINS_STOP_WHEN_UNNEEDED
	for _, other := range t.related(i, RequiredBy, RequisiteOf, WantedBy, BoundBy, UpheldBy) {
		_, stops := stopping[other]
		if stops {
			last, unneeded = other, true
		} else if !t.unit(other).down() || len(t.jobs[other]) > 0 {
			return 0, false
		}
	}
	return last, unneeded
}
