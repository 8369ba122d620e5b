package status

import (
	"strings"
	"time"

	"github.com/dubnium/dubnium/policy"
)

// The rights by which something is asked for, beside ByPolkit.
const (
	// ByCredentials: uid 0, by what the bus knows of the sender.
	ByCredentials = "bus credentials"
	// ByPolicy: the daemon itself, under what the policy grants.
	ByPolicy = "policy"
)

// ByPolkit: polkit granted these actions.
func ByPolkit(actions ...string) string { return "polkit " + strings.Join(actions, ", ") }

// RejectedRequest is something that was asked for and turned down before it did anything.
type RejectedRequest struct {
	// Asked says what for: request, force, cancel, postpone, confirm, inhibit or release.
	Asked string
	Mode  string // the word that was asked for, which may be no mode
	By    string // e.g. "uid 1000 (alice)"
	UID   uint32
	// Reason is a word for what was wrong: the last part of the error's D-Bus name,
	// like Busy or AccessDenied.
	Reason string
	Text   string // what the requester was told
	Why    string // the requester's own words, where they could be read
}

// Filter chooses finished transitions. A zero field asks for nothing.
type Filter struct {
	// Since and Until bound when a transition ended: from Since on, before Until.
	Since  time.Time   `json:"since"`
	Until  time.Time   `json:"until"`
	Result Result      `json:"result" bus:",omitempty"`
	Mode   policy.Mode `json:"mode" bus:",omitempty"` // that was asked for
	By     string      `json:"by" bus:",omitempty"`   // a user's name, or all of Record.By
	UID    *uint32     `json:"uid"`
	ID     uint64      `json:"id" bus:",omitempty"`
	Limit  int         `json:"limit" bus:"u,omitempty"` // at most so many; at least 1
}

// Match reports whether the filter chooses r. The limit is not its business.
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

// What is wrong with the daemon itself.
const (
	// WarnHistory: the history cannot be written.
	WarnHistory = "history-not-written"
	// WarnConsole: the consoles' text cannot be written.
	WarnConsole = "console-not-written"
	// WarnPolicy: what the policy's file says is not in force.
	WarnPolicy = "policy-refused"
)
