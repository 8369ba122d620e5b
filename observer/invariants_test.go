package observer

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"

	"github.com/dubnium/dubnium/policy"
)

// TestInvariant17: placement decisions do not silently break the others (docs/architecture.md). For
// any host, placing a capability on another machine adds a reason to its own mode and changes no
// other state.
func TestInvariant17(t *testing.T) {
	place := rapid.SampledFrom([]policy.Place{policy.Local, policy.Remote})
	moved := map[policy.Mode]int{}
	rapid.Check(t, func(t *rapid.T) {
		p := policy.Default()
		at := time.Now()
		s := rapid.OneOf(rapid.SampledFrom([]Snapshot{desktop(), studio(), compute()}), genSnapshot(p)).Draw(t, "snapshot")
		here := Classify(p, s, Context{}, at)
		p.Placement = policy.Placement{Studio: place.Draw(t, "studio"), AI: place.Draw(t, "ai")}
		there := Classify(p, s, Context{}, at)
		away := there.Inferred != "" && p.Location(there.Inferred) != policy.Local
		if !away || here.Rule != RuleContract {
			assert.Equal(t, here, there, "%+v", p.Placement)
			return
		}
		moved[there.Inferred]++
		if there.State == Of(there.Inferred) {
			t.Fatalf("%s is whole, and it is on another machine", there.State)
		}
		if here.State != StateUnknown && there.State != DegradedOf(there.Inferred) {
			t.Fatalf("%s became %s by placement alone", here.State, there.State)
		}
		if len(there.Reasons) != len(here.Reasons)+1 {
			t.Fatalf("%v does not say that it is on another machine: %v", there.State, there.Reasons)
		}
	})
	assert.NotZero(t, moved[policy.StudioLocal])
	assert.NotZero(t, moved[policy.Compute])
}
