// Package guards judges whether a transition may happen. A guard is a pure
// function of policy, a fresh snapshot and the request; it passes, blocks, or
// says that it cannot judge, which blocks as well. Every refusal says what
// would clear it.
package guards

import (
	"github.com/dubnium/dubnium/observer/unitgraph"
	"github.com/dubnium/dubnium/policy"
)

// Verdict is what one guard says of one request. Its JSON form is a line of the
// operator's contract.
type Verdict struct {
	Guard    policy.GuardID `json:"guard"`
	OK       bool           `json:"ok"`
	Code     policy.Code    `json:"code" bus:"i"`
	Hard     bool           `json:"hard"`
	Reason   string         `json:"reason,omitempty"`
	Remedy   string         `json:"remedy,omitempty"`
	Evidence []string       `json:"evidence,omitempty"`
}

// Request is what is asked, as far as guards care.
type Request struct {
	Target policy.Mode
	// UID is who asks.
	UID uint32
	// EndOthers: the requester is authorized to end other people's sessions.
	EndOthers bool
	// Impact is how far the plan of the request reaches. It has to be known where
	// JudgesUnits: the zero value could not be judged.
	Impact unitgraph.Impact
	// Inhibitors are all that are held.
	Inhibitors []Inhibitor
}

// JudgesUnits reports whether a guard looks at Request.Impact.
func JudgesUnits(id policy.GuardID) bool {
	return id == policy.CheckTargetReachable || id == policy.CheckGraphicalSessionTerminable
}
