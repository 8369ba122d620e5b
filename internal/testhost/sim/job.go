package sim

import (
	"slices"
	"time"
)

// Fault is what a test makes go wrong with a unit's jobs.
type Fault struct {
	HangStart, HangStop bool // the job runs until the fault is lifted
	FailStart           bool // the start job fails, Result=exit-code
	TimeoutStart        bool // the start job times out, Result=timeout
	// TimeoutStop ends a stop job by a timeout: the unit fails, as one whose
	// processes had to be killed.
	TimeoutStop bool
	// LeavesWorker keeps what holds a device alive when the unit stops: workers that
	// outlive it, as with KillMode=process. SIGKILL ends them.
	LeavesWorker bool
	// Unkillable processes survive SIGKILL, as those in D state do.
	Unkillable bool
}

// SetFault changes a unit's fault; jobs that hang go on when it is lifted.
func (m *Model) SetFault(name string, f Fault) error {
	u, err := m.lookup(name)
	if err != nil {
		return err
	}
	u.fault = f
	if j := u.job; j != nil && j.started {
		m.after(0, func() { m.complete(j) })
	}
	m.carryOn(u)
	return nil
}

// carryOn lets a unit finish what a job began that is no longer there: to
// cancel a job does not take back what it did.
func (m *Model) carryOn(u *unit) {
	switch u.active {
	case "activating":
		m.after(m.takes(u.StartTakes), func() {
			if u.active == "activating" && !u.fault.HangStart && (u.job == nil || !u.job.started) {
				m.enter(u, "active")
			}
		})
	case "deactivating":
		m.after(m.takes(u.StopTakes), func() {
			if u.active == "deactivating" && !u.fault.HangStop && (u.job == nil || !u.job.started) {
				m.enter(u, "inactive")
			}
		})
	}
}

func (m *Model) takes(d time.Duration) time.Duration { return max(d, m.cfg.JobTime) }

// down tells whether a unit has stopped, well or badly.
func down(u *unit) bool { return u.active == "inactive" || u.active == "failed" }

func hangs(u *unit, j *job) bool {
	return j.Type == "start" && u.fault.HangStart || j.Type != "start" && u.fault.HangStop
}

// install puts a job into the unit's only slot; one of the same type is joined,
// another one is canceled (job_install).
func (m *Model) install(u *unit, jobType string) *job {
	if old := u.job; old != nil {
		if old.Type == jobType {
			return old
		}
		m.finish(old, "canceled")
	}
	m.lastJob++
	j := &job{Job: Job{ID: m.lastJob, Unit: u.Name, Type: jobType, State: "waiting"}}
	m.jobs = append(m.jobs, j)
	u.job = j
	m.emit(JobNew{j.Job})
	m.changed(u)
	return j
}

// dispatch runs every job that has nothing to wait for. When all wait for each
// other the first one runs, which is how systemd breaks ordering cycles.
func (m *Model) dispatch() {
	running := false
	for _, j := range slices.Clone(m.jobs) {
		if !j.gone && !j.started && m.runnable(j) {
			m.run(j)
		}
		running = running || j.started || m.units[j.Unit].active == "deactivating"
	}
	if len(m.jobs) > 0 && !running {
		m.run(m.jobs[0])
	}
}

// runnable applies After= to jobs (job_compare, src/core/job.c): the later unit
// waits for the earlier one, unless the later one stops, which goes first.
func (m *Model) runnable(j *job) bool {
	u := m.units[j.Unit]
	if u.active == "deactivating" && j.Type == "start" {
		return false
	}
	for name := range u.rel["After"] {
		if o := m.jobOf(name); o != nil && o != j && !stops(j) {
			return false
		}
	}
	for name := range u.rel["Before"] {
		if o := m.jobOf(name); o != nil && o != j && stops(o) {
			return false
		}
	}
	return true
}

// jobOf is the job of the unit of that name, nil for none.
func (m *Model) jobOf(name string) *job {
	if u := m.units[name]; u != nil {
		return u.job
	}
	return nil
}

func stops(j *job) bool { return j.Type == "stop" || j.Type == "restart" }

