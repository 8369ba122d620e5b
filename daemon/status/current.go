package status

import (
	"cmp"
	"time"

	"github.com/dubnium/dubnium/observer"
)

// Current is the observed state for scripts: current.json, and the output of modectl.
type Current struct {
	State      observer.State             `json:"observed_state"`
	Confidence observer.Confidence        `json:"confidence"`
	Degraded   bool                       `json:"degraded"`
	Signals    map[observer.Signal]any    `json:"signals"` // null: unknown
	Unknown    map[observer.Signal]string `json:"unknown"` // why a signal is unknown
	Conflicts  []observer.Reason          `json:"conflicts"`
	Reasons    []observer.Reason          `json:"reasons"`
	// Since is when the state last changed; current.json does not have it.
	Since     time.Time `json:"since,omitzero"`
	Timestamp time.Time `json:"timestamp"`
}

// CurrentOf returns the observation for scripts. Its lists are never nil.
func CurrentOf(o observer.Observation, since time.Time) Current {
	c := Current{
		State: o.State, Confidence: o.Confidence, Degraded: o.Degraded(),
		Signals: map[observer.Signal]any{}, Unknown: map[observer.Signal]string{},
		Conflicts: append([]observer.Reason{}, o.Conflicts...), Reasons: append([]observer.Reason{}, o.Reasons...),
		Since: since, Timestamp: o.At,
	}
	for _, s := range o.Facts.Names() {
		fact := o.Facts[s]
		if c.Signals[s] = fact.Value(); c.Signals[s] == nil {
			c.Unknown[s] = cmp.Or(fact.Reason, "not read yet")
		}
	}
	return c
}
