package observer

import (
	"fmt"
	"slices"
)

// Unseen is a process that could not be looked through. Where its open files are
// what was not seen, it may hold a GPU; where it is the command line, it may be a job.
type Unseen struct {
	Process
	// Slices are as in Holder.
	Slices []string `json:"slices,omitempty"`
	// Denied: the kernel does not show them. Otherwise the time was over.
	Denied bool `json:"denied,omitempty"`
	// Truncated counts the other such processes of the same user slice or, outside user
	// slices, of the same unit.
	Truncated int `json:"more,omitempty"`
}

// For is the process as uid may read of it.
func (u Unseen) For(uid uint32) Unseen {
	if uid != 0 {
		u.redact(uid)
	}
	return u
}

// redact takes out what uid may not read, and returns it.
func (u *Unseen) redact(uid uint32) []Secret {
	secrets := u.Process.redact(uid)
	if secrets != nil {
		u.Slices = nil
	}
	return secrets
}

// Text says why the open files of the process were not all seen.
func (u Unseen) Text() string {
	if u.Denied {
		return "the open files of " + u.String() + " cannot be seen"
	}
	return u.String() + " has too many open files to look through"
}

// Evidence is the text with how many others there are.
func (u Unseen) Evidence() string {
	if u.Truncated == 0 {
		return u.Text()
	}
	return fmt.Sprintf("%s (and %d more like it)", u.Text(), u.Truncated)
}

// ofUser reports whether slices are those of a user, who names the units below.
func ofUser(names []string) bool { return slices.Contains(names, "user.slice") }
