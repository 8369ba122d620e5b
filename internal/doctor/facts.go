// Package doctor checks whether a host is set up for Dubnium. Its checks are pure and
// judge facts that internal/doctor/gather has read.
//
// A fact that could not be read has the cause. It never counts as good: its check is
// reported as unseen, with a remedy.
package doctor

import (
	"io/fs"
	"time"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// Facts are the state of a host. An Err says why its neighbors are unknown; it is empty
// if they are known.
type Facts struct {
	Now     time.Time
	UID     uint32 // of modectl
	Version string // of modectl

	BusErr  string // the system bus is not reachable: everything behind it is unknown
	Manager Manager
	// Units has those that Units lists, by name.
	Units  map[string]Unit
	Daemon Daemon
	Polkit Polkit
	Policy Policy
	// Evidence is a fresh snapshot of the daemon.
	Evidence    observer.Snapshot
	EvidenceErr string
	// Releases are those of the history, the newest first.
	Releases   []Release
	HistoryErr string
	Paths      []Path
	Clock      Clock
	// Driver is the NVIDIA driver of the kernel; empty for none.
	Driver string
}

// Manager is systemd.
type Manager struct {
	Err           string
	Version       string // 257.8-1~deb13u2
	DefaultTarget string
}

// Unit is the state of one unit in systemd.
type Unit struct {
	Err             string
	LoadState       string
	ActiveState     string
	FileState       string
	IgnoreOnIsolate bool
	AllowIsolate    bool
	NeedReload      bool
}

// Daemon is the owner of the daemon's bus name, and its answers.
type Daemon struct {
	// Err says why it did not answer. Owned: the name has an owner nevertheless.
	Err   string
	Owned bool
	UID   uint32
	// Process is the name of the owner in the kernel; empty if it cannot be read.
	Process      string
	Version      string
	Warnings     []observer.Reason
	LastFinished time.Time // of the last transition
}

// Polkit is the authority with its registered actions.
type Polkit struct {
	Err     string
	Actions []string
}

// Policy is the policy in force, or that of the file if no daemon runs.
type Policy struct {
	policy.Policy
	Err     string // the policy is unknown
	InForce bool   // the daemon uses it
	File    string
	// FileErrs are the faults of the file, a line each.
	FileErrs []string
	// Unread says why this user cannot read the file.
	Unread string
	// Pending are the keys whose values in the file are not in force.
	Pending []string
	// Chosen are the keys whose values differ from the default. A default in the file
	// is no statement about the host.
	Chosen []string
}

// Release is a transition that measured the memory in use after the release of the
// display GPUs.
type Release struct {
	Transition uint64
	InUse      []observer.GPUMemory
}

// Path is a file or a directory of Dubnium.
type Path struct {
	Path string
	Err  string // it cannot be read
	// Missing: it does not exist. Optional: it need not exist.
	Missing, Optional bool
	UID               uint32
	Mode              fs.FileMode
	// Above are its parent directories, from the root.
	Above []Path
}

// Clock is the clock of the host.
type Clock struct {
	Err          string
	Synchronized bool
	Boot         time.Time
}