func (m *Model) run(j *job) {
	u := m.units[j.Unit]
	j.started, j.State = true, "running"
	switch j.Type {
	case "start":
		m.runStart(u, j)
	case "stop", "restart":
		m.runStop(u, j)
	default:
		m.after(0, func() { m.complete(j) })
	}
}

func (m *Model) runStart(u *unit, j *job) {
	if u.active == "active" {
		m.finish(j, "done")
		return
	}
	for _, o := range m.related(u, "Requisite") {
		if o.active != "active" {
			m.finish(j, "dependency")
			return
		}
	}
	m.enter(u, "activating")
	if !hangs(u, j) {
		m.after(m.takes(u.StartTakes), func() { m.complete(j) })
	}
}

func (m *Model) runStop(u *unit, j *job) {
	switch {
	case down(u):
		m.complete(j)
	case hangs(u, j):
		m.enter(u, "deactivating")
	default:
		m.enter(u, "deactivating")
		m.after(m.takes(u.StopTakes), func() { m.complete(j) })
	}
}

// complete ends a running job, if it still is one and does not hang.
func (m *Model) complete(j *job) {
	u := m.units[j.Unit]
	if j.gone || !j.started || hangs(u, j) && !(stops(j) && down(u)) {
		return
	}
	switch j.Type {
	case "start":
		m.completeStart(u, j)
	case "stop":
		if u.fault.TimeoutStop && !down(u) {
			m.fail(u, "timeout")
		} else if u.active != "failed" {
			m.enter(u, "inactive")
		}
		m.finish(j, "done")
	case "restart":
		if u.active != "failed" {
			m.enter(u, "inactive")
		}
		// job_finish_and_invalidate turns the job into a start job.
		j.Type, j.State, j.started = "start", "waiting", false
		m.after(0, m.dispatch)
	default:
		m.finish(j, "done")
	}
}

func (m *Model) completeStart(u *unit, j *job) {
	switch {
	case u.fault.FailStart:
		m.fail(u, "exit-code")
		m.finish(j, "failed")
	case u.fault.TimeoutStart:
		m.fail(u, "timeout")
		m.finish(j, "timeout")
	default:
		m.enter(u, "active")
		m.finish(j, "done")
		if u.Oneshot && !u.RemainAfterExit {
			m.enter(u, "inactive")
		}
	}
}

func (m *Model) fail(u *unit, result string) {
	u.result = result
	m.enter(u, "failed")
}

// finish removes a job. A start that did not work takes the starts with it that
// required it (job_finish_and_invalidate).
func (m *Model) finish(j *job, result string) {
	if j.gone {
		return
	}
	j.gone = true
	m.jobs = slices.DeleteFunc(m.jobs, func(o *job) bool { return o == j })
	u := m.units[j.Unit]
	if u.job == j {
		u.job = nil
	}
	m.changed(u)
	m.emit(JobRemoved{j.Job, result})
	if result == "canceled" {
		m.carryOn(u)
	}
	if j.Type == "start" && (result == "failed" || result == "timeout" || result == "dependency") {
		for _, rel := range []string{"RequiredBy", "BoundBy"} {
			for _, o := range m.related(u, rel) {
				if o.job != nil && o.job.Type == "start" {
					m.finish(o.job, "dependency")
				}
			}
		}
	}
	if m.booting && len(m.jobs) == 0 {
		m.booting = false
		m.emit(StartupFinished{})
	}
	m.after(0, m.dispatch)
}

// CancelJob is Job.Cancel.
func (m *Model) CancelJob(id uint32) error {
	for _, j := range m.jobs {
		if j.ID == id {
			m.finish(j, "canceled")
			return nil
		}
	}
	return refuse(ErrNoSuchJob, "Job %d does not exist.", id)
}

// Jobs lists the queue.
func (m *Model) Jobs() []Job {
	out := make([]Job, len(m.jobs))
	for i, j := range m.jobs {
		out[i] = j.Job
	}
	return out
}

// JobByID finds one.
func (m *Model) JobByID(id uint32) (Job, error) {
	for _, j := range m.jobs {
		if j.ID == id {
			return j.Job, nil
		}
	}
	return Job{}, refuse(ErrNoSuchJob, "Job %d does not exist.", id)
}
