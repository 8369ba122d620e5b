package systemd1

import (
	"context"
	"errors"
	"fmt"

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
	for {
		present, generation := l.Owner()
		if present {
			if err := c.follow(ctx, l, units); err != nil && !errors.Is(err, busconn.ErrAbsent) {
				return err
			}
		}
		changed()
		if err := c.awaitMove(ctx, l, generation, renamed, changed); err != nil {
			return err
		}
	}
}

// follow makes sure that the manager sends signals, and that those of the units'
// present objects are heard.
func (c *Client) follow(ctx context.Context, l *busconn.Listener, units []string) error {
	if err := c.Subscribe(ctx); err != nil {
		return err
	}
	rules := make([]busconn.Rule, len(units))
	err := busconn.Parallel(len(units), func(i int) error {
		at, err := c.Load(ctx, units[i])
		if NoUnit(err) {
			return nil
		}
		rules[i] = unitRule(at)
		return err
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
