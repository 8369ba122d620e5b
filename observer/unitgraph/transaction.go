package unitgraph

import (
	"fmt"
	"slices"
)

// This file follows systemd's src/core/transaction.c (v257; the meaning of each relation is in
// src/core/unit-dependency-atom.c), reduced to the job types that an isolate makes. Each rule names the
// function that it is taken from.
//
// What systemd does depends on the order of its hash tables, and on its release. The model computes the
// worst case over all of them with two bounds: the jobs that may be in the transaction, and those among
// them that are certain, which every order and release has. A unit is spared only by what is certain.

type jobType int8

const (
	jobStart jobType = iota
	jobVerify
	jobStop
	jobTypes
)

// job is a job that may be in the transaction.
type job struct {
	unit  int
	kind  jobType
	cause Cause // of a stop: the first job that pulled it in, which is that of unit by
	by    int

	certain bool // every order and release has it when isolate's own stops are added
	dropped bool // no order and no release keeps it
	// losable: some order drops it with the jobs that need it, and droppedAlone, without these.
	losable, droppedAlone bool
	// mayMatter and matters are the bounds of matters_to_anchor: the request is refused rather than the
	// job dropped.
	mayMatter, matters bool
	pulls              []link // the jobs that this one pulled in (subject_list)
	pulled             []link // the jobs that pulled this one in (object_list)
}

// link connects a job with one that it pulled in (JobDependency).
type link struct {
	other     *job
	matters   bool // the job that pulls goes with the one that it pulled in
	conflicts bool // pulled in by Conflicts=
	uncertain bool // only some orders or releases have the link
}

type transaction struct {
	*nodes
	jobs   [][jobTypes]*job // by unit
	broken map[int]int      // see findBroken
	// unneeded are the stops after the transaction, of units that nothing needs any longer, and of what
	// depends on these.
	unneeded map[int]*job
}

func newTransaction(n *nodes) *transaction {
	return &transaction{nodes: n, jobs: make([][jobTypes]*job, len(n.list)), unneeded: map[int]*job{}}
}

// isolate is StartUnit with the mode isolate (manager_add_job, then transaction_activate). The error is
// systemd's refusal.
func (t *transaction) isolate(target int) error {
	t.findBroken()
	if u := t.list[target]; u.LoadState == "loaded" && !u.AllowIsolate {
		return fmt.Errorf("%s may not be isolated (AllowIsolate=)", u.id)
	}
	if root, broken := t.broken[target]; broken {
		return fmt.Errorf("unit %s is %s", t.list[root].id, t.list[root].LoadState)
	}
	anchor := t.add(jobStart, target, nil, link{}, "")
	t.addIsolate(anchor)
	if err := t.merge(anchor); err != nil {
		return err
	}
	t.stopUnneeded()
	return nil
}

// findBroken finds the units that cannot be started, or not in every order, because a unit that they
// require is not loaded: that unit by each of them.
func (t *transaction) findBroken() {
	t.broken = map[int]int{}
	var queue []int
	for i, u := range t.list {
		if u.LoadState != "loaded" {
			t.broken[i] = i
			queue = append(queue, i)
		}
	}
	for ; len(queue) > 0; queue = queue[1:] {
		required := []Relation{RequiredBy, BoundBy}
		if t.broken[queue[0]] == queue[0] {
			required = append(required, RequisiteOf) // a verify job asks for the load state only
		}
		for _, other := range t.related(queue[0], required...) {
			if _, known := t.broken[other]; !known {
				t.broken[other] = t.broken[queue[0]]
				queue = append(queue, other)
			}
		}
	}
}

// unloadable reports whether the unit itself requires one that is not loaded, so that its start job is
// never kept. One that requires such a unit through others is, in some orders, where these form a loop.
func (t *transaction) unloadable(i int) bool {
	return slices.ContainsFunc(t.related(i, Requires, BindsTo, Requisite), func(other int) bool {
		return t.list[other].LoadState != "loaded"
	})
}

// add is transaction_add_job_and_dependencies, which it also follows when a job turns out to be certain
// that was not. as says how the job by is linked to it.
func (t *transaction) add(kind jobType, unit int, by *job, as link, cause Cause) *job {
	u := t.list[unit]
	if kind != jobStop && u.LoadState != "loaded" { // bus_unit_validate_load_state
		return nil
	}
	if kind == jobStop && u.Perpetual { // unit_job_is_applicable: EBADR, which every caller ignores
		return nil
	}
	_, broken := t.broken[unit]
	certain := (by == nil || by.certain) && !as.uncertain && !(broken && kind == jobStart)
	j := t.jobs[unit][kind]
	isNew := j == nil
	if isNew {
		j = &job{unit: unit, kind: kind, cause: cause, by: unit}
		if by != nil {
			j.by = by.unit
		}
		j.dropped = kind == jobStart && broken && t.unloadable(unit)
		t.jobs[unit][kind] = j
	}
	if by != nil {
		as.uncertain = as.uncertain || !certain
		connect(by, j, as)
	}
	if isNew || certain && !j.certain {
		j.certain = j.certain || certain
		switch kind {
		case jobStart:
			t.pullIn(j)
		case jobStop:
			t.propagateStop(j)
		}
	}
	return j
}

