package observer

// Locks are the lock files of programs that change the machine as a whole.
type Locks struct {
	Reading
	// Transition is held by the daemon while a transition runs. A script may hold it to
	// keep transitions from starting.
	Transition Lock `json:"transition_lock"`
	// Rebuild is held by switch-to-configuration of NixOS while it stops and starts units.
	// The file does not exist on other systems.
	Rebuild Lock `json:"rebuild_lock"`
}

// Lock is the state of one exclusive file lock (flock(2), LOCK_EX).
type Lock struct {
	Path string `json:"path"`
	Held bool   `json:"held"`
	// PID is the process that took the lock. It may have passed it on to a child.
	PID int `json:"pid,omitempty"`
	// Own: this process holds the lock.
	Own bool `json:"own,omitempty"`
}

// Into implements Part.
func (p Locks) Into(s *Snapshot) { s.Locks = p }
