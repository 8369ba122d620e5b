package systemd1

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/internal/busconn"
	"github.com/dubnium/dubnium/policy"
)

const sliceInterface = Name + ".Slice"

// Slice has properties of slices beyond those of units.
type Slice struct {
	Properties policy.Properties
	// ControlGroup is the path below /sys/fs/cgroup; empty while the slice is empty.
	ControlGroup string
}

// Slice reads a slice by its name. A slice without a file or without units can be read as
// well.
func (c *Client) Slice(ctx context.Context, unit string) (Slice, error) {
	at, err := c.Load(ctx, unit)
	if err != nil {
		return Slice{}, fmt.Errorf("cannot read %s: %w", unit, err)
	}
	return c.sliceAt(ctx, unit, at)
}

func (c *Client) sliceAt(ctx context.Context, unit string, at dbus.ObjectPath) (Slice, error) {
	p, err := c.bus.Properties(ctx, Name, at, sliceInterface)
	if err != nil {
		return Slice{}, fmt.Errorf("cannot read %s: %w", unit, err)
	}
	r := p.Read()
	s := Slice{ControlGroup: r.String("ControlGroup"), Properties: policy.Properties{
		policy.CPUWeight: weight(r, policy.CPUWeight), policy.IOWeight: weight(r, policy.IOWeight),
		policy.MemoryHigh: amount(r, policy.MemoryHigh), policy.MemoryLow: amount(r, policy.MemoryLow),
		policy.AllowedCPUs: policy.FormatCPUs(r.Bytes(policy.AllowedCPUs)),
	}}
	if err := r.Err(); err != nil {
		return Slice{}, fmt.Errorf("cannot read %s: %w", unit, err)
	}
	return s, nil
}

// weight returns empty if it is not set. CPUWeight=idle reads as 0.
func weight(r *busconn.Reader, name string) string {
	if w := r.Uint64(name); w != math.MaxUint64 {
		return strconv.FormatUint(w, 10)
	}
	return ""
}

func amount(r *busconn.Reader, name string) string {
	if bytes := r.Uint64(name); bytes != math.MaxUint64 {
		return strconv.FormatUint(bytes, 10)
	}
	return policy.Infinity
}

// setting is one argument of SetUnitProperties.
type setting struct {
	Name  string
	Value dbus.Variant
}

// SetSlice sets properties of a slice until the next boot, all or none of them.
func (c *Client) SetSlice(ctx context.Context, unit string, p policy.Properties) error {
	var settings []setting
	for name, word := range p {
		add, err := settingsOf(name, word)
		if err != nil {
			return fmt.Errorf("cannot set %s of %s: %w", name, unit, err)
		}
		settings = append(settings, add...)
	}
	const runtime = true
	if _, err := c.call(ctx, "SetUnitProperties", unit, runtime, settings); err != nil {
		return fmt.Errorf("cannot set properties of %s: %w", unit, err)
	}
	return nil
}

// settingsOf converts a value of policy.Properties for systemd. Some versions of systemd
// add processors to the present list unless it is emptied first (man 5
// org.freedesktop.systemd1).
func settingsOf(name, word string) ([]setting, error) {
	if name == policy.AllowedCPUs {
		mask, err := policy.ParseCPUs(word)
		settings := []setting{{name, dbus.MakeVariant([]byte{})}}
		if len(mask) > 0 {
			settings = append(settings, setting{name, dbus.MakeVariant(mask)})
		}
		return settings, err
	}
	value := uint64(math.MaxUint64)
	if word != "" && word != policy.Infinity {
		var err error
		if value, err = strconv.ParseUint(word, 10, 64); err != nil {
			return nil, fmt.Errorf("invalid value %q", word)
		}
	}
	return []setting{{name, dbus.MakeVariant(value)}}, nil
}

func isSlice(unit string) bool { return strings.HasSuffix(unit, ".slice") }
