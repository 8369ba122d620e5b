package observer

// Locks are the files by which programs that change the machine as a whole keep out
// of each other's way, as the kernel knows them.
type Locks struct {
	Reading
	// Transition is the controller's own: it holds it while a transition runs, and so
	// may a script that wants none to.
	Transition Lock `json:"transition_lock"`
	// Rebuild is that of switch-to-configuration of NixOS, which stops and starts
	// units for as long as it has it. Elsewhere there is no such file.
	Rebuild Lock `json:"rebuild_lock"`
}

// Lock is a file that a process may hold for itself alone (flock(2), LOCK_EX).
type Lock struct {
	Path string `json:"path"`
	Held bool   `json:"held"`
	// PID is whose it is, as of when it was taken: it may have been passed on.
	PID int `json:"pid,omitempty"`
	// Own: the controller has it.
	Own bool `json:"own,omitempty"`
}

// Into makes each source's facts a Part.
func (p Locks) Into(s *Snapshot) { s.Locks = p }
