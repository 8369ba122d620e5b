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

// setSlices is plans.SetSlices.
type setSlices struct {
	manager *systemd1.Client
	saved   *SavedState
	cgroups cgroups
	log     *zap.Logger
}

// propertyBefore is one property as the step found it.
type propertyBefore struct {
	Slice    string `json:"slice"`
	Property string `json:"property"`
	Value    string `json:"value"`
	// Kept is what was written down for it, nil for nothing.
	Kept *string `json:"kept"`
}

// perSlice hands the changes of each slice to do, in the step's order.
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

func (a setSlices) Prepare(ctx context.Context, s plans.Step) (json.RawMessage, error) {
	kept, err := a.saved.read()
	if err != nil {
		return nil, err
	}
	before := []propertyBefore{}
	err = perSlice(s.Slices, func(slice string, changes []plans.SliceChange) error {
		now, err := a.manager.Slice(ctx, slice)
		for _, c := range changes {
			before = append(before, propertyBefore{
				slice, c.Property, now.Properties[c.Property],
				kept.of(slice, c.Property),
			})
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return encodeUndo(before)
}

// Apply writes down what was there, sets what the mode gives, and forgets what is
// as it was. Each slice gets all of its values or none.
func (a setSlices) Apply(ctx context.Context, s plans.Step) error {
	err := perSlice(s.Slices, func(slice string, changes []plans.SliceChange) error {
		now, err := a.manager.Slice(ctx, slice)
		if err != nil {
			return err
		}
		err = a.saved.change(func(n *savedValues) {
			for _, c := range changes {
				if was := now.Properties[c.Property]; !c.Returns && n.of(slice, c.Property) == nil {
					n.set(slice, c.Property, &was)
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
		return a.manager.SetSlice(ctx, slice, want)
	})
	if err != nil {
		return err
	}
	return a.saved.change(func(n *savedValues) {
		for _, c := range s.Slices {
			if c.Returns {
				n.set(c.Slice, c.Property, nil)
			}
		}
	})
}

// Undo sets what was, and writes down what was written down. It goes on past a
// slice that cannot be set.
func (a setSlices) Undo(ctx context.Context, _ plans.Step, before json.RawMessage) error {
	var was []propertyBefore
	if known, err := decodeUndo(before, &was); err != nil || !known {
		return err
	}
	back := make([]plans.SliceChange, len(was))
	for i, b := range was {
		back[i] = plans.SliceChange{Slice: b.Slice, Property: b.Property, New: b.Value}
	}
	// What is returned to counts until it is there.
	errs := []error{a.saved.change(func(n *savedValues) {
		for _, b := range was {
			if b.Kept != nil {
				n.set(b.Slice, b.Property, b.Kept)
			}
		}
	})}
	_ = perSlice(back, func(slice string, changes []plans.SliceChange) error {
		want := policy.Properties{}
		for _, c := range changes {
			want[c.Property] = c.New
		}
		err := a.manager.SetSlice(ctx, slice, want)
		if err == nil {
			err = a.confirm(ctx, slice, changes)
		}
		errs = append(errs, err)
		return nil
	})
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return a.saved.change(func(n *savedValues) {
		for _, b := range was {
			n.set(b.Slice, b.Property, b.Kept)
		}
	})
}

func (a setSlices) Verify(ctx context.Context, s plans.Step) error {
	return perSlice(
		s.Slices, func(slice string, changes []plans.SliceChange) error { return a.confirm(ctx, slice, changes) },
	)
}

// The kernel is told by systemd after it has answered, for some of it: a value
// that is wrong is looked at again for a while.
const (
	kernelPatience = time.Second
	kernelPace     = 20 * time.Millisecond
)

// confirm reads back what systemd has, and what the kernel has where the slice has
// a control group. What the kernel does not show, because it does not have that
// controller there, is no contradiction; it is logged.
func (a setSlices) confirm(ctx context.Context, slice string, changes []plans.SliceChange) error {
	now, err := a.manager.Slice(ctx, slice)
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
	patience, end := context.WithTimeout(ctx, kernelPatience)
	defer end()
	again := time.NewTicker(kernelPace)
	defer again.Stop()
	for {
		hidden, wrong := a.compare(now.ControlGroup, changes)
		if wrong == nil {
			for _, reason := range hidden {
				a.log.Warn("the kernel does not show a property", zap.String("slice", slice), zap.String("why", reason))
			}
			return nil
		}
		select {
		case <-patience.Done():
			return fmt.Errorf("%s is not as systemd has it: %w", slice, wrong)
		case <-again.C:
		}
	}
}

// compare looks at the files of a control group: what they do not show, and the
// first that shows something else.
func (a setSlices) compare(group string, changes []plans.SliceChange) (hidden []string, wrong error) {
	for _, c := range changes {
		got, reason, err := a.cgroups.read(group, c.Property)
		switch {
		case err != nil:
			return nil, err
		case reason != "" && c.New != unsetWord(c.Property):
			hidden = append(hidden, reason)
		case reason == "" && got != effective(c.Property, c.New):
			return nil, fmt.Errorf("the kernel has %q for %s, not %q", got, c.Property, effective(c.Property, c.New))
		}
	}
	return hidden, nil
}
