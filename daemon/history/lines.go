package history

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/policy"
)

// The kinds of line. A line without a kind is an outcome that an older version wrote.
const (
	lineStart     = "start"     // the daemon started
	lineRequest   = "request"   // a request was accepted
	lineRefused   = "refused"   // a request was refused
	lineConfirmed = "confirmed" // a mode was confirmed
	lineVerdict   = "verdict"   // a guard was evaluated
	lineStep      = "step"      // the status of a step changed
	lineOutcome   = "outcome"   // a transition ended
	lineCut       = "cut"       // a torn line was cut off
	lineGap       = "gap"       // lines were lost
)

// head begins every line.
type head struct {
	Event string    `json:"event"`
	Time  time.Time `json:"time"`
	ID    uint64    `json:"id,omitempty"` // of the transition
}

type startLine struct {
	head
	BootID string `json:"boot_id"`
}

// countLine is a lineCut or a lineGap.
type countLine struct {
	head
	Bytes int `json:"bytes,omitempty"`
	Lines int `json:"lines,omitempty"`
}

type requestLine struct {
	head
	Mode          policy.Mode   `json:"mode"`
	Origin        status.Origin `json:"origin"`
	By            string        `json:"by"`
	UID           *uint32       `json:"uid"`
	Authorization string        `json:"authorization"`
	Why           string        `json:"why,omitempty"`
	// Joined: the request joined a transition that was running already.
	Joined bool `json:"joined,omitempty"`
	// Terms are in nanoseconds.
	Terms status.Terms `json:"terms,omitzero"`
}

// confirmedLine names its transition in a key of its own: the id of a line never
// decreases from line to line.
type confirmedLine struct {
	head
	Transition    uint64      `json:"transition"`
	Mode          policy.Mode `json:"mode"`
	By            string      `json:"by"`
	UID           uint32      `json:"uid"`
	Authorization string      `json:"authorization"`
}

type refusedLine struct {
	head
	Asked  string `json:"asked"`
	Mode   string `json:"mode"`
	By     string `json:"by"`
	UID    uint32 `json:"uid"`
	Reason string `json:"reason"`
	Text   string `json:"text"`
	Why    string `json:"why,omitempty"`
	// Unwritten counts the refusals of the same user since the line before that have no
	// line.
	Unwritten int `json:"unwritten,omitempty"`
}

type verdictLine struct {
	head
	guards.Verdict
}

type stepLine struct {
	head
	Index int    `json:"index"`
	Step  string `json:"step"`
	// Guard is the guard that a gate waits for.
	Guard    policy.GuardID    `json:"guard,omitempty"`
	Status   status.StepStatus `json:"status"`
	Error    string            `json:"error,omitempty"`
	Started  time.Time         `json:"started,omitzero"`
	Finished time.Time         `json:"finished,omitzero"`
}

// outcomeLine is a record with an event and a time.
type outcomeLine struct {
	Event string    `json:"event"`
	Time  time.Time `json:"time"`
	status.Record
}

// asOutcome decodes a line that is an outcome. It skips a line that it cannot decode,
// which may be of a newer version.
func asOutcome(line []byte) (r status.Record, ok bool) {
	const mark = `{"event":"`
	if bytes.HasPrefix(line, []byte(mark)) && !bytes.HasPrefix(line, []byte(mark+lineOutcome+`"`)) {
		return r, false // most lines are none, and need no decoding
	}
	var o outcomeLine
	if json.Unmarshal(line, &o) != nil || o.ID == 0 || (o.Event != "" && o.Event != lineOutcome) {
		return r, false
	}
	return o.Record, true
}
