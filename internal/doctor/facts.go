// Package doctor judges whether a host is set up for Dubnium: pure checks over facts
// that somebody gathered (internal/doctor/gather).
//
// A fact that could not be had says why. It is never taken for a good one: what
// nobody could look at is told as not seen, with what would let it be.
package doctor

import (
	"io/fs"
	"time"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// Facts are what was seen of a host. An Err says why what stands beside it is not
// known; it is empty when it is.
type Facts struct {
	Now     time.Time
	UID     uint32 // who looks
	Version string // modectl's own

	BusErr  string // the system bus cannot be reached: then nothing behind it is known
	Manager Manager
	// Units are by name: those that Units lists.
	Units  map[string]Unit
	Daemon Daemon
	Polkit Polkit
	Policy Policy
	// Evidence is a fresh look of the daemon's.
	Evidence    observer.Snapshot
	EvidenceErr string
	// Releases are those that the history has, the newest first.
	Releases   []Release
	HistoryErr string
	Paths      []Path
	Clock      Clock
	// Driver says which NVIDIA driver the kernel has; empty for none.
	Driver string
}

// Manager is systemd.
type Manager struct {
	Err           string
	Version       string // 257.8-1~deb13u2
	DefaultTarget string
}

// Unit is one unit as systemd has it.
type Unit struct {
	Err             string
	LoadState       string
	ActiveState     string
	FileState       string
	IgnoreOnIsolate bool
	AllowIsolate    bool
	NeedReload      bool
}

// Daemon is who has the daemon's name on the bus, and what they say.
type Daemon struct {
	// Err says why nobody answered. Owned: somebody has the name all the same.
	Err   string
	Owned bool
	UID   uint32
	// Process is what the kernel calls the owner; empty when that cannot be seen.
	Process      string
	Version      string
	Warnings     []observer.Reason
	LastFinished time.Time // of the last transition
}

// Polkit is the authority and the actions that it knows.
type Polkit struct {
	Err     string
	Actions []string
}

// Policy is what is in force, or what the file says while no daemon runs.
type Policy struct {
	policy.Policy
	Err     string // none of it is known
	InForce bool   // the daemon goes by it
	File    string
	// FileErrs are what is wrong with the file, a line each.
	FileErrs []string
	// Unread: who looks may not read the file.
	Unread string
	// Pending are the keys that the file has otherwise than what is in force.
	Pending []string
	// Chosen are the keys that have another value than by default: whoever wrote a
	// default into the file has not said that the host has it.
	Chosen []string
}

// Release is a transition that measured what the release of the display GPUs left in
// use.
type Release struct {
	Transition uint64
	InUse      []observer.GPUMemory
}

// Path is a file or a directory of ours.
type Path struct {
	Path string
	Err  string // it cannot be looked at
	// Missing: it is not there. Optional: it need not be.
	Missing, Optional bool
	UID               uint32
	Mode              fs.FileMode
	// Above are the directories on the way to it.
	Above []Path
}

// Clock is the time of the host.
type Clock struct {
	Err          string
	Synchronized bool
	Boot         time.Time
}