func connect(by, j *job, as link) {
	as.other = j
	by.pulls = append(by.pulls, as)
	as.other = by
	j.pulled = append(j.pulled, as)
}

// pullIn adds what a start job needs. When something that it requires cannot be loaded the job itself is
// dropped, but what it pulled in until then stays (the label fail in
// transaction_add_job_and_dependencies).
func (t *transaction) pullIn(j *job) {
	for _, other := range t.related(j.unit, Requires, BindsTo) { // UNIT_ATOM_PULL_IN_START
		t.add(jobStart, other, j, link{matters: true}, "")
	}
	for _, other := range t.related(j.unit, Wants, Upholds) { // UNIT_ATOM_PULL_IN_START_IGNORED
		t.add(jobStart, other, j, link{}, "")
	}
	for _, other := range t.related(j.unit, Requisite) { // UNIT_ATOM_PULL_IN_VERIFY
		t.add(jobVerify, other, j, link{matters: true}, "")
	}
	if j.dropped {
		return
	}
	for _, other := range t.related(j.unit, Conflicts) { // UNIT_ATOM_PULL_IN_STOP
		t.add(jobStop, other, j, link{matters: true, conflicts: true}, CauseConflict)
	}
	for _, other := range t.related(j.unit, ConflictedBy) { // UNIT_ATOM_PULL_IN_STOP_IGNORED
		t.add(jobStop, other, j, link{}, CauseConflict)
	}
}

// propagateStop stops what depends on a unit that stops, IgnoreOnIsolate= or not
// (UNIT_ATOM_PROPAGATE_STOP). PropagatesStopTo= does not belong to it (UNIT_ATOM_PROPAGATE_STOP_GRACEFUL):
// it acts on the stop of a unit by itself.
func (t *transaction) propagateStop(j *job) {
	for _, other := range t.dependents(j.unit) {
		t.add(jobStop, other, j, link{matters: true}, CausePropagated)
	}
}

func (t *transaction) dependents(i int) []int {
	return t.related(i, RequiredBy, RequisiteOf, BoundBy, ConsistsOf)
}

// addIsolate is transaction_add_isolate_jobs: stop what runs, or is about to, and is not mentioned. A
// trigger that is mentioned keeps what it triggers, unless it stops itself: so the stops are added until
// no trigger is stopped any more.
func (t *transaction) addIsolate(anchor *job) {
	swept := make([]bool, len(t.list))
	for again := true; again; {
		again = false
		for i, u := range t.list {
			triggers := u.relations[TriggeredBy]
			if swept[i] || u.down() && u.Job == "" || u.IgnoreOnIsolate || t.mentioned(i) ||
				slices.ContainsFunc(triggers, t.keeps) {
				continue
			}
			swept[i], again = true, true
			uncertain := len(triggers) > 0 || t.survives(i, jobStart) || t.survives(i, jobVerify) || t.survives(i, jobStop)
			t.add(jobStop, i, anchor, link{matters: true, uncertain: uncertain}, CauseNotWanted)
		}
	}
}

// mentioned: in every order the unit has a job, so that isolate itself adds no stop for it.
func (t *transaction) mentioned(i int) bool {
	return slices.ContainsFunc(t.jobs[i][:], func(j *job) bool { return j != nil && j.certain })
}

// keeps: every release spares, with the trigger, what it triggers. Releases before v257.13 ask only for a
// job of the trigger, of whatever type (transaction_add_isolate_jobs); later ones also that it is up and
// is not to stop (shall_stop_on_isolate).
func (t *transaction) keeps(trigger int) bool {
	u := t.list[trigger]
	return !u.down() && u.ActiveState != "deactivating" && t.jobs[trigger][jobStop] == nil &&
		(u.IgnoreOnIsolate || t.mentioned(trigger))
}

// stays: every order and release has the job in the end.
func (j *job) stays() bool { return j.certain && !j.dropped && !j.losable && !j.droppedAlone }

// survives reports whether the unit may have such a job in the end.
func (t *transaction) survives(i int, kind jobType) bool {
	j := t.jobs[i][kind]
	return j != nil && !j.dropped
}

// stopping are the stops of units that are not down.
func (t *transaction) stopping() map[int]*job {
	all := map[int]*job{}
	for i, u := range t.list {
		if !u.down() && t.survives(i, jobStop) {
			all[i] = t.jobs[i][jobStop]
		}
	}
	for i, j := range t.unneeded {
		all[i] = j
	}
	return all
}

func (t *transaction) stoppedUnit(j *job) StoppedUnit {
	u := t.list[j.unit]
	return StoppedUnit{Unit: u.id, Transient: u.Transient, Cause: j.cause, By: t.list[j.by].id}
}
