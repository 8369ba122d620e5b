// Package plans builds the steps to a mode from the facts. It is pure: the same
// policy, snapshot and target always give the same plan. A step is in a plan if
// and only if its postcondition is not observed. One builder therefore plans from a
// healthy mode, a degraded one and a half-finished transition, and a host that is in
// the mode already gets an empty plan.
package plans

import (
	"errors"
	"slices"
	"time"

	"github.com/dubnium/dubnium/policy"
)

// Kind says what a step does. The values are stored in the journal: a daemon that
// reads an unknown one refuses to act.
type Kind string

// The kinds.
const (
	// StartUnit starts Unit. Undo stops it if it was inactive before.
	StartUnit Kind = "start-unit"
	// StopUnit stops Unit. Undo starts it if it was active before.
	StopUnit Kind = "stop-unit"
	// StopVLLM stops Unit, a unit of vLLM, and waits until none of its processes has a
	// GPU open. A worker that outlives the unit is killed with the unit that it is in, if
	// that is Unit or, after Grace, one of Units. Undo starts Unit if it was active.
	StopVLLM Kind = "stop-vllm"
	// AskSessions runs the policy's end hook as each of Users, for Grace at most. It is
	// irreversible, and always optional: EndSessions ends the sessions anyway.
	AskSessions Kind = "ask-sessions"
	// EndManagers stops the user managers of Users that hold a display GPU for longer
	// than Grace after their sessions have ended: a compositor that runs under a user
	// manager outlives its session. Undo starts those that logind keeps.
	EndManagers Kind = "end-user-managers"
	// EndSessions ends every graphical session and greeter: TerminateSession, after Grace
	// KillSession, until logind has removed them. It is irreversible; the undo of the
	// display manager's stop brings the login screen back.
	EndSessions Kind = "end-sessions"
	// Isolate isolates the target Unit and waits for all its stop jobs. Undo starts the
	// target that was active before, and the units that were stopped.
	Isolate Kind = "isolate"
	// Gate waits until Guard passes. It changes nothing.
	Gate Kind = "gate"
	// Drain waits until vLLM has no request in flight. It changes nothing.
	Drain Kind = "drain"
	// AwaitHealthy waits until vLLM answers its health check. It changes nothing.
	AwaitHealthy Kind = "await-healthy"
	// SetSlices sets properties of slices until the next boot, and saves the values from
	// before the first change. Undo restores the values and what was saved.
	SetSlices Kind = "set-slices"
	// Quiesce stops those of Units that are active, and saves their names. Undo starts them.
	Quiesce Kind = "quiesce"
	// Resume starts Units, which Quiesce stopped. Undo stops them.
	Resume Kind = "resume"
)

// Irreversible returns why a step of the kind cannot be undone; empty for one that can.
func (k Kind) Irreversible() string {
	if k == EndSessions || k == AskSessions {
		return "not reversible: the user has to log in again"
	}
	return ""
}

// ErrSessionInTheWay stops an undo that would lead back to compute while a graphical
// session exists. The steps that are not undone yet stay done.
var ErrSessionInTheWay = errors.New("a graphical session exists, and an undo does not end sessions")

// Step is one change of the host, or one wait, with a timeout.
type Step struct {
	ID      string         `json:"id"`
	Kind    Kind           `json:"kind"`
	Unit    string         `json:"unit,omitempty"`
	Guard   policy.GuardID `json:"guard,omitempty"`
	Timeout time.Duration  `json:"timeout"`
	// Grace is how long the step waits before it uses force: EndSessions kills a session
	// after it, for example.
	Grace time.Duration `json:"grace,omitempty"`
	// Users are the uids that EndSessions, AskSessions and EndManagers may affect. The
	// guards have not judged anybody who logs in later.
	Users []uint32 `json:"users,omitempty"`
	// People have a graphical session when the plan is made. Set for EndSessions,
	// AskSessions and the stop of the display manager before them.
	People []Person `json:"people,omitempty"`
	// Newcomers: EndSessions also ends sessions that other users begin meanwhile. Without
	// it such a session makes the step fail.
	Newcomers bool `json:"newcomers,omitempty"`
	// Sessions are the ids of the graphical sessions, for EndSessions: logind reports
	// another type once the compositor has exited, while processes of it still run.
	Sessions []string `json:"sessions,omitempty"`
	// Slices are the changes of SetSlices.
	Slices []SliceChange `json:"slices,omitempty"`
	// Units are the units of Quiesce and Resume, in the order in which they are stopped,
	// or the units in which StopVLLM may find workers.
	Units []string `json:"units,omitempty"`
	// NeedsMemory: StopVLLM fails unless the GPUs' memory is free as well.
	NeedsMemory bool `json:"needs_memory,omitempty"`
	// Optional: the transition continues if the step fails; what the mode then lacks is
	// observed as degraded.
	Optional bool `json:"optional,omitempty"`
}

// Waits reports whether the step only waits. After a crash in such a step there is
// nothing to undo, and the wait can be repeated.
func (s Step) Waits() bool { return s.Kind == Gate || s.Kind == Drain || s.Kind == AwaitHealthy }

// Plan is what a transition will do.
type Plan struct {
	To policy.Mode
	// Guards are judged before the first step.
	Guards []policy.GuardID
	Steps  []Step
	// CommitIndex is the index of the first step behind the point of no return. The steps
	// before it only prepare and wait.
	CommitIndex int
}

// EndsSessions reports whether the plan ends graphical sessions.
func (p Plan) EndsSessions() bool {
	for _, s := range p.Steps {
		if s.Kind == EndSessions {
			return true
		}
	}
	return false
}

// EndsSessionsOfOthers reports whether the plan ends graphical sessions of other users
// than uid.
func (p Plan) EndsSessionsOfOthers(uid uint32) bool {
	return slices.ContainsFunc(p.Steps, func(s Step) bool {
		return s.Kind == EndSessions && slices.ContainsFunc(s.Users, func(other uint32) bool { return other != uid })
	})
}

// WithNewcomers returns the plan that also ends the sessions of users who log in while
// it runs.
func (p Plan) WithNewcomers() Plan {
	p.Steps = slices.Clone(p.Steps)
	for i := range p.Steps {
		p.Steps[i].Newcomers = p.Steps[i].Kind == EndSessions
	}
	return p
}

// Watched lists the units that a plan, a guard or the classification depends on.
func Watched(p policy.Policy) []string {
	units := []string{
		"graphical.target",
		p.Units.DesktopTarget, p.Units.ComputeTarget, p.Units.DisplayManager,
		p.Units.StudioPolicy, p.Units.AudioPriority, p.Units.K3s,
	}
	for _, unit := range slices.Concat(p.VLLMUnits(), p.ContractUnits(), p.MustSurvive) {
		if !slices.Contains(units, unit) {
			units = append(units, unit)
		}
	}
	for _, m := range policy.Modes() {
		units = append(units, policy.PrepareUnit(m))
	}
	units = append(units, p.Slices.Names()...)
	return append(units, p.Studio.Units()...)
}

// Kinds lists every kind of step this version knows.
func Kinds() []Kind {
	return []Kind{
		StartUnit, StopUnit, StopVLLM, AskSessions, EndSessions, EndManagers, Isolate, Gate, Drain, AwaitHealthy,
		SetSlices,
		Quiesce, Resume,
	}
}
