// Package status holds the values that the engine publishes and its clients
// read: what was asked, what is, the transition that runs, and how the last ones
// ended. They are plain immutable data; nothing here acts.
package status

import (
	"errors"
	"slices"
	"time"

	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// Origin says what kind of actor asked for a mode. The daemon sets it; a client
// never names its own.
type Origin string

// The origins.
const (
	OriginOperator Origin = "operator"
	OriginBoot     Origin = "boot"
	OriginRecovery Origin = "recovery"
	OriginLease    Origin = "lease"
)

// IsAutomatic reports whether nobody asked but the daemon itself.
func (o Origin) IsAutomatic() bool { return o == OriginBoot || o == OriginRecovery || o == OriginLease }

// Desired is what was asked of the host last.
type Desired struct {
	Mode   policy.Mode `json:"mode"`
	Origin Origin      `json:"origin"`
	By     string      `json:"by"`
	Since  time.Time   `json:"since"`
}

// Result is how a transition ended. Only Success and Noop mean that the target
// was observed.
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

// Results lists them all.
func Results() []Result {
	return []Result{
		Success, Noop, Blocked, Inhibited, Canceled, Failed, TimedOut, RolledBack, RollbackFailed, Degraded,
		Interrupted,
	}
}

// Reached reports whether the target was observed.
func (r Result) Reached() bool { return r == Success || r == Noop }

// LeavesDoubt reports whether the host may have been left where nobody asked
// it to be. A refusal, a cancel and a verified way back do not: they left a
// truthful mode behind.
func (r Result) LeavesDoubt() bool {
	switch r {
	case Failed, TimedOut, RollbackFailed, Interrupted:
		return true
	}
	return false
}

// Phase is where a running transition is.
type Phase string

// The phases, in order; a phase may be skipped.
const (
	PhaseObserving  Phase = "observing"
	PhaseAnnounced  Phase = "announced" // people are warned, and may put it off
	PhaseActing     Phase = "acting"
	PhaseVerifying  Phase = "verifying"
	PhaseUndoing    Phase = "undoing"
	PhaseRecovering Phase = "recovering"
)

// Transition is the one that runs.
type Transition struct {
	ID        uint64         `json:"id"`
	From      observer.State `json:"from"`
	To        policy.Mode    `json:"to"`
	Origin    Origin         `json:"origin"`
	By        string         `json:"by"`
	Phase     Phase          `json:"phase"`
	Step      string         `json:"step"`               // id of the step that runs, empty before the first
	StepIndex int            `json:"step_index" bus:"u"` // of Step, from 0
	StepCount int            `json:"step_count" bus:"u"`
	Started   time.Time      `json:"started"`
	// Progress says how far Step is, where it takes long; else empty.
	Progress string `json:"progress,omitempty" bus:",omitempty"`
	// Cancellable: the point of no return lies ahead.
	Cancellable bool `json:"cancellable"`
	// Deadline is when an announced transition goes on at the latest, zero in every
	// other phase.
	Deadline time.Time `json:"deadline,omitzero"`
	// UID is who asked, who may cancel without asking anybody. It is not told.
	UID uint32 `json:"-"`
}

// StepStatus is how far a step got.
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

// OfUndo reports whether the status is how an undo ended.
func (s StepStatus) OfUndo() bool {
	return s == StepUndone || s == StepUndoFailed || s == StepNotUndoable
}

// Step is one step of a record.
type Step struct {
	ID     string     `json:"id"`
	Status StepStatus `json:"status"`
	Error  string     `json:"error,omitempty"`
	// Notes are what there is to know although the step was done.
	Notes []string `json:"notes,omitempty" bus:",omitempty"`
	// Residual is the memory that the release of the display GPUs left in use, where
	// the step waited for one and it could be measured.
	Residual []observer.GPUMemory `json:"residual,omitempty" bus:",omitempty"`
	Started  time.Time            `json:"started,omitzero"`
	Finished time.Time            `json:"finished,omitzero"`
	// Of the undo, where there was one; the error says why it failed, or what was lost.
	UndoStarted  time.Time `json:"undo_started,omitzero"`
	UndoFinished time.Time `json:"undo_finished,omitzero"`
	UndoError    string    `json:"undo_error,omitempty"`
}

// Record is a finished transition, as it stands in last-transition.json and in
// the history.
type Record struct {
	ID     uint64         `json:"id"`
	From   observer.State `json:"from"`
	To     policy.Mode    `json:"to"`
	Final  observer.State `json:"final"`
	Result Result         `json:"result"`
	Cause  string         `json:"cause,omitempty"`
	Origin Origin         `json:"origin"`
	By     string         `json:"by"`
	// UID is who asked; nil in records of older versions, which did not say.
	UID *uint32 `json:"uid,omitempty"`
	// Authorization says by what right: see Request.
	Authorization string    `json:"authorization,omitempty"`
	Why           string    `json:"why,omitempty"` // the requester's own words
	Started       time.Time `json:"started"`
	// Judged is when the guards were asked; zero when they were not.
	Judged   time.Time        `json:"judged,omitzero"`
	Finished time.Time        `json:"finished"`
	Guards   []guards.Verdict `json:"guards"`
	// Forced are the guards whose refusal did not count, by the requester's word.
	Forced []policy.GuardID `json:"forced,omitempty"`
	Steps  []Step           `json:"steps"`
	// Restarted: the machine was restarted before the daemon could deal with its end.
	// Nothing of it is left, and so no doubt either.
	Restarted bool `json:"restarted,omitempty" bus:"-"`
	// Private is what the texts tell of people's processes. It stays in root's files.
	Private []observer.Secret `json:"private,omitempty" bus:"-"`
}

// View is everything a client may read, at one moment. The engine publishes a
// new one for each change and never changes one that it has published.
type View struct {
	// Policy is what all of this was judged by.
	Policy      policy.Document
	Desired     Desired
	Observation observer.Observation
	// Snapshot is what Observation was made of.
	Snapshot observer.Snapshot
	// ObservedSince is when the observed state last changed.
	ObservedSince time.Time
	Running       *Transition // nil when none runs
	Last          *Record     // nil before the first
	// BlockedBy holds the verdicts that blocked the last request, which are Last's.
	BlockedBy  []guards.Verdict
	Inhibitors []Inhibitor // in the order in which they were taken
	// Placement says where each capability is, and Topology which GPUs there are, as
	// the files have them.
	Placement map[string]policy.Place
	Topology  observer.Topology
	Lease     *Lease // nil for none
	Reconcile AutoReconcile
	// Warnings say what is wrong with the daemon itself, not with the host.
	Warnings []observer.Reason
}

// Context is what classification may know beside the facts.
func (v View) Context() observer.Context {
	return observer.Context{
		InFlight:   v.Running != nil,
		Desired:    v.Desired.Mode,
		LastFailed: v.Last != nil && v.Last.Result.LeavesDoubt() && !v.Last.Restarted,
	}
}

// Converged reports whether the host is observed to be what was asked.
func (v View) Converged() bool { return v.Observation.Is(v.Desired.Mode) }

// Request asks for a mode. It has been authorized before it is one.
type Request struct {
	Mode      policy.Mode
	Origin    Origin
	By        string // e.g. "uid 1000 (alice)"
	UID       uint32
	EndOthers bool // may end other people's sessions
	// LeaveCompute: may take the host out of compute. root always may.
	LeaveCompute bool
	Why          string // the requester's own words
	// Authorization is by what right: ByCredentials, ByPolicy or ByPolkit.
	Authorization string
	// Plan is the fingerprint of the one plan that may be carried out; empty for
	// whatever the host needs.
	Plan string
	// Grace is how long people are warned, nil for what policy says.
	Grace *time.Duration
	// NoWait: delay inhibitors are not waited for.
	NoWait bool
	// Skip are soft guards whose refusal does not count.
	Skip []policy.GuardID
	// Terms say for how long.
	Terms Terms
	// KeepTerms: the mode is the desired one, and stays on the terms that it was asked on.
	KeepTerms bool
}

// Joins reports whether a request asks for no more than what runs for another.
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

// Event is one thing that happened, in order. Exactly one field is set.
type Event struct {
	StateChanged *StateChanged
	Started      *Transition
	Step         *StepEvent
	Progress     *StepProgress
	Prepare      *Prepare
	Finished     *Record
}

// StateChanged says that the observed state has another name now.
type StateChanged struct {
	Old, New observer.State
	Reasons  []observer.Reason
	// Private is what the reasons tell of people's processes.
	Private []observer.Secret
}

// Prepare announces a transition before its point of no return, and says when it
// is over, whatever came of it.
type Prepare struct {
	Begin bool
	ID    uint64
	From  observer.State
	To    policy.Mode
	// Deadline is when it goes on at the latest; it may be put off.
	Deadline time.Time
	// EndsSessions: graphical sessions will end.
	EndsSessions bool
}

// StepEvent says how far a step of the running transition got.
type StepEvent struct {
	ID     uint64
	Index  int `bus:"u"`
	Count  int `bus:"u"`
	Step   string
	Status StepStatus
}

// StepProgress says how far the running step is, in words.
type StepProgress struct {
	ID    uint64
	Index int `bus:"u"`
	Count int `bus:"u"`
	Step  string
	Text  string
}

// The refusals. A request that meets one has changed nothing.
var (
	// ErrBusy: another transition runs.
	ErrBusy = errors.New("another transition is running")
	// ErrStalePlan: the request was for one plan, and the host would need another.
	ErrStalePlan = errors.New("the plan is not what was previewed")
	// ErrNoSuchTransition: no record of that id is kept.
	ErrNoSuchTransition = errors.New("no such transition")
	// ErrNotCancellable: the transition is past its point of no return.
	ErrNotCancellable = errors.New("the transition cannot be canceled")
	// ErrNotPostponable: the transition is not announced, is past its point of no
	// return, or was postponed often or long enough.
	ErrNotPostponable = errors.New("the transition cannot be postponed")
	// ErrNoSuchInhibitor: nobody holds an inhibitor of that cookie, or it is not the
	// caller's.
	ErrNoSuchInhibitor = errors.New("no such inhibitor")
	// ErrTooMany: a bound on what one user, or all of them, may hold is reached.
	ErrTooMany = errors.New("too many")
	// ErrShuttingDown: the daemon is stopping.
	ErrShuttingDown = errors.New("dubniumd is stopping")
)
