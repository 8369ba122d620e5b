// Package plans turns a wish and the facts into steps. It is pure: the same
// policy, snapshot and target always give the same plan. A step is in a plan if
// and only if its postcondition is not observed, so the plan out of a healthy
// mode, a degraded one and a half-finished transition come from one builder, and
// a host that is already there gets an empty plan.
package plans

import (
	"errors"
	"slices"
	"time"

	"github.com/dubnium/dubnium/policy"
)

// Kind says what a step does. The words are stored in the journal: a daemon that
// meets one it does not know refuses to act.
type Kind string

// The kinds.
const (
	// StartUnit starts Unit; undone by stopping it when it was down before.
	StartUnit Kind = "start-unit"
	// StopUnit stops Unit; undone by starting it when it was up before.
	StopUnit Kind = "stop-unit"
	// StopVLLM stops Unit, which is vLLM, and is done when nothing of it has a GPU any
	// more: a worker that outlives it is ended, with the unit that it is in, where that
	// is Unit or, after Grace, one of Units; undone by starting it when it was up.
	StopVLLM Kind = "stop-vllm"
	// AskSessions runs the policy's hook as each of Users, for Grace at most. It is
	// irreversible, and always optional: a session that was not asked is ended too.
	AskSessions Kind = "ask-sessions"
	// EndManagers ends the user managers of Users that hold a display GPU for longer
	// than Grace after their sessions have gone: a compositor that runs under one
	// outlives its session; undone by starting those that logind keeps for somebody.
	EndManagers Kind = "end-user-managers"
	// EndSessions ends every graphical session and greeter: TerminateSession,
	// after Grace KillSession, until logind has removed them. It is irreversible; the
	// display manager's return is what brings the login screen back.
	EndSessions Kind = "end-sessions"
	// Isolate isolates the target Unit, until everything it stops is down; undone
	// by starting the target it replaced and what was stopped with it.
	Isolate Kind = "isolate"
	// Gate waits until Guard passes. It changes nothing.
	Gate Kind = "gate"
	// Drain waits until vLLM has no request in flight. It changes nothing.
	Drain Kind = "drain"
	// AwaitHealthy waits until vLLM answers its health check. It changes nothing.
	AwaitHealthy Kind = "await-healthy"
	// SetSlices sets properties of slices until the next boot, and writes down what
	// was there before the first change; undone by setting and writing down what was.
	SetSlices Kind = "set-slices"
	// Quiesce stops those of Units that are up and writes down which; undone by
	// starting them.
	Quiesce Kind = "quiesce"
	// Resume starts what Quiesce stopped, which Units lists; undone by stopping it.
	Resume Kind = "resume"
)

// Irreversible says why a step of the kind cannot be undone; empty for one that can.
func (k Kind) Irreversible() string {
	if k == EndSessions || k == AskSessions {
		return "not reversible: the user has to log in again"
	}
	return ""
}

// ErrSessionInTheWay ends an undo: the way back leads to a machine without anybody
// at it, and somebody is there. What has not been undone stays as it is.
var ErrSessionInTheWay = errors.New("a graphical session is there now, and it is not ended for the way back")

// Step is one bounded change of the host, or one bounded wait.
type Step struct {
	ID      string         `json:"id"`
	Kind    Kind           `json:"kind"`
	Unit    string         `json:"unit,omitempty"`
	Guard   policy.GuardID `json:"guard,omitempty"`
	Timeout time.Duration  `json:"timeout"`
	// Grace, of EndSessions, is how long a session has before it is killed; of the
	// others that have one, how long they wait before they use force.
	Grace time.Duration `json:"grace,omitempty"`
	// Users, of EndSessions, AskSessions and EndManagers, are those whom they may
	// touch: whoever logs in after the guards have judged was not judged by them.
	Users []uint32 `json:"users,omitempty"`
	// People, of EndSessions and AskSessions, and of the stop of the display manager
	// before them, are those whose sessions were there when the plan was made.
	People []Person `json:"people,omitempty"`
	// Newcomers, of EndSessions: a session of anybody else that begins meanwhile is
	// ended too, where it would else make the step fail.
	Newcomers bool `json:"newcomers,omitempty"`
	// Sessions, of EndSessions, are the graphical ones by their ids: without its
	// compositor a session may be none any more, and what is left of it still lives.
	Sessions []string `json:"sessions,omitempty"`
	// Slices are the changes of SetSlices.
	Slices []SliceChange `json:"slices,omitempty"`
	// Units are those of Quiesce and Resume, in the order in which they are stopped,
	// and of StopVLLM those in which workers may be found.
	Units []string `json:"units,omitempty"`
	// NeedsMemory, of StopVLLM: the GPUs' memory has to be free as well.
	NeedsMemory bool `json:"needs_memory,omitempty"`
	// Optional: the plan goes on when the step fails, and what the host then lacks of
	// the mode is observed.
	Optional bool `json:"optional,omitempty"`
}

// Waits reports whether the step only waits: after a crash in it there is
// nothing to undo, and the wait can be taken up again.
func (s Step) Waits() bool { return s.Kind == Gate || s.Kind == Drain || s.Kind == AwaitHealthy }

// Plan is what a transition will do.
type Plan struct {
	To policy.Mode
	// Guards are judged before the first step.
	Guards []policy.GuardID
	Steps  []Step
	// CommitIndex is how many of the first steps only prepare and wait: nobody has lost
	// anything before the one behind them.
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

// EndsSessionsOfOthers reports whether the plan ends graphical sessions of anybody
// but uid.
func (p Plan) EndsSessionsOfOthers(uid uint32) bool {
	return slices.ContainsFunc(p.Steps, func(s Step) bool {
		return s.Kind == EndSessions && slices.ContainsFunc(s.Users, func(other uint32) bool { return other != uid })
	})
}

// WithNewcomers is the plan that also ends the sessions of people who log in while it is
// carried out.
func (p Plan) WithNewcomers() Plan {
	p.Steps = slices.Clone(p.Steps)
	for i := range p.Steps {
		p.Steps[i].Newcomers = p.Steps[i].Kind == EndSessions
	}
	return p
}

// Watched lists the units that building a plan or judging a mode needs to know
// about.
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
