package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/dubnium/dubnium/internal/busconn/systemd1"
	"github.com/dubnium/dubnium/plans"
	"github.com/dubnium/dubnium/policy"
)

// setSlices handles plans.SetSlices.
type setSlices struct {
	manager *systemd1.Client
	saved   *SavedState
	cgroups cgroups
	log     *zap.Logger
}

// propertyBefore is one property before the step.
type propertyBefore struct {
	Slice    string `json:"slice"`
	Property string `json:"property"`
	Value    string `json:"value"`
	// Kept is the saved value, nil for none.
	Kept *string `json:"kept"`
}

// perSlice calls do with the changes of each slice, in the order of the step.
func perSlice(changes []plans.SliceChange, do func(slice string, changes []plans.SliceChange) error) error {
	for first := 0; first < len(changes); {
		end := first
		for end < len(changes) && changes[end].Slice == changes[first].Slice {
			end++
		}
		if err := do(changes[first].Slice, changes[first:end]); err != nil {
			return err
		}
		first = end
	}
	return nil
}

func (h setSlices) Prepare(ctx context.Context, s plans.Step) (json.RawMessage, error) {
	saved, err := h.saved.read()
	if err != nil {
		return nil, err
	}
	before := []propertyBefore{}
	err = perSlice(s.Slices, func(slice string, changes []plans.SliceChange) error {
		now, err := h.manager.Slice(ctx, slice)
		for _, c := range changes {
			before = append(before, propertyBefore{
				Slice: slice, Property: c.Property, Value: now.Properties[c.Property],
				Kept: saved.get(slice, c.Property),
			})
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return encodeUndo(before)
}

// Apply saves the original values, sets those of the mode, and removes the saved values
// of properties that are restored. Each slice gets all of its values or none.
func (h setSlices) Apply(ctx context.Context, s plans.Step) error {
	err := perSlice(s.Slices, func(slice string, changes []plans.SliceChange) error {
		now, err := h.manager.Slice(ctx, slice)
		if err != nil {
			return err
		}
		err = h.saved.change(func(v *savedValues) {
			for _, c := range changes {
				if was := now.Properties[c.Property]; !c.Returns && v.get(slice, c.Property) == nil {
					v.set(slice, c.Property, &was)
				}
			}
		})
		if err != nil {
			return err
		}
		want := policy.Properties{}
		for _, c := range changes {
			want[c.Property] = c.New
		}
		return h.manager.SetSlice(ctx, slice, want)
	})
	if err != nil {
		return err
	}
	return h.saved.change(func(v *savedValues) {
		for _, c := range s.Slices {
			if c.Returns {
				v.set(c.Slice, c.Property, nil)
			}
		}
	})
}

// Undo restores the previous property values and the saved originals. A slice that cannot
// be set does not keep it from the others.
func (h setSlices) Undo(ctx context.Context, _ plans.Step, before json.RawMessage) error {
	var was []propertyBefore
	if known, err := decodeUndo(before, &was); err != nil || !known {
		return err
	}
	back := make([]plans.SliceChange, len(was))
	for i, b := range was {
		back[i] = plans.SliceChange{Slice: b.Slice, Property: b.Property, New: b.Value}
	}
	// The saved originals are written first: they count until the values are restored.
	errs := []error{h.saved.change(func(v *savedValues) {
		for _, b := range was {
			if b.Kept != nil {
				v.set(b.Slice, b.Property, b.Kept)
			}
		}
	})}
	_ = perSlice(back, func(slice string, changes []plans.SliceChange) error {
		want := policy.Properties{}
		for _, c := range changes {
			want[c.Property] = c.New
		}
		err := h.manager.SetSlice(ctx, slice, want)
		if err == nil {
			err = h.confirm(ctx, slice, changes)
		}
		errs = append(errs, err)
		return nil
	})
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return h.saved.change(func(v *savedValues) {
		for _, b := range was {
			v.set(b.Slice, b.Property, b.Kept)
		}
	})
}

func (h setSlices) Verify(ctx context.Context, s plans.Step) error {
	return perSlice(
		s.Slices, func(slice string, changes []plans.SliceChange) error { return h.confirm(ctx, slice, changes) },
	)
}

// systemd applies some properties to the kernel after it has replied. A value that
// differs is read again every kernelInterval, for kernelTimeout.
const (
	kernelTimeout  = time.Second
	kernelInterval = 20 * time.Millisecond
)

// confirm compares the changes with the properties of systemd, and with those of the
// kernel if the slice has a control group. A property that the kernel does not show,
// because the controller is not enabled there, is logged and does not count.
func (h setSlices) confirm(ctx context.Context, slice string, changes []plans.SliceChange) error {
	now, err := h.manager.Slice(ctx, slice)
	if err != nil {
		return err
	}
	for _, c := range changes {
		if got := now.Properties[c.Property]; got != c.New {
			return fmt.Errorf("%s of %s is %q in systemd, not %q", c.Property, slice, got, c.New)
		}
	}
	if now.ControlGroup == "" {
		return nil
	}
	bounded, cancel := context.WithTimeout(ctx, kernelTimeout)
	defer cancel()
	retry := time.NewTicker(kernelInterval)
	defer retry.Stop()
	for {
		hidden, err := h.compare(now.ControlGroup, changes)
		if err == nil {
			for _, reason := range hidden {
				h.log.Warn("cannot compare a property with the kernel",
					zap.String("slice", slice), zap.String("why", reason))
			}
			return nil
		}
		select {
		case <-bounded.Done():
			return fmt.Errorf("cannot confirm the properties of %s: %w", slice, err)
		case <-retry.C:
		}
	}
}

// compare compares the changes with the files of a control group. hidden has the reasons
// for properties that are not shown; err is the first that differs or cannot be read.
func (h setSlices) compare(group string, changes []plans.SliceChange) (hidden []string, err error) {
	for _, c := range changes {
		got, reason, err := h.cgroups.read(group, c.Property)
		switch {
		case err != nil:
			return nil, err
		case reason != "" && c.New != unsetValue(c.Property):
			hidden = append(hidden, reason)
		case reason == "" && got != effective(c.Property, c.New):
			return nil, fmt.Errorf("the kernel has %q for %s, not %q", got, c.Property, effective(c.Property, c.New))
		}
	}
	return hidden, nil
}
