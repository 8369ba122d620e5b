package daemon

import (
	"context"
	"encoding/json"
	"maps"
	"slices"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/plans"
	"github.com/dubnium/dubnium/policy"
)

// setSlice makes one change of plans.SetSlices, and saves the value from before.
func (h *fakeHost) setSlice(c plans.SliceChange) {
	unit := h.now.Systemd.Units[c.Slice]
	was := unit.Properties[c.Property]
	unit.Properties = maps.Clone(unit.Properties)
	unit.Properties[c.Property] = c.New
	h.now.Systemd.Units[c.Slice] = unit
	kept := maps.Clone(h.now.Saved.Slices[c.Slice])
	if _, there := kept[c.Property]; !there && !c.Returns {
		if kept == nil {
			kept = policy.Properties{}
		}
		kept[c.Property] = was
	} else if c.Returns {
		delete(kept, c.Property)
	}
	all := maps.Clone(h.now.Saved.Slices)
	if all == nil {
		all = map[string]policy.Properties{}
	}
	all[c.Slice] = kept
	h.now.Saved.Slices = all
}

// unsetSlices undoes plans.SetSlices.
func (h *fakeHost) unsetSlices(s plans.Step, was found) {
	for _, c := range s.Slices {
		unit := h.now.Systemd.Units[c.Slice]
		unit.Properties = was.Slices[c.Slice]
		h.now.Systemd.Units[c.Slice] = unit
	}
	h.now.Saved.Slices = was.Kept.Slices
}

// quiesce and resume are the steps of these names, for one unit.
func (h *fakeHost) quiesce(unit string) {
	if h.now.Systemd.Units[unit].Active() {
		h.stop(unit)
		h.now.Saved.Quiesced = append(slices.Clone(h.now.Saved.Quiesced), unit)
	}
}

func (h *fakeHost) resume(unit string) {
	h.start(unit)
	h.now.Saved.Quiesced = slices.DeleteFunc(
		slices.Clone(h.now.Saved.Quiesced), func(kept string) bool { return kept == unit },
	)
}

// restoreUnits undoes either.
func (h *fakeHost) restoreUnits(s plans.Step, was found) {
	for _, unit := range s.Units {
		if was.up(unit) {
			h.start(unit)
		} else {
			h.stop(unit)
		}
	}
	h.now.Saved.Quiesced = was.Kept.Quiesced
}

// clear is the first half of an isolate: it stops all that the target may not want.
func (h *fakeHost) clear() {
	wanted := []string{"audio-priority.service", "studio-local-policy.service", "display-manager.service"}
	for _, u := range slices.Concat(wanted, h.policy.VLLMUnits(), h.policy.ContractUnits()) {
		h.stop(u)
	}
}

// isolate stops all that the target does not want.
func (h *fakeHost) isolate(target string) {
	h.clear()
	h.start(target)
}

// unisolate is host's undo of an isolate: what came with the target goes, and the
// target that it replaced and what was up come back.
func (h *fakeHost) unisolate(s plans.Step, was found) {
	for _, u := range slices.Concat(h.policy.VLLMUnits(), h.policy.ContractUnits()) {
		if !was.up(u) {
			h.stop(u)
		}
	}
	switch {
	case was.up("compute.target"):
		h.start("compute.target")
	case was.up("desktop.target"):
		h.start("desktop.target")
	default:
		h.stop(s.Unit)
	}
	for _, u := range was.Up {
		if !h.now.Systemd.Units[u].Active() && u != "desktop.target" && u != "compute.target" {
			h.start(u)
		}
	}
}

// fakeHandler carries out one kind of step on the host.
type fakeHandler struct {
	host *fakeHost
	// do returns what is done, in the parts between which the host can be read.
	do   func(plans.Step) []func()
	undo func(*fakeHost, plans.Step, found)
}

