package sim

import "time"

// Event is something that the outside would see. A Model hands events to its
// sink in the order in which they happen, with the state as it was then.
type Event interface{ event() }

// Events of the service manager.
type (
	// JobNew and JobRemoved bracket a job; the unit's last change precedes
	// JobRemoved, as job_uninstall sends it (systemd, src/core/job.c).
	JobNew struct{ Job Job }
	// JobRemoved carries one of done, canceled, timeout, failed, dependency.
	JobRemoved struct {
		Job    Job
		Result string
	}
	// UnitNew and UnitRemoved tell that a unit was loaded or forgotten.
	UnitNew     struct{ Name string }
	UnitRemoved struct{ Name string }
	// UnitChanged carries the unit as it is now.
	UnitChanged struct{ Unit UnitStatus }
	// Reloading brackets a daemon-reload.
	Reloading struct{ Active bool }
	// StartupFinished: the boot's jobs are all done.
	StartupFinished struct{}
)

// Events of the login manager.
type (
	// SessionNew, SessionChanged and SessionRemoved follow a session's life.
	SessionNew     struct{ Session Session }
	SessionChanged struct{ Session Session }
	SessionRemoved struct{ Session Session }
	// UserNew and UserRemoved follow a user's.
	UserNew     struct{ User User }
	UserRemoved struct{ User User }
	// InhibitorsChanged tells that the lists of what is inhibited may be others.
	InhibitorsChanged struct{}

	// Prepare is PrepareForShutdown or PrepareForSleep.
	Prepare struct {
		What   string // Shutdown or Sleep
		Active bool
	}
)

// Events of the process table.
type (
	// ProcessChanged: a process started, or opened or closed a device.
	ProcessChanged struct{ Process Process }
	// ProcessExited: it is gone.
	ProcessExited struct{ PID int }
)

func (JobNew) event()            {}
func (JobRemoved) event()        {}
func (UnitNew) event()           {}
func (UnitRemoved) event()       {}
func (UnitChanged) event()       {}
func (Reloading) event()         {}
func (StartupFinished) event()   {}
func (SessionNew) event()        {}
func (SessionChanged) event()    {}
func (SessionRemoved) event()    {}
func (UserNew) event()           {}
func (UserRemoved) event()       {}
func (Prepare) event()           {}
func (InhibitorsChanged) event() {}
func (ProcessChanged) event()    {}
func (ProcessExited) event()     {}

// Job is one entry of the job queue.
type Job struct {
	ID    uint32
	Unit  string
	Type  string // start, stop, restart, reload
	State string // waiting, running
}

// UnitStatus is a unit as its properties show it.
type UnitStatus struct {
	Unit
	Names        []string
	LoadState    string
	ActiveState  string
	SubState     string
	FileState    string
	Result       string
	Job          Job // zero ID: none
	MainPID      int
	ControlGroup string
	Invocation   uint64 // 0: never started
	Since        time.Time
	NeedReload   bool
	Relations    map[string][]string
	Settings     map[string]any
}
