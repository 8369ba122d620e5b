package plans

import (
	"maps"
	"slices"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// SliceChange is one property of a slice that a step changes. The values are those
// of policy.Properties.
type SliceChange struct {
	Slice    string `json:"slice"`
	Property string `json:"property"`
	// Old is the value when the plan was made; nil when it could not be read.
	Old *string `json:"old"`
	New string  `json:"new"`
	// Returns: the mode sets no value, and New is the saved original.
	Returns bool `json:"returns,omitempty"`
}

// sliceFacts are the properties of slices, as they are when the steps so far are done.
type sliceFacts struct {
	now   map[string]policy.Properties
	saved map[string]policy.Properties // the originals
}

func slicesOf(s observer.Snapshot) sliceFacts {
	f := sliceFacts{now: map[string]policy.Properties{}, saved: map[string]policy.Properties{}}
	for name, unit := range s.Systemd.Units {
		if unit.Properties != nil {
			f.now[name] = maps.Clone(unit.Properties)
		}
	}
	for name, properties := range s.Saved.Slices {
		f.saved[name] = maps.Clone(properties)
	}
	return f
}

// changes lists the properties to set, sorted: those that differ from the mode's values,
// and those to restore because this mode does not set them. A property is restored as
// long as its original is saved.
func (f sliceFacts) changes(of map[string]policy.Slice) []SliceChange {
	var all []SliceChange
	for _, name := range union(of, f.saved) {
		want := of[name].Properties()
		for _, property := range union(want, f.saved[name]) {
			change := SliceChange{Slice: name, Property: property}
			if old, known := f.now[name][property]; known {
				change.Old = &old
			}
			var set bool
			if change.New, set = want[property]; !set {
				change.New, change.Returns = f.saved[name][property], true
			}
			if change.Returns || change.Old == nil || *change.Old != change.New {
				all = append(all, change)
			}
		}
	}
	return all
}

// union lists the keys of both, sorted.
func union[A, B any](a map[string]A, b map[string]B) []string {
	keys := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.Sort(keys)
	return slices.Compact(keys)
}

// apply makes f what it is once the changes are made.
func (f sliceFacts) apply(changes []SliceChange) {
	for _, c := range changes {
		if f.now[c.Slice] == nil {
			f.now[c.Slice] = policy.Properties{}
		}
		f.now[c.Slice][c.Property] = c.New
		_, saved := f.saved[c.Slice][c.Property]
		switch {
		case c.Returns:
			delete(f.saved[c.Slice], c.Property)
		case !saved && c.Old != nil:
			if f.saved[c.Slice] == nil {
				f.saved[c.Slice] = policy.Properties{}
			}
			f.saved[c.Slice][c.Property] = *c.Old
		}
	}
}

// setSlices adds the step that sets the slices to a mode's values. If the saved state
// cannot be read, the step is added without changes, and fails with the reason.
func (b *builder) setSlices(m policy.Mode) {
	changes := b.slices.changes(b.policy.Slices.Of(m))
	if len(changes) == 0 && b.snapshot.Saved.Reason == "" {
		return
	}
	b.add(Step{ID: "set-slices-" + string(m), Kind: SetSlices, Slices: changes})
	b.slices.apply(changes)
}

// quiesce stops the maintenance units that are not known to be inactive. startsTarget:
// the plan starts a target before, which may start the units that it wants.
func (b *builder) quiesce(startsTarget bool) {
	var active []string
	for _, name := range b.policy.Studio.Units() {
		unit, known := b.snapshot.Systemd.Units[name]
		if !known || !unit.Down() || startsTarget && unit.Loaded() {
			active = append(active, name)
		}
	}
	if len(active) > 0 {
		b.add(Step{ID: "quiesce-maintenance", Kind: Quiesce, Units: active})
	}
}

// resume starts exactly the units that were stopped for studio-local.
func (b *builder) resume() {
	if saved := b.snapshot.Saved; len(saved.Quiesced) > 0 || saved.Reason != "" {
		b.add(Step{ID: "resume-maintenance", Kind: Resume, Units: saved.Quiesced})
	}
}
