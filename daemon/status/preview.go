package status

import (
	"time"

	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/observer/unitgraph"
	"github.com/dubnium/dubnium/policy"
)

// Preview is what a request would do.
type Preview struct {
	From observer.State `json:"from"`
	To   policy.Mode    `json:"to"`
	// Reached: the mode is observed, and a request does nothing.
	Reached bool `json:"reached"`
	// Fingerprint is that of the plan: a request with it carries out exactly this plan, or
	// is rejected.
	Fingerprint string `json:"fingerprint"`
	// Guards are those that are evaluated before the first step; the others are steps.
	Guards []guards.Verdict `json:"guards"`
	Steps  []PlannedStep    `json:"steps"`
	// Sessions are the sessions that end.
	Sessions []observer.Session `json:"sessions"`
	// Stops and Starts are all units that stop and start in the worst case, those of the steps included.
	// UnitsReason is why they are unknown; else empty.
	Stops       []unitgraph.StoppedUnit `json:"stops"`
	Starts      []unitgraph.StartedUnit `json:"starts"`
	UnitsReason string                  `json:"units_reason,omitempty"`
	// Refused is why systemd would refuse to isolate the target; else empty.
	Refused string `json:"refused,omitempty"`
	// Holders are the processes that hold a display GPU that has to be released.
	Holders []observer.Holder `json:"holders"`
	// Unseen are processes that may hold one, but could not be read.
	Unseen []observer.Unseen `json:"unseen"`
	// Expected is the expected duration.
	Expected Expectation `json:"expected"`
}

// PlannedStep describes one step of a plan.
type PlannedStep struct {
	ID    string         `json:"id"`
	Kind  string         `json:"kind"`
	Unit  string         `json:"unit,omitempty"`
	Guard policy.GuardID `json:"guard,omitempty"`
	// Does, Undo and Changes are those of plans.Words.
	Does    string        `json:"does"`
	Undo    string        `json:"undo,omitempty"`
	Changes []string      `json:"changes"`
	Timeout time.Duration `json:"timeout"`
}

// Expectation is the duration of past successful transitions of the same kind.
type Expectation struct {
	// Count is the number of such transitions; the durations are zero without any.
	Count   int           `json:"count"`
	Median  time.Duration `json:"median"`
	Longest time.Duration `json:"longest"`
}
