package sim

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// Process is one entry of the simulated process table.
type Process struct {
	PID, PPID int
	UID       uint32
	Comm      string
	Cmdline   []string
	Cgroup    string
	Opens     []string // device names
	Started   time.Time
}

const (
	pidSystemd = 1
	pidLogind  = 400
)

// initProcesses puts there what is there before any unit is.
func (m *Model) initProcesses() {
	m.procs[pidSystemd] = &Process{
		PID: pidSystemd, Comm: "systemd", Cmdline: []string{"/sbin/init"}, Cgroup: "/init.scope", Started: m.now,
	}
	m.procs[pidLogind] = &Process{
		PID: pidLogind, PPID: 1, Comm: "systemd-logind", Cmdline: []string{"/usr/lib/systemd/systemd-logind"},
		Cgroup: "/system.slice/systemd-logind.service", Started: m.now,
	}
}

// AddProcess starts a process that no unit of the model runs; PID 0 picks one.
func (m *Model) AddProcess(p Process) int {
	if p.PID == 0 {
		m.lastPID += 7 // pids have gaps
		p.PID = m.lastPID
	}
	if p.PPID == 0 {
		p.PPID = 1
	}
	p.Started = m.now
	m.procs[p.PID] = &p
	m.emit(ProcessChanged{p})
	return p.PID
}

// RemoveProcess ends one.
func (m *Model) RemoveProcess(pid int) {
	if m.procs[pid] != nil {
		delete(m.procs, pid)
		m.emit(ProcessExited{pid})
	}
}

// Processes lists the table by pid.
func (m *Model) Processes() []Process {
	out := make([]Process, 0, len(m.procs))
	for _, pid := range slices.Sorted(maps.Keys(m.procs)) {
		out = append(out, *m.procs[pid])
	}
	return out
}

func (m *Model) spawn(p Program, cgroup string) int {
	cmdline := p.Cmdline
	if len(cmdline) == 0 {
		cmdline = []string{"/usr/bin/" + p.Comm}
	}
	comm := p.Comm[:min(len(p.Comm), 15)] // TASK_COMM_LEN
	return m.AddProcess(Process{UID: p.UID, Comm: comm, Cmdline: cmdline, Cgroup: cgroup, Opens: p.Opens})
}

// members are the pids in a control group and below.
func (m *Model) members(cgroup string) []int {
	var pids []int
	for pid, p := range m.procs {
		if cgroup != "" && pid != pidLogind && (p.Cgroup == cgroup || strings.HasPrefix(p.Cgroup, cgroup+"/")) {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

func (m *Model) killGroup(cgroup string) {
	for _, pid := range m.members(cgroup) {
		m.RemoveProcess(pid)
	}
}

func (m *Model) setOpens(pid int, opens []string) {
	p := m.procs[pid]
	if p == nil || slices.Equal(p.Opens, opens) {
		return
	}
	p.Opens = opens
	m.emit(ProcessChanged{*p})
}

const (
	sigKill = 9
	sigTerm = 15
)

// Kill is KillUnit: SIGKILL ends everything that can be killed, SIGTERM what
// does not hang when it is stopped. Other signals do nothing here.
func (m *Model) Kill(name string, signal int32) error {
	u, err := m.lookup(name)
	if err != nil {
		return err
	}
	if down(u) { // it may have left some in its control group
		if len(m.members(u.cgroup())) == 0 {
			return refuse(ErrNoSuchProcess, "Unit %s is not running.", u.Name)
		}
		if signal == sigKill && !u.fault.Unkillable {
			m.killGroup(u.cgroup())
		}
		return nil
	}
	deaf := signal == sigTerm && u.fault.HangStop || u.fault.Unkillable
	if deaf || signal != sigKill && signal != sigTerm {
		return nil
	}
	u.fault.HangStop = false
	m.killGroup(u.cgroup())
	m.after(0, func() { m.died(u, signal) })
	return nil
}

// died is what systemd makes of a unit whose processes are gone.
func (m *Model) died(u *unit, signal int32) {
	switch {
	case down(u):
	case u.job != nil && u.job.started && stops(u.job):
		m.complete(u.job)
	case signal == sigKill && TypeOf(u.Name) == "service":
		m.fail(u, "signal")
	default:
		m.enter(u, "inactive")
	}
}

// Crash ends a unit's program by itself; result is exit-code, signal,
// oom-kill, ... or success for a clean exit.
func (m *Model) Crash(name, result string) error {
	u, err := m.lookup(name)
	if err != nil {
		return err
	}
	if result == "success" {
		m.enter(u, "inactive")
	} else {
		m.fail(u, result)
	}
	return nil
}

// ResetFailed is ResetFailedUnit.
func (m *Model) ResetFailed(name string) error {
	u, err := m.lookup(name)
	if err != nil {
		return err
	}
	if u.active == "failed" {
		m.enter(u, "inactive")
		u.result = "success"
		m.changed(u)
	}
	return nil
}

// Mask masks or unmasks a unit file and reloads, as `systemctl mask` does. A
// running unit goes on.
func (m *Model) Mask(name string, masked bool) error {
	u, err := m.lookup(name)
	if err != nil {
		return err
	}
	u.Masked, u.load = masked, "loaded"
	if masked {
		u.load = "masked"
	}
	m.Reload()
	m.changed(u)
	return nil
}

// Reload is a daemon-reload.
func (m *Model) Reload() {
	m.emit(Reloading{true})
	m.link()
	for _, u := range m.units {
		u.needReload = false
	}
	m.emit(Reloading{false})
}

// SetActive puts a unit into a state without a job, as when something outside
// of the test did it.
func (m *Model) SetActive(name, state string) error {
	u, err := m.lookup(name)
	if err != nil {
		return err
	}
	m.enter(u, state)
	return nil
}

// Edit changes a unit's declaration in place, then reloads.
func (m *Model) Edit(name string, edit func(*Unit)) error {
	u, err := m.lookup(name)
	if err != nil {
		return err
	}
	edit(&u.Unit)
	m.declare(u.Unit)
	m.Reload()
	m.changed(u)
	return nil
}
