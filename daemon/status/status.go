// Package status has the values that the controller publishes and its clients read: the
// desired mode, the observed state, the running transition, and the records of past ones.
// They are immutable data.
package status

import (
	"errors"
	"slices"
	"time"

	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// Origin says who requested a mode. The daemon sets it, never a client.
type Origin string

// The origins.
const (
	OriginOperator Origin = "operator"
	OriginBoot     Origin = "boot"
	OriginRecovery Origin = "recovery"
	OriginLease    Origin = "lease"
)

// IsAutomatic reports whether the daemon itself made the request.
func (o Origin) IsAutomatic() bool { return o == OriginBoot || o == OriginRecovery || o == OriginLease }

// Desired is the mode that was requested last.
type Desired struct {
	Mode   policy.Mode `json:"mode"`
	Origin Origin      `json:"origin"`
	By     string      `json:"by"`
	Since  time.Time   `json:"since"`
}

// Result says how a transition ended. Only Success and Noop mean that the target was
// observed.
type Result string

// The results.
const (
	Success        Result = "success"
	Noop           Result = "noop"
	Blocked        Result = "blocked"
	Inhibited      Result = "inhibited"
	Canceled       Result = "canceled"
	Failed         Result = "failed"
	TimedOut       Result = "timed-out"
	RolledBack     Result = "rolled-back"
	RollbackFailed Result = "rollback-failed"
	Degraded       Result = "degraded"
	Interrupted    Result = "interrupted"
)

// Results lists all results.
func Results() []Result {
	return []Result{
		Success, Noop, Blocked, Inhibited, Canceled, Failed, TimedOut, RolledBack, RollbackFailed, Degraded,
		Interrupted,
	}
}

// Reached reports whether the target was observed.
func (r Result) Reached() bool { return r == Success || r == Noop }

// LeavesDoubt reports whether the host may have been left in a state that nobody
// requested. Not so after a refusal, a cancel or a verified rollback: the host is in the
// mode that is observed.
func (r Result) LeavesDoubt() bool {
	switch r {
	case Failed, TimedOut, RollbackFailed, Interrupted:
		return true
	}
	return false
}

// Phase is the phase of a running transition.
type Phase string

// The phases, in order; a phase may be skipped.
const (
	PhaseObserving  Phase = "observing"
	PhaseAnnounced  Phase = "announced" // users are warned, and may postpone it
	PhaseActing     Phase = "acting"
	PhaseVerifying  Phase = "verifying"
	PhaseUndoing    Phase = "undoing"
	PhaseRecovering Phase = "recovering"
)

// Transition is the running transition.
type Transition struct {
	ID        uint64         `json:"id"`
	From      observer.State `json:"from"`
	To        policy.Mode    `json:"to"`
	Origin    Origin         `json:"origin"`
	By        string         `json:"by"`
	Phase     Phase          `json:"phase"`
	Step      string         `json:"step"`               // id of the running step, empty before the first
	StepIndex int            `json:"step_index" bus:"u"` // of Step, from 0
	StepCount int            `json:"step_count" bus:"u"`
	Started   time.Time      `json:"started"`
	// Progress describes the progress of a long step; else empty.
	Progress string `json:"progress,omitempty" bus:",omitempty"`
	// Cancellable: the transition is before its point of no return.
	Cancellable bool `json:"cancellable"`
	// Deadline is when an announced transition continues at the latest; zero in every
	// other phase.
	Deadline time.Time `json:"deadline,omitzero"`
	// UID is the requester's, who may cancel without authorization. It is not published.
	UID uint32 `json:"-"`
}

// StepStatus is the status of a step.
type StepStatus string

// The step statuses.
const (
	StepPending    StepStatus = "pending"
	StepDoing      StepStatus = "doing"
	StepDone       StepStatus = "done"
	StepFailed     StepStatus = "failed"
	StepUndone     StepStatus = "undone"
	StepUndoFailed StepStatus = "undo-failed"
	// StepNotUndoable: what the step did cannot be undone; the error says what was lost.
	StepNotUndoable StepStatus = "not-undoable"
)

// OfUndo reports whether the status is the result of an undo.
func (s StepStatus) OfUndo() bool {
	return s == StepUndone || s == StepUndoFailed || s == StepNotUndoable
}

// Step is one step of a record.
type Step struct {
	ID     string     `json:"id"`
	Status StepStatus `json:"status"`
	Error  string     `json:"error,omitempty"`
	// Notes are remarks on a step that succeeded.
	Notes []string `json:"notes,omitempty" bus:",omitempty"`
	// Residual is the memory that is still in use after the release of the display GPUs,
	// if the step waited for that and it could be measured.
	Residual []observer.GPUMemory `json:"residual,omitempty" bus:",omitempty"`
	Started  time.Time            `json:"started,omitzero"`
	Finished time.Time            `json:"finished,omitzero"`
	// The undo, if there was one. UndoError is why it failed, or what was lost.
	UndoStarted  time.Time `json:"undo_started,omitzero"`
	UndoFinished time.Time `json:"undo_finished,omitzero"`
	UndoError    string    `json:"undo_error,omitempty"`
}

// Record is a finished transition, as in last-transition.json and in the history.
type Record struct {
	ID     uint64         `json:"id"`
	From   observer.State `json:"from"`
	To     policy.Mode    `json:"to"`
	Final  observer.State `json:"final"`
	Result Result         `json:"result"`
	Cause  string         `json:"cause,omitempty"`
	Origin Origin         `json:"origin"`
	By     string         `json:"by"`
	// UID is the requester's; nil in records of older versions, which do not have it.
	UID *uint32 `json:"uid,omitempty"`
	// Authorization is the source of the requester's permission, as in Request.
	Authorization string    `json:"authorization,omitempty"`
	Why           string    `json:"why,omitempty"` // the requester's reason
	Started       time.Time `json:"started"`
	// Judged is when the guards were evaluated; zero if they were not.
	Judged   time.Time        `json:"judged,omitzero"`
	Finished time.Time        `json:"finished"`
	Guards   []guards.Verdict `json:"guards"`
	// Forced are the soft guards that blocked and were skipped on request.
	Forced []policy.GuardID `json:"forced,omitempty"`
	Steps  []Step           `json:"steps"`
	// Restarted: the machine was restarted before the daemon could recover. Nothing of
	// the transition is left, so the record leaves no doubt.
	Restarted bool `json:"restarted,omitempty" bus:"-"`
	// Private are the secrets in the texts about users' processes. Only files of root have
	// them.
	Private []observer.Secret `json:"private,omitempty" bus:"-"`
}

// View is everything that clients may read, at one moment. The controller publishes a new
// one for each change and never modifies a published one.
type View struct {
	// Policy is the policy that the view was made by.
	Policy      policy.Document
	Desired     Desired
	Observation observer.Observation
	// Snapshot is what Observation was derived from.
	Snapshot observer.Snapshot
	// ObservedSince is when the observed state last changed.
	ObservedSince time.Time
	Running       *Transition // nil when none runs
	Last          *Record     // nil before the first
	// BlockedBy are the verdicts of Last that blocked it.
	BlockedBy  []guards.Verdict
	Inhibitors []Inhibitor // in the order in which they were taken
	// Placement is the host of each capability, and Topology the GPUs, as in the files.
	Placement map[string]policy.Place
	Topology  observer.Topology
	Lease     *Lease // nil for none
	Reconcile AutoReconcile
	// Warnings are faults of the daemon itself, not of the host.
	Warnings []observer.Reason
}

// Context is the input of the classification besides the facts.
func (v View) Context() observer.Context {
	return observer.Context{
		InFlight:   v.Running != nil,
		Desired:    v.Desired.Mode,
		LastFailed: v.Last != nil && v.Last.Result.LeavesDoubt() && !v.Last.Restarted,
	}
}

// Converged reports whether the observed state is the desired mode.
func (v View) Converged() bool { return v.Observation.Is(v.Desired.Mode) }

// Request is an authorized request for a mode.
type Request struct {
	Mode      policy.Mode
	Origin    Origin
	By        string // e.g. "uid 1000 (alice)"
	UID       uint32
	EndOthers bool // may end other people's sessions
	// LeaveCompute: may take the host out of compute. root always may.
	LeaveCompute bool
	Why          string // the requester's reason
	// Authorization is the source of the permission: ByCredentials, ByPolicy or ByPolkit.
	Authorization string
	// Plan is the fingerprint of the only plan that may be carried out; empty for any.
	Plan string
	// Grace overrides the policy's warning period; nil keeps it.
	Grace *time.Duration
	// NoWait: delay inhibitors are ignored.
	NoWait bool
	// Skip are the soft guards that do not block this request.
	Skip []policy.GuardID
	// Terms limit how long the mode lasts.
	Terms Terms
	// KeepTerms: the mode is the desired one already, and keeps its terms.
	KeepTerms bool
}

// Joins reports whether the request is equivalent to one that is running, so that it can
// wait for the same transition.
func (r Request) Joins(running Request) bool {
	grace := func(r Request) time.Duration {
		if r.Grace == nil {
			return -1
		}
		return *r.Grace
	}
	return r.Mode == running.Mode && grace(r) == grace(running) &&
		r.NoWait == running.NoWait && slices.Equal(r.Skip, running.Skip) &&
		r.Terms == running.Terms
}

// Event is one event; they are published in order. Exactly one field is set.
type Event struct {
	StateChanged *StateChanged
	Started      *Transition
	Step         *StepEvent
	Progress     *StepProgress
	Prepare      *Prepare
	Finished     *Record
}

// StateChanged: the observed state has changed.
type StateChanged struct {
	Old, New observer.State
	Reasons  []observer.Reason
	// Private are the secrets in the reasons about users' processes.
	Private []observer.Secret
}

// Prepare announces a transition before its point of no return (Begin), and the end of
// the transition, whatever its result.
type Prepare struct {
	Begin bool
	ID    uint64
	From  observer.State
	To    policy.Mode
	// Deadline is when it continues at the latest; it may be postponed.
	Deadline time.Time
	// EndsSessions: graphical sessions will end.
	EndsSessions bool
}

// StepEvent: a step of the running transition has a new status.
type StepEvent struct {
	ID     uint64
	Index  int `bus:"u"`
	Count  int `bus:"u"`
	Step   string
	Status StepStatus
}

// StepProgress describes the progress of the running step.
type StepProgress struct {
	ID    uint64
	Index int `bus:"u"`
	Count int `bus:"u"`
	Step  string
	Text  string
}

// The errors of requests that were rejected. A rejected request has changed nothing.
var (
	// ErrBusy: another transition runs.
	ErrBusy = errors.New("another transition is running")
	// ErrStalePlan: the request has the fingerprint of another plan than the host needs.
	ErrStalePlan = errors.New("the plan is not what was previewed")
	// ErrNoSuchTransition: the history has no record of that id.
	ErrNoSuchTransition = errors.New("no such transition")
	// ErrNotCancellable: the transition is past its point of no return.
	ErrNotCancellable = errors.New("the transition cannot be canceled")
	// ErrNotPostponable: the transition is not announced, is past its point of no
	// return, or has reached the limit of postponements.
	ErrNotPostponable = errors.New("the transition cannot be postponed")
	// ErrNoSuchInhibitor: there is no inhibitor of that cookie, or it is not the caller's.
	ErrNoSuchInhibitor = errors.New("no such inhibitor")
	// ErrTooMany: a limit of one user, or of all of them, is reached.
	ErrTooMany = errors.New("too many")
	// ErrShuttingDown: the daemon is stopping.
	ErrShuttingDown = errors.New("dubniumd is stopping")
)
