package systemd1

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/internal/busconn"
)

// managerRules are the manager's signals after which an answer may be another:
// the end of the boot (SystemState itself sends no change signal), a reload and
// a change of unit files, after which a name may mean another unit.
func managerRules() []busconn.Rule {
	var rules []busconn.Rule
	for _, member := range []string{"StartupFinished", "Reloading", "UnitFilesChanged"} {
		rules = append(rules, busconn.Rule{Path: Path, Interface: managerInterface, Member: member})
	}
	return rules
}

// unitRule is for the changes of one unit's properties, its Job among them. A
// rule for all units would wake us for every scope and mount of the host.
func unitRule(at dbus.ObjectPath) busconn.Rule {
	return busconn.Rule{
		Path: at, Interface: "org.freedesktop.DBus.Properties", Member: "PropertiesChanged", Arg0: unitInterface,
	}
}

// Watch calls changed whenever reading the units or the manager's state may give
// another answer, until ctx ends. It follows units across reloads, and the
// manager across its own restarts. It fails when it cannot go on.
func (c *Client) Watch(ctx context.Context, units []string, changed func()) error {
	renamed := make(chan struct{}, 1)
	l, err := c.bus.Listen(ctx, Name, func(s *dbus.Signal) {
		switch s.Name {
		case managerInterface + ".Reloading", managerInterface + ".UnitFilesChanged":
			select {
			case renamed <- struct{}{}:
			default:
			}
		}
	}, managerRules()...)
	if err != nil {
		return err
	}
	defer l.Close()
	var held holds
	for {
		present, generation := l.Owner()
		if present {
			held.of(generation)
			if err := c.follow(ctx, l, units, &held); err != nil && !errors.Is(err, busconn.ErrAbsent) {
				return err
			}
		}
		changed()
		if err := c.awaitMove(ctx, l, generation, renamed, changed); err != nil {
			return err
		}
	}
}

// holds are the units that the present manager was asked to keep loaded. It
// forgets one that is down and that nothing refers to as soon as it has answered:
// each look would read its files anew, and announce it to the whole bus. What is
// held is let go when our connection ends.
type holds struct {
	generation uint64
	mu         sync.Mutex
	units      map[dbus.ObjectPath]bool
}

// of begins anew with another manager. One that has only executed itself anew
// remembers, and counts twice, which is no harm.
func (h *holds) of(generation uint64) {
	if h.units == nil || h.generation != generation {
		h.generation, h.units = generation, map[dbus.ObjectPath]bool{}
	}
}

// hold asks for one unit. One without a file cannot be held.
func (h *holds) hold(ctx context.Context, c *Client, unit string, at dbus.ObjectPath) error {
	h.mu.Lock()
	held := h.units[at]
	h.mu.Unlock()
	if held {
		return nil
	}
	_, err := c.call(ctx, "RefUnit", unit)
	if NoUnit(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot keep %s loaded: %w", unit, err)
	}
	h.mu.Lock()
	h.units[at] = true
	h.mu.Unlock()
	return nil
}

// follow makes sure that the manager sends signals, that those of the units'
// present objects are heard, and that they stay loaded.
func (c *Client) follow(ctx context.Context, l *busconn.Listener, units []string, held *holds) error {
	if err := c.Subscribe(ctx); err != nil {
		return err
	}
	rules := make([]busconn.Rule, len(units))
	err := busconn.Parallel(len(units), func(i int) error {
		at, err := c.Load(ctx, units[i])
		if NoUnit(err) {
			return nil
		}
		if err != nil {
			return err
		}
		rules[i] = unitRule(at)
		return held.hold(ctx, c, units[i], at)
	})
	if err != nil {
		return err
	}
	all := managerRules()
	for _, r := range rules {
		if r.Path != "" {
			all = append(all, r)
		}
	}
	return l.SetRules(ctx, all...)
}

// awaitMove passes changes on until the units have to be followed anew.
func (c *Client) awaitMove(
	ctx context.Context, l *busconn.Listener, since uint64, renamed <-chan struct{}, changed func(),
) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.bus.Done():
			return fmt.Errorf("cannot watch systemd: %w", busconn.ErrDisconnected)
		case <-renamed:
			return nil
		case <-l.C():
			if _, generation := l.Owner(); generation != since {
				return nil
			}
			changed()
		}
	}
}
