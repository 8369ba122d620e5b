package status

import (
	"strings"
	"time"

	"github.com/dubnium/dubnium/policy"
)

// The sources of a permission, besides ByPolkit.
const (
	// ByCredentials: the sender is uid 0 by its credentials on the bus.
	ByCredentials = "bus credentials"
	// ByPolicy: the daemon itself, with the permissions that the policy grants.
	ByPolicy = "policy"
)

// ByPolkit: polkit authorized these actions.
func ByPolkit(actions ...string) string { return "polkit " + strings.Join(actions, ", ") }

// RejectedRequest is a call that was rejected before it changed anything.
type RejectedRequest struct {
	// Asked is the call: request, force, cancel, postpone, confirm, inhibit or release.
	Asked string
	Mode  string // the argument, which may not be a mode
	By    string // e.g. "uid 1000 (alice)"
	UID   uint32
	// Reason is the last part of the error's D-Bus name, like Busy or AccessDenied.
	Reason string
	Text   string // of the error
	Why    string // the requester's reason, if it could be read
}

// Filter selects records. A zero field matches all.
type Filter struct {
	// Since and Until bound the end of a transition: from Since on, before Until.
	Since  time.Time   `json:"since"`
	Until  time.Time   `json:"until"`
	Result Result      `json:"result" bus:",omitempty"`
	Mode   policy.Mode `json:"mode" bus:",omitempty"` // that was requested
	By     string      `json:"by" bus:",omitempty"`   // a user's name, or all of Record.By
	UID    *uint32     `json:"uid"`
	ID     uint64      `json:"id" bus:",omitempty"`
	Limit  int         `json:"limit" bus:"u,omitempty"` // number of records, at least 1
}

// Match reports whether the filter selects r. It ignores the limit.
func (f Filter) Match(r Record) bool {
	switch {
	case !f.Since.IsZero() && r.Finished.Before(f.Since),
		!f.Until.IsZero() && !r.Finished.Before(f.Until),
		f.Result != "" && r.Result != f.Result,
		f.Mode != "" && r.To != f.Mode,
		f.By != "" && f.By != r.By && !strings.HasSuffix(r.By, " ("+f.By+")"),
		f.UID != nil && (r.UID == nil || *r.UID != *f.UID),
		f.ID != 0 && r.ID != f.ID:
		return false
	}
	return true
}

// The codes of View.Warnings.
const (
	// WarnHistory: the history cannot be written.
	WarnHistory = "history-not-written"
	// WarnConsole: the text for the consoles cannot be written.
	WarnConsole = "console-not-written"
	// WarnPolicy: the policy file was rejected, and the previous policy is in force.
	WarnPolicy = "policy-refused"
)
