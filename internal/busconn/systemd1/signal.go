package systemd1

import (
	"context"
	"errors"
	"fmt"
	"path"
	"sync"

	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/internal/busconn"
)

// unitNew is sent for each unit that is loaded, scopes and mounts included. It is
// subscribed to only with a pattern of units whose names are not known before.
var unitNew = busconn.Rule{Path: Path, Interface: managerInterface, Member: "UnitNew"}

// managerRules are the manager's signals after which a read may give another result: the
// end of the boot (SystemState has no change signal), a reload and a change of unit files,
// after which a name may mean another unit.
func managerRules() []busconn.Rule {
	var rules []busconn.Rule
	for _, member := range []string{"StartupFinished", "Reloading", "UnitFilesChanged"} {
		rules = append(rules, busconn.Rule{Path: Path, Interface: managerInterface, Member: member})
	}
	return rules
}

// unitRule matches changes of one unit's properties, its Job included. A rule for all
// units would wake the daemon for every scope and mount of the host.
func unitRule(at dbus.ObjectPath) busconn.Rule {
	return busconn.Rule{
		Path: at, Interface: "org.freedesktop.DBus.Properties", Member: "PropertiesChanged", Arg0: unitInterface,
	}
}

const propertiesChanged = "org.freedesktop.DBus.Properties.PropertiesChanged"

// Watch calls changed whenever a read of the units or the manager's state may give
// another result, until ctx ends: with the objects of the units that have sent a signal,
// by their given names, or with nil if it may be any of them. It follows the units, and
// those that match pattern unless it is empty, across reloads and restarts of the
// manager. Errors: systemd can no longer be watched.
func (c *Client) Watch(
	ctx context.Context, units []string, pattern string, changed func(map[string]dbus.ObjectPath),
) error {
	w := &watch{client: c, units: units, pattern: pattern, renamed: make(chan struct{}, 1)}
	l, err := c.bus.Listen(ctx, Name, w.handle, w.rules()...)
	if err != nil {
		return err
	}
	defer l.Close()
	for {
		present, generation := l.Owner()
		if present {
			w.held.setGeneration(generation)
			if err := w.follow(ctx, l); err != nil && !errors.Is(err, busconn.ErrAbsent) {
				return err
			}
		}
		w.take()
		changed(nil)
		if err := w.awaitMove(ctx, l, generation, changed); err != nil {
			return err
		}
	}
}

// watch is the state of one Watch.
type watch struct {
	client  *Client
	units   []string
	pattern string        // of further units, empty for none
	renamed chan struct{} // capacity 1: names may mean other units
	held    references

	mu         sync.Mutex
	names      map[dbus.ObjectPath][]string // of the units that are followed
	signalled  map[string]dbus.ObjectPath
	everything bool
}

// handle records what a signal is about.
func (w *watch) handle(s *dbus.Signal) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch s.Name {
	case managerInterface + ".Reloading", managerInterface + ".UnitFilesChanged":
		select {
		case w.renamed <- struct{}{}:
		default:
		}
	case unitNew.Interface + "." + unitNew.Member:
		if !w.isNewMatch(s) {
			return
		}
		select {
		case w.renamed <- struct{}{}:
		default:
		}
	case propertiesChanged:
		for _, name := range w.names[s.Path] {
			if w.signalled == nil {
				w.signalled = map[string]dbus.ObjectPath{}
			}
			w.signalled[name] = s.Path
		}
		return
	}
	w.everything = true
}

// rules are the rules that do not depend on the units.
func (w *watch) rules() []busconn.Rule {
	if w.pattern == "" {
		return managerRules()
	}
	return append(managerRules(), unitNew)
}

// isNewMatch reports whether UnitNew(s id, o unit) is of a unit that matches the pattern
// and is not followed yet.
func (w *watch) isNewMatch(s *dbus.Signal) bool {
	if len(s.Body) != 2 {
		return false
	}
	name, isString := s.Body[0].(string)
	at, isPath := s.Body[1].(dbus.ObjectPath)
	matches, err := path.Match(w.pattern, name)
	_, followed := w.names[at]
	return isString && isPath && err == nil && matches && !followed
}

// take returns what was recorded since the last take; nil means everything.
func (w *watch) take() map[string]dbus.ObjectPath {
	w.mu.Lock()
	defer w.mu.Unlock()
	signalled, everything := w.signalled, w.everything || w.signalled == nil
	w.signalled, w.everything = nil, false
	if everything {
		return nil
	}
	return signalled
}

// references are the units that the manager keeps loaded for this connection (RefUnit).
// Otherwise it unloads an inactive unit that nothing refers to after each call, so that
// every read loads its files and sends a signal. The manager drops the references when the
// connection ends.
type references struct {
	generation uint64
	mu         sync.Mutex
	units      map[dbus.ObjectPath]bool
}

// setGeneration drops the references of another manager. One that has re-executed itself
// keeps them, and counts them twice, which is harmless.
func (h *references) setGeneration(generation uint64) {
	if h.units == nil || h.generation != generation {
		h.generation, h.units = generation, map[dbus.ObjectPath]bool{}
	}
}

// add adds a reference to a unit. The manager refuses it for a unit without a file, a
// masked one, or one whose file cannot be read; such a unit is followed without it.
func (h *references) add(ctx context.Context, c *Client, unit string, at dbus.ObjectPath) error {
	h.mu.Lock()
	held := h.units[at]
	h.mu.Unlock()
	if held {
		return nil
	}
	_, err := c.call(ctx, "RefUnit", unit)
	var refused dbus.Error
	if errors.As(err, &refused) {
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

// follow subscribes to the manager and to the present objects of the units, and keeps the
// units loaded.
func (w *watch) follow(ctx context.Context, l *busconn.Listener) error {
	if err := w.client.Subscribe(ctx); err != nil {
		return err
	}
	units, err := w.client.Matching(ctx, w.pattern)
	if err != nil {
		return err
	}
	units = append(units, w.units...)
	rules := make([]busconn.Rule, len(units))
	err = busconn.Parallel(len(units), func(i int) error {
		at, err := w.client.Load(ctx, units[i])
		if NoUnit(err) {
			return nil
		}
		if err != nil {
			return err
		}
		rules[i] = unitRule(at)
		return w.held.add(ctx, w.client, units[i], at)
	})
	if err != nil {
		return err
	}
	names := map[dbus.ObjectPath][]string{}
	for i, r := range rules {
		names[r.Path] = append(names[r.Path], units[i])
	}
	w.mu.Lock()
	w.names = names
	w.mu.Unlock()
	all := w.rules()
	for _, r := range rules {
		if r.Path != "" {
			all = append(all, r)
		}
	}
	return l.SetRules(ctx, all...)
}

// awaitMove passes changes on until the units have to be followed again.
func (w *watch) awaitMove(
	ctx context.Context, l *busconn.Listener, since uint64, changed func(map[string]dbus.ObjectPath),
) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.client.bus.Done():
			return fmt.Errorf("cannot watch systemd: %w", busconn.ErrDisconnected)
		case <-w.renamed:
			return nil
		case <-l.C():
			if _, generation := l.Owner(); generation != since {
				return nil
			}
			changed(w.take())
		}
	}
}