func (f fakeHandler) Prepare(ctx context.Context, s plans.Step) (json.RawMessage, error) {
	if err := f.host.faultAt(ctx, "before", "prepare "+s.ID); err != nil {
		return nil, err
	}
	now := f.host.clone().now
	before := found{Kept: now.Saved, Slices: map[string]policy.Properties{}}
	for name, u := range now.Systemd.Units {
		if u.Active() && u.Properties == nil {
			before.Up = append(before.Up, name)
		}
	}
	for _, c := range s.Slices {
		before.Slices[c.Slice] = now.Systemd.Units[c.Slice].Properties
	}
	slices.Sort(before.Up)
	return json.Marshal(before)
}

// found is what a step found before it did anything.
type found struct {
	Up     []string                     `json:"up"`
	Slices map[string]policy.Properties `json:"slices"`
	Kept   observer.SavedState          `json:"kept"`
}

func (f found) up(unit string) bool { return slices.Contains(f.Up, unit) }

func (f fakeHandler) Apply(ctx context.Context, s plans.Step) error {
	return f.act(ctx, "apply "+s.ID, f.do(s)...)
}

func (f fakeHandler) Verify(ctx context.Context, s plans.Step) error {
	return f.host.faultAt(ctx, "before", "verify "+s.ID)
}

func (f fakeHandler) Undo(ctx context.Context, s plans.Step, before json.RawMessage) error {
	return f.act(ctx, "undo "+s.ID, func() {
		var was found
		if before != nil && json.Unmarshal(before, &was) == nil {
			f.undo(f.host, s, was)
		}
	})
}

func (f fakeHandler) act(ctx context.Context, what string, parts ...func()) error {
	if err := f.host.faultAt(ctx, "before", what); err != nil {
		return err
	}
	f.host.change(func() { f.host.applied = append(f.host.applied, what) })
	for i, change := range parts {
		if i > 0 {
			if err := f.host.faultAt(ctx, "amid", what); err != nil {
				return err
			}
		}
		f.host.change(change)
	}
	return f.host.faultAt(ctx, "after", what)
}

func (h *fakeHost) faultAt(ctx context.Context, when, what string) error {
	if h.fault == nil {
		return nil
	}
	return h.fault(ctx, when, what)
}

func (h *fakeHost) handlers() map[plans.Kind]plans.StepHandler {
	restore := func(h *fakeHost, s plans.Step, was found) {
		if was.up(s.Unit) {
			h.start(s.Unit)
		} else {
			h.stop(s.Unit)
		}
	}
	each := func(do func(string)) func(plans.Step) []func() {
		return func(s plans.Step) (parts []func()) {
			for _, unit := range s.Units {
				parts = append(parts, func() { do(unit) })
			}
			return parts
		}
	}
	start := func(s plans.Step) []func() { return []func(){func() { h.start(s.Unit) }} }
	stop := func(s plans.Step) []func() { return []func(){func() { h.stop(s.Unit) }} }
	none := func(plans.Step) []func() { return nil }
	release := func(plans.Step) []func() { return []func(){func() { h.now.Processes.Holders = nil }} }
	endSessions := func(plans.Step) []func() { return []func(){h.endSessions} }
	isolate := func(s plans.Step) []func() { return []func(){h.clear, func() { h.start(s.Unit) }} }
	set := func(s plans.Step) (parts []func()) {
		for _, c := range s.Slices {
			parts = append(parts, func() { h.setSlice(c) })
		}
		return parts
	}
	stays := func(*fakeHost, plans.Step, found) {} // the undo of what cannot be undone
	return map[plans.Kind]plans.StepHandler{
		plans.StartUnit:   fakeHandler{h, start, restore},
		plans.StopUnit:    fakeHandler{h, stop, restore},
		plans.StopVLLM:    fakeHandler{h, stop, restore},
		plans.AskSessions: fakeHandler{h, none, stays},
		plans.EndManagers: fakeHandler{h, release, stays},
		plans.EndSessions: fakeHandler{h, endSessions, stays},
		plans.SetSlices:   fakeHandler{h, set, (*fakeHost).unsetSlices},
		plans.Quiesce:     fakeHandler{h, each(h.quiesce), (*fakeHost).restoreUnits},
		plans.Resume:      fakeHandler{h, each(h.resume), (*fakeHost).restoreUnits},
		plans.Isolate:     fakeHandler{h, isolate, (*fakeHost).unisolate},
	}
}
