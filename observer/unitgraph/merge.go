package unitgraph

import (
	"fmt"
	"slices"
)

// opponents are a unit's stop and another job of it, which cannot both stay.
type opponents struct{ stop, other *job }

// merge is transaction_merge_jobs and what it rests on: no unit can both stop and start. It fails when the
// request may need both. The jobs that every order drops are marked; those that only some orders drop stay.
func (t *transaction) merge(anchor *job) error {
	mark(anchor, func(j *job) *bool { return &j.mayMatter }, func(l link) bool { return l.matters })
	mark(anchor, func(j *job) *bool { return &j.matters }, func(l link) bool { return l.matters && !l.uncertain })
	for _, o := range t.opposed() {
		if o.stop.mayMatter && o.other.mayMatter {
			return fmt.Errorf("the transaction contains conflicting jobs for %s: it would have to be both up and down",
				t.list[o.stop.unit].id)
		}
	}
	t.dropRedundant(anchor)
	opposed := t.opposed()
	for again := true; again; {
		again = false
		for _, o := range opposed {
			again = o.stopMayLose() && lose(o.stop) || again
			again = o.otherMayLose() && lose(o.other) || again
		}
	}
	for _, o := range opposed {
		switch {
		case o.other.stays():
			drop(o.stop)
		case o.stop.stays():
			drop(o.other)
		}
	}
	return nil
}

// mark is transaction_find_jobs_that_matter_to_anchor, along the links that pass.
func mark(j *job, field func(*job) *bool, pass func(link) bool) {
	*field(j) = true
	for _, l := range j.pulls {
		if pass(l) && !*field(l.other) {
			mark(l.other, field, pass)
		}
	}
}

// opposed lists the opponents of each unit, in the order of the units.
func (t *transaction) opposed() []opponents {
	var all []opponents
	for i := range t.list {
		if !t.survives(i, jobStop) {
			continue
		}
		for _, kind := range []jobType{jobStart, jobVerify} {
			if t.survives(i, kind) {
				all = append(all, opponents{t.jobs[i][jobStop], t.jobs[i][kind]})
			}
		}
	}
	return all
}

// delete_one_unmergeable_job: the job that matters stays; of two that do not, the stop, if Conflicts= of a
// job that is still there pulled it in, and otherwise the start.

func (o opponents) stopMayLose() bool {
	conflicts := func(l link) bool { return l.conflicts && l.other.stays() }
	return !o.stop.matters && (o.other.mayMatter || !slices.ContainsFunc(o.stop.pulled, conflicts))
}

func (o opponents) otherMayLose() bool {
	conflicts := func(l link) bool { return l.conflicts && !l.other.dropped }
	return !o.other.matters && (o.stop.mayMatter || slices.ContainsFunc(o.stop.pulled, conflicts))
}

// lose marks a job that some order drops (transaction_delete_job), and those that need it. It reports whether
// that is new.
func lose(j *job) bool {
	if j.losable || j.matters {
		return false
	}
	j.losable = true
	for _, l := range j.pulled {
		if l.matters {
			lose(l.other)
		}
	}
	return true
}

// drop marks a job that every order drops, and those that go with it: those that need it, unless some order
// may have left them without it before.
func drop(j *job) {
	if j.dropped {
		return
	}
	j.dropped = true
	for _, l := range j.pulled {
		if l.matters && !j.droppedAlone {
			drop(l.other)
		}
	}
}

// dropRedundant is transaction_drop_redundant: a unit all of whose jobs would change nothing is left alone.
// Where only an uncertain job would change something, some orders drop the others.
func (t *transaction) dropRedundant(anchor *job) {
	for i := range t.list {
		needed, certain := false, false
		for _, j := range t.jobs[i] {
			if j != nil && !j.dropped && (j == anchor || !t.redundant(j)) {
				needed, certain = true, certain || j.certain
			}
		}
		for _, j := range t.jobs[i] {
			if j != nil {
				j.dropped = j.dropped || !needed
				_, broken := t.broken[i]
				j.droppedAlone = !certain && t.redundant(j) || broken && j.kind == jobStart
			}
		}
	}
}

// redundant is job_type_is_redundant, and no queued job says the contrary (job_type_is_conflicting).
func (t *transaction) redundant(j *job) bool {
	u := t.list[j.unit]
	if j.kind == jobStop {
		return u.down() && (u.Job == "" || u.Job == "stop" || u.Job == "nop")
	}
	return u.up() && u.Job != "stop"
}
