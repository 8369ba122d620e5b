package sim

import (
	"maps"
	"slices"
)

// transaction is the set of jobs that one request implies, after systemd's
// src/core/transaction.c: it is built in full, checked, and only then queued.
type transaction struct {
	m      *Model
	anchor string
	want   map[string]*intent
}

// intent is what a transaction holds against one unit. matters: the anchor
// would be broken without it (matters_to_anchor).
type intent struct {
	start, stop               bool
	startMatters, stopMatters bool
	conflicted                bool // stopped because something conflicts
	restart, reload           bool
}

// Enqueue is StartUnit, StopUnit, RestartUnit and ReloadUnit: it queues the job
// and all that it implies, and returns the job's id.
func (m *Model) Enqueue(name, jobType, mode string) (uint32, error) {
	u, err := m.lookup(name)
	if err != nil {
		return 0, err
	}
	if err := checkRequest(u, jobType, mode); err != nil {
		return 0, err
	}
	tr := &transaction{m: m, anchor: u.Name, want: map[string]*intent{}}
	if err := tr.build(u, jobType, mode); err != nil {
		return 0, err
	}
	if err := tr.resolve(); err != nil {
		return 0, err
	}
	tr.dropRedundant()
	if mode == "fail" {
		if err := tr.checkDestructive(); err != nil {
			return 0, err
		}
	}
	return tr.activate(mode), nil
}

// checkRequest holds the refusals of method_start_unit_generic and
// manager_add_job (src/core/dbus-unit.c, manager.c).
func checkRequest(u *unit, jobType, mode string) error {
	if !slices.Contains([]string{"replace", "fail", "isolate", "ignore-dependencies", "replace-irreversibly"}, mode) {
		return refuse(ErrInvalidArgs, "Job mode %s invalid", mode)
	}
	if mode == "isolate" && jobType != "start" {
		return refuse(ErrInvalidArgs, "Isolate is only valid for start.")
	}
	starts, stops := jobType == "start" || jobType == "restart", jobType == "stop" || jobType == "restart"
	if starts && u.RefuseManualStart || stops && u.RefuseManualStop {
		return refuse(ErrOnlyByDependency, "Operation refused, unit %s may be requested by dependency only "+
			"(it is configured to refuse manual start/stop).", u.Name)
	}
	if mode == "isolate" && u.load == "loaded" && !u.AllowIsolate {
		return refuse(ErrNoIsolation, "Operation refused, unit may not be isolated.")
	}
	if jobType == "reload" && !u.CanReload || starts && TypeOf(u.Name) == "scope" {
		return refuse(ErrNotApplicable, "Job type %s is not applicable for unit %s.", jobType, u.Name)
	}
	return nil
}

func (tr *transaction) build(u *unit, jobType, mode string) error {
	alone := mode == "ignore-dependencies"
	switch jobType {
	case "stop":
		tr.addStop(u, true, alone, false)
	case "reload":
		tr.intent(u).reload = true
	default:
		if err := tr.addStart(u, true, alone); err != nil {
			return err
		}
		if jobType == "restart" {
			tr.intent(u).restart = u.active != "inactive" && u.active != "failed"
		}
	}
	if mode == "isolate" {
		tr.addIsolate()
	}
	return nil
}

func (tr *transaction) intent(u *unit) *intent {
	if tr.want[u.Name] == nil {
		tr.want[u.Name] = &intent{}
	}
	return tr.want[u.Name]
}

// addStart adds a start job and what it pulls in. A Wants that cannot be had
// drops out with all that it would have pulled; a Requires fails the whole.
func (tr *transaction) addStart(u *unit, matters, alone bool) error {
	if err := loadError(u); err != nil {
		return err
	}
	it := tr.intent(u)
	if it.start && (it.startMatters || !matters) {
		return nil
	}
	it.start, it.startMatters = true, it.startMatters || matters
	if alone {
		return nil
	}
	for _, rel := range []string{"Requires", "BindsTo"} {
		for _, other := range tr.m.related(u, rel) {
			if err := tr.addStart(other, matters, false); err != nil {
				return err
			}
		}
	}
	for _, other := range tr.m.related(u, "Wants") {
		before := tr.save()
		if tr.addStart(other, false, false) != nil {
			tr.want = before
		}
	}
	for _, other := range tr.m.related(u, "Conflicts") {
		tr.addStop(other, matters, false, true)
	}
	for _, other := range tr.m.related(u, "ConflictedBy") {
		tr.addStop(other, false, false, true)
	}
	return nil
}

func (tr *transaction) save() map[string]*intent {
	saved := make(map[string]*intent, len(tr.want))
	for name, it := range tr.want {
		c := *it
		saved[name] = &c
	}
	return saved
}

