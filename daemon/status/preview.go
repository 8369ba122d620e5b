package status

import (
	"time"

	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/observer/unitgraph"
	"github.com/dubnium/dubnium/policy"
)

// Preview is what a request would do, told without doing any of it.
type Preview struct {
	From observer.State `json:"from"`
	To   policy.Mode    `json:"to"`
	// Reached: the mode is observed, and a request does nothing.
	Reached bool `json:"reached"`
	// Fingerprint is that of the plan: a request that carries it does exactly this or
	// is refused.
	Fingerprint string `json:"fingerprint"`
	// Guards are those that are judged before the first step; the others are steps.
	Guards []guards.Verdict `json:"guards"`
	Steps  []PlannedStep    `json:"steps"`
	// Sessions are those that end.
	Sessions []observer.Session `json:"sessions"`
	// Stops and Starts are all units that do in the worst case, those of the steps among them. UnitsReason
	// says why they are not known, empty when they are.
	Stops       []unitgraph.StoppedUnit `json:"stops"`
	Starts      []unitgraph.StartedUnit `json:"starts"`
	UnitsReason string                  `json:"units_reason,omitempty"`
	// Refused is that of unitgraph.IsolateImpact.
	Refused string `json:"refused,omitempty"`
	// Holders have a display GPU open that has to be released.
	Holders []observer.Holder `json:"holders"`
	// Unseen may have one open without having been seen.
	Unseen []observer.Unseen `json:"unseen"`
	// Expected is how long it took before.
	Expected Expectation `json:"expected"`
}

// PlannedStep is one step of a plan, for people.
type PlannedStep struct {
	ID    string         `json:"id"`
	Kind  string         `json:"kind"`
	Unit  string         `json:"unit,omitempty"`
	Guard policy.GuardID `json:"guard,omitempty"`
	// Does says what it does and Undo how that is taken back, which is empty for what
	// changes nothing; Changes are the single changes, a line each.
	Does    string   `json:"does"`
	Undo    string   `json:"undo,omitempty"`
	Changes []string `json:"changes"`
	// Timeout bounds the step.
	Timeout time.Duration `json:"timeout"`
}

// Expectation is how long the same transition took when it succeeded before.
type Expectation struct {
	// Count is how many of them there are; the rest is zero when there is none.
	Count   int           `json:"count"`
	Median  time.Duration `json:"median"`
	Longest time.Duration `json:"longest"`
}
