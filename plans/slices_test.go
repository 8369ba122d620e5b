package plans

import (
	"maps"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// Each property has the mode's value, or its original where the mode sets none.
func TestSlicesEndAsTheyBegan(t *testing.T) {
	names := []string{"a.slice", "b.slice", "c.slice"}
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.SampledFrom([]string{"", "1", "50", "100", "10000"})
		began := map[string]policy.Properties{}
		for _, name := range names {
			began[name] = policy.Properties{policy.CPUWeight: word.Draw(t, "cpu"), policy.IOWeight: word.Draw(t, "io")}
		}
		weight := rapid.SampledFrom([]int{0, 1, 50, 100, 10000})
		mode := rapid.MapOf(rapid.SampledFrom(names), rapid.Custom(func(t *rapid.T) policy.Slice {
			return policy.Slice{CPUWeight: weight.Draw(t, "cpu"), IOWeight: weight.Draw(t, "io")}
		}))
		f := sliceFacts{now: map[string]policy.Properties{}, saved: map[string]policy.Properties{}}
		for name, properties := range began {
			f.now[name] = maps.Clone(properties)
		}
		for _, of := range append(rapid.SliceOf(mode).Draw(t, "modes"), nil) {
			f.apply(f.changes(of))
			for _, name := range names {
				want := maps.Clone(began[name])
				maps.Copy(want, of[name].Properties())
				require.Equal(t, want, f.now[name])
			}
			require.Empty(t, f.changes(of), "what is there needs no step")
		}
		for _, saved := range f.saved {
			require.Empty(t, saved, "nothing is left to undo")
		}
	})
}

func TestAChangeSaysWhatWasAndWhatWillBe(t *testing.T) {
	s := onStudio.snapshot()
	s.Systemd.Units["ai.slice"] = observer.Unit{LoadState: "loaded", ActiveState: "inactive"} // it could not be read
	s.Saved.Slices["gone.slice"] = policy.Properties{policy.AllowedCPUs: "0-3"}               // not in this policy
	p := policy.Default()
	p.Slices.Compute = map[string]policy.Slice{"ai.slice": {CPUWeight: 800}, "user.slice": {CPUWeight: 400}}
	b := builder{policy: p, snapshot: s, slices: slicesOf(s)}
	b.setSlices(policy.Compute)
	word := func(w string) *string { return &w }
	assert.Subset(t, b.plan.Steps[0].Slices, []SliceChange{
		{Slice: "ai.slice", Property: policy.CPUWeight, New: "800"},
		{Slice: "gone.slice", Property: policy.AllowedCPUs, New: "0-3", Returns: true},
		{Slice: "user.slice", Property: policy.IOWeight, Old: word("400"), New: "", Returns: true},
	})
	for _, c := range b.plan.Steps[0].Slices {
		assert.False(t, c.Slice == "user.slice" && c.Property == policy.CPUWeight, "it is there already")
	}
}

// A saved state that cannot be read is an error of a step.
func TestAnUnreadableNoteIsNotNothingToUndo(t *testing.T) {
	s := onDesktop.snapshot()
	s.Saved = observer.SavedState{Reading: observer.Reading{At: s.Systemd.At, Reason: "cannot read it"}}
	assert.Equal(t, []string{"resume-maintenance", "set-slices-desktop"},
		ids(Build(policy.Default(), s, policy.Desktop)))
}
