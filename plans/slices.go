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
	// Old is what was seen when the plan was made; nil when it could not be read.
	Old *string `json:"old"`
	New string  `json:"new"`
	// Returns: the mode gives no value, and New is what was there before the first
	// one did.
	Returns bool `json:"returns,omitempty"`
}

// sliceFacts are the slices as they are, and as the steps so far leave them.
type sliceFacts struct {
	now  map[string]policy.Properties
	kept map[string]policy.Properties
}

func slicesOf(s observer.Snapshot) sliceFacts {
	f := sliceFacts{now: map[string]policy.Properties{}, kept: map[string]policy.Properties{}}
	for name, unit := range s.Systemd.Units {
		if unit.Properties != nil {
			f.now[name] = maps.Clone(unit.Properties)
		}
	}
	for name, properties := range s.Saved.Slices {
		f.kept[name] = maps.Clone(properties)
	}
	return f
}

// changes lists what is not as a mode has it, by slice and property: values that
// it gives, and values of another mode that it does not give. Of the latter there
// is one as long as what was before is still written down.
func (f sliceFacts) changes(of map[string]policy.Slice) []SliceChange {
	var all []SliceChange
	for _, name := range union(of, f.kept) {
		want := of[name].Properties()
		for _, property := range union(want, f.kept[name]) {
			change := SliceChange{Slice: name, Property: property}
			if old, known := f.now[name][property]; known {
				change.Old = &old
			}
			var given bool
			if change.New, given = want[property]; !given {
				change.New, change.Returns = f.kept[name][property], true
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

// after is what a step leaves.
func (f sliceFacts) after(changes []SliceChange) {
	for _, c := range changes {
		if f.now[c.Slice] == nil {
			f.now[c.Slice] = policy.Properties{}
		}
		f.now[c.Slice][c.Property] = c.New
		_, kept := f.kept[c.Slice][c.Property]
		switch {
		case c.Returns:
			delete(f.kept[c.Slice], c.Property)
		case !kept && c.Old != nil:
			if f.kept[c.Slice] == nil {
				f.kept[c.Slice] = policy.Properties{}
			}
			f.kept[c.Slice][c.Property] = *c.Old
		}
	}
}

// setSlices gives the slices what a mode has for them. What was before cannot be
// told when the daemon's own note of it is unreadable: the step says so then.
func (b *builder) setSlices(m policy.Mode) {
	changes := b.slices.changes(b.policy.Slices.Of(m))
	if len(changes) == 0 && b.snapshot.Saved.Reason == "" {
		return
	}
	b.add(Step{ID: "set-slices-" + string(m), Kind: SetSlices, Slices: changes})
	b.slices.after(changes)
}

// quiesce stops the maintenance units that are not known to be down. entered says
// that a target is started before, which starts what it wants.
func (b *builder) quiesce(entered bool) {
	var loud []string
	for _, name := range b.policy.Studio.Units() {
		unit, seen := b.snapshot.Systemd.Units[name]
		if !seen || !unit.Down() || entered && unit.Loaded() {
			loud = append(loud, name)
		}
	}
	if len(loud) > 0 {
		b.add(Step{ID: "quiesce-maintenance", Kind: Quiesce, Units: loud})
	}
}

// resume starts again exactly what was stopped for studio-local.
func (b *builder) resume() {
	if kept := b.snapshot.Saved; len(kept.Quiesced) > 0 || kept.Reason != "" {
		b.add(Step{ID: "resume-maintenance", Kind: Resume, Units: kept.Quiesced})
	}
}
