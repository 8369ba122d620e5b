package observer

import (
	"fmt"
	"slices"
)

// Unseen is a process that could not be read in full. If its open files were not all read, it may
// hold a GPU; if its command line was not read, it may be a job.
type Unseen struct {
	Process
	// Slices are as in Holder.
	Slices []string `json:"slices,omitempty"`
	// Denied: the kernel does not permit the read. Otherwise it took too long.
	Denied bool `json:"denied,omitempty"`
	// Truncated counts the other such processes in the same user slice or, outside user
	// slices, in the same unit.
	Truncated int `json:"more,omitempty"`
}

// For returns the process as uid may see it.
func (u Unseen) For(uid uint32) Unseen {
	if uid != 0 {
		u.redact(uid)
	}
	return u
}

// redact removes what uid may not see, and returns it.
func (u *Unseen) redact(uid uint32) []Secret {
	secrets := u.Process.redact(uid)
	if secrets != nil {
		u.Slices = nil
	}
	return secrets
}

// Text explains why the open files of the process were not all read.
func (u Unseen) Text() string {
	if u.Denied {
		return "the open files of " + u.String() + " cannot be read"
	}
	return u.String() + " has too many open files to read"
}

// Evidence is Text with the number of other such processes.
func (u Unseen) Evidence() string {
	if u.Truncated == 0 {
		return u.Text()
	}
	return fmt.Sprintf("%s (and %d more like it)", u.Text(), u.Truncated)
}

// ofUser reports whether slices belong to a user, who chooses the names of the units below.
func ofUser(names []string) bool { return slices.Contains(names, "user.slice") }
