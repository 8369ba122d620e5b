// Package guards evaluates whether a transition may happen. A guard is a pure function of
// the policy, a fresh snapshot and the request. It passes, blocks, or cannot tell, which
// blocks as well. Every verdict that blocks has a remedy.
package guards

import (
	"github.com/dubnium/dubnium/observer/unitgraph"
	"github.com/dubnium/dubnium/policy"
)

// Verdict is the answer of one guard to one request. Its JSON form is part of the
// contract with operators.
type Verdict struct {
	Guard    policy.GuardID `json:"guard"`
	OK       bool           `json:"ok"`
	Code     policy.Code    `json:"code" bus:"i"`
	Hard     bool           `json:"hard"`
	Reason   string         `json:"reason,omitempty"`
	Remedy   string         `json:"remedy,omitempty"`
	Evidence []string       `json:"evidence,omitempty"`
}

// Request is the part of a request that guards depend on.
type Request struct {
	Target policy.Mode
	// UID is the requester's.
	UID uint32
	// EndOthers: the requester is authorized to end other people's sessions.
	EndOthers bool
	// Impact is that of the plan. The guards of JudgesUnits cannot tell from the zero value.
	Impact unitgraph.Impact
	// Inhibitors are all inhibitors that are held.
	Inhibitors []Inhibitor
}

// JudgesUnits reports whether a guard depends on Request.Impact.
func JudgesUnits(id policy.GuardID) bool {
	return id == policy.CheckTargetReachable || id == policy.CheckGraphicalSessionTerminable
}
