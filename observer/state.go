package observer

import (
	"slices"
	"time"

	"github.com/dubnium/dubnium/policy"
)

// State is what a host is. Clients treat a word they do not know as unknown.
type State string

// The states that are not a mode. A healthy mode is a State of its own name.
const (
	Boot             State = "boot"
	Transitioning    State = "transitioning"
	FailedTransition State = "failed-transition"
	StateUnknown     State = "unknown"
)

// Of is the state of a host that fulfils mode's contract.
func Of(mode policy.Mode) State { return State(mode) }

// DegradedOf is the state of a host that is in mode, safely but incompletely.
func DegradedOf(mode policy.Mode) State { return State("degraded-" + string(mode)) }

// Confidence says how good the evidence behind a state is.
type Confidence string

// The confidences. Low: a deciding fact is unknown or older than its bound.
const (
	High   Confidence = "high"
	Medium Confidence = "medium"
	Low    Confidence = "low"
)

// Reason is one thing that is wrong or contradictory, with a code that stays
// the same from release to release and a text for people.
type Reason struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

// Context is what classification may know beside the facts.
type Context struct {
	// InFlight: a transition runs now.
	InFlight bool `json:"in_flight"`
	// Desired is what was asked last.
	Desired policy.Mode `json:"desired"`
	// LastFailed: the last transition ended in a way that may have left the host
	// somewhere nobody asked for (failed, timed-out, rollback-failed, interrupted).
	LastFailed bool `json:"last_failed"`
}

// Rule names the rule of classification that gave a state its name.
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
	// Inferred is the mode that the targets point at, empty for none.
	Inferred   policy.Mode `json:"inferred"`
	Confidence Confidence  `json:"confidence"`
	// Reasons say why the state is not the inferred mode's own name.
	Reasons []Reason `json:"reasons"`
	// Conflicts are facts that contradict each other.
	Conflicts []Reason  `json:"conflicts"`
	Facts     Facts     `json:"facts"`
	At        time.Time `json:"at,omitzero"`
	// Rule gave the state its name; Context is what it knew beside the facts.
	Rule    Rule    `json:"rule"`
	Context Context `json:"context"`
	// Expires is when the first deciding fact becomes too old, or a grace ends; zero:
	// none does, or it has.
	Expires time.Time `json:"expires,omitzero"`
}

// Is reports whether the host was observed to fulfil mode's contract.
func (o Observation) Is(mode policy.Mode) bool { return o.State == Of(mode) }

// Degraded reports whether the host is in a mode, safely but incompletely.
func (o Observation) Degraded() bool { return o.Inferred != "" && o.State == DegradedOf(o.Inferred) }

// Same reports whether two observations say the same: times of looks and the
// wording of healthy evidence aside.
func (o Observation) Same(other Observation) bool {
	if o.State != other.State || o.Confidence != other.Confidence || o.Inferred != other.Inferred ||
		!slices.Equal(o.Reasons, other.Reasons) || !slices.Equal(o.Conflicts, other.Conflicts) {
		return false
	}
	names := o.Facts.Names()
	if !slices.Equal(names, other.Facts.Names()) {
		return false // of another policy
	}
	for _, s := range names {
		if o.Facts.Is(s) != other.Facts.Is(s) {
			return false
		}
	}
	return true
}
