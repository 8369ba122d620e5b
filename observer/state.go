package observer

import (
	"slices"
	"time"

	"github.com/dubnium/dubnium/policy"
)

// State is the observed state of a host. Clients treat a word that they do not know as unknown.
type State string

// The states that are not a mode. A healthy mode is a State of its own name.
const (
	Boot             State = "boot"
	Transitioning    State = "transitioning"
	FailedTransition State = "failed-transition"
	StateUnknown     State = "unknown"
)

// Of is the state of a host that meets the contract of mode.
func Of(mode policy.Mode) State { return State(mode) }

// DegradedOf is the degraded state of mode: safe, but something of its contract is missing or violated.
func DegradedOf(mode policy.Mode) State { return State("degraded-" + string(mode)) }

// Confidence rates the evidence behind a state.
type Confidence string

// The confidences. Low: a deciding fact is unknown or older than its bound.
const (
	High   Confidence = "high"
	Medium Confidence = "medium"
	Low    Confidence = "low"
)

// Reason is one violation or contradiction: a code that is stable across releases, and a text for people.
type Reason struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

// Context is the input of classification beside the facts.
type Context struct {
	// InFlight: a transition is running.
	InFlight bool `json:"in_flight"`
	// Desired is the mode that was requested last.
	Desired policy.Mode `json:"desired"`
	// LastFailed: the last transition may have left the host in a state that was not
	// requested (failed, timed-out, rollback-failed, interrupted).
	LastFailed bool `json:"last_failed"`
}

// Rule names the rule of classification that determined the state.
type Rule string

// The rules, in the order in which they are tried.
const (
	RuleTransition     Rule = "transition-runs"
	RuleBoot           Rule = "not-looked-yet"
	RuleConflict       Rule = "contradiction"
	RuleNotWhereAsked  Rule = "not-where-asked"
	RuleTargetsUnknown Rule = "targets-unknown"
	RuleNoTarget       Rule = "no-mode-target"
	RuleContract       Rule = "contract"
)

// Observation is a classified snapshot.
type Observation struct {
	State State `json:"state"`
	// Inferred is the mode that the active targets indicate, empty for none.
	Inferred   policy.Mode `json:"inferred"`
	Confidence Confidence  `json:"confidence"`
	// Reasons explain why the state is not the inferred mode.
	Reasons []Reason `json:"reasons"`
	// Conflicts are facts that contradict each other.
	Conflicts []Reason  `json:"conflicts"`
	Facts     Facts     `json:"facts"`
	At        time.Time `json:"at,omitzero"`
	// Rule determined the state; Context is its input beside the facts.
	Rule    Rule    `json:"rule"`
	Context Context `json:"context"`
	// Expires is when the first deciding fact becomes stale or a grace period ends. It is
	// zero if nothing expires, or everything already has.
	Expires time.Time `json:"expires,omitzero"`
}

// Is reports whether the host was observed to meet the contract of mode.
func (o Observation) Is(mode policy.Mode) bool { return o.State == Of(mode) }

// Degraded reports whether the state is the degraded state of a mode.
func (o Observation) Degraded() bool { return o.Inferred != "" && o.State == DegradedOf(o.Inferred) }

// Same reports whether two observations are equivalent. Times of reads and the reasons of
// facts are ignored.
func (o Observation) Same(other Observation) bool {
	if o.State != other.State || o.Confidence != other.Confidence || o.Inferred != other.Inferred ||
		!slices.Equal(o.Reasons, other.Reasons) || !slices.Equal(o.Conflicts, other.Conflicts) {
		return false
	}
	names := o.Facts.Names()
	if !slices.Equal(names, other.Facts.Names()) {
		return false // derived under different policies
	}
	for _, s := range names {
		if o.Facts.Is(s) != other.Facts.Is(s) {
			return false
		}
	}
	return true
}