func loadError(u *unit) error {
	switch u.load {
	case "masked":
		return refuse(ErrUnitMasked, "Unit %s is masked.", u.Name)
	case "not-found":
		return refuse(ErrNoSuchUnit, "Unit %s not found.", u.Name)
	case "error":
		return refuse(ErrLoadFailed, "Unit %s failed to load properly, please adjust/correct and reload "+
			"service manager: Invalid argument", u.Name)
	}
	return nil
}

// addStop adds a stop job and the stops that follow from it
// (UNIT_ATOM_PROPAGATE_STOP: RequiredBy, RequisiteOf, BoundBy, ConsistsOf).
func (tr *transaction) addStop(u *unit, matters, alone, conflicted bool) {
	it := tr.intent(u)
	it.conflicted = it.conflicted || conflicted
	if it.stop && (it.stopMatters || !matters) {
		return
	}
	it.stop, it.stopMatters = true, it.stopMatters || matters
	if alone {
		return
	}
	for _, rel := range []string{"RequiredBy", "RequisiteOf", "BoundBy", "ConsistsOf"} {
		for _, other := range tr.m.related(u, rel) {
			if !idle(other) {
				tr.addStop(other, matters, false, false)
			}
		}
	}
}

// idle units need no stop job.
func idle(u *unit) bool {
	return down(u) && u.job == nil
}

// addIsolate stops what the transaction does not mention
// (transaction_add_isolate_jobs, shall_stop_on_isolate).
func (tr *transaction) addIsolate() {
	mentioned := maps.Clone(tr.want)
	shallStop := func(u *unit) bool { return !u.IgnoreOnIsolate && mentioned[u.Name] == nil }
	for _, name := range slices.Sorted(maps.Keys(tr.m.units)) {
		u := tr.m.units[name]
		if idle(u) || !shallStop(u) {
			continue
		}
		triggers := tr.m.related(u, "TriggeredBy")
		if slices.ContainsFunc(triggers, func(t *unit) bool { return !shallStop(t) }) {
			continue // kept for the socket or timer that may start it
		}
		tr.addStop(u, true, false, false)
	}
}

// resolve settles units that are to be both started and stopped
// (transaction_merge_jobs, delete_one_unmergeable_job).
func (tr *transaction) resolve() error {
	for _, name := range slices.Sorted(maps.Keys(tr.want)) {
		it := tr.want[name]
		if !it.start || !it.stop {
			continue
		}
		switch {
		case it.startMatters && it.stopMatters:
			return refuse(ErrConflicting, "Transaction contains conflicting jobs 'stop' and 'start' for %s. "+
				"Probably contradicting requirement dependencies configured.", name)
		case it.startMatters:
			it.stop = false
		case it.stopMatters || it.conflicted:
			it.start = false
		default:
			it.stop = false
		}
	}
	return nil
}

// dropRedundant removes jobs that would change nothing; the anchor stays.
func (tr *transaction) dropRedundant() {
	for name, it := range tr.want {
		u := tr.m.units[name]
		if name == tr.anchor || it.restart || it.reload || u.job != nil {
			continue
		}
		if it.start && u.active == "active" || it.stop && idle(u) || !it.start && !it.stop {
			delete(tr.want, name)
		}
	}
}

func (it *intent) jobType() string {
	switch {
	case it.restart:
		return "restart"
	case it.reload:
		return "reload"
	case it.stop:
		return "stop"
	}
	return "start"
}

// checkDestructive is job mode `fail` (transaction_is_destructive).
func (tr *transaction) checkDestructive() error {
	for _, name := range slices.Sorted(maps.Keys(tr.want)) {
		j, t := tr.m.units[name].job, tr.want[name].jobType()
		if j != nil && (j.Type == "stop") != (t == "stop") {
			return refuse(ErrDestructive, "Transaction for %s/%s is destructive (%s has '%s' job queued, "+
				"but '%s' is included in transaction).", tr.anchor, tr.want[tr.anchor].jobType(), name, j.Type, t)
		}
	}
	return nil
}

// activate queues the jobs; the anchor's id is the request's.
func (tr *transaction) activate(mode string) uint32 {
	if mode == "isolate" {
		for _, j := range slices.Clone(tr.m.jobs) {
			if tr.want[j.Unit] == nil {
				tr.m.finish(j, "canceled")
			}
		}
	}
	// The anchor last: its jobs are announced as systemd's are, in no order
	// that anyone may rely on, but the same one each time.
	names := slices.Sorted(maps.Keys(tr.want))
	for _, name := range names {
		if name != tr.anchor {
			tr.m.install(tr.m.units[name], tr.want[name].jobType())
		}
	}
	id := tr.m.install(tr.m.units[tr.anchor], tr.want[tr.anchor].jobType()).ID
	tr.m.after(0, tr.m.dispatch)
	return id
}
