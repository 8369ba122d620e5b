package status

import (
	"cmp"
	"time"

	"github.com/dubnium/dubnium/observer"
)

// Current is what the host is, for scripts: current.json, and what modectl prints.
type Current struct {
	State      observer.State             `json:"observed_state"`
	Confidence observer.Confidence        `json:"confidence"`
	Degraded   bool                       `json:"degraded"`
	Signals    map[observer.Signal]any    `json:"signals"` // null: not known
	Unknown    map[observer.Signal]string `json:"unknown"` // why it is not
	Conflicts  []observer.Reason          `json:"conflicts"`
	Reasons    []observer.Reason          `json:"reasons"`
	// Since is when the state last changed; current.json does not say.
	Since     time.Time `json:"since,omitzero"`
	Timestamp time.Time `json:"timestamp"`
}

// CurrentOf is an observation for scripts. Its lists are never nil.
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
			c.Unknown[s] = cmp.Or(fact.Reason, "nobody has looked yet")
		}
	}
	return c
}
