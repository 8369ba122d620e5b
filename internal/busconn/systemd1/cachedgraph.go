package systemd1

import (
	"context"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/internal/busconn"
	"github.com/dubnium/dubnium/observer/unitgraph"
)

// cacheTTL is how long the cache is kept after it was last read. While it is kept, a signal arrives for each
// unit that is loaded or unloaded, which would wake the daemon on an idle machine.
const cacheTTL = 2 * time.Minute

// CachedGraph reads the units as Client.Graph does, and caches what does not change as long as a unit is
// loaded and the manager does not reload, which is most of it: a guard, a plan and a transition read the
// graph one after the other. Its methods may be called concurrently.
type CachedGraph struct {
	client *Client

	// subscribing is held by the caller that subscribes to changes, while it waits for replies of the bus. mu
	// is not held meanwhile: invalidate takes it on the goroutine that reads these replies.
	subscribing sync.Mutex

	mu       sync.Mutex
	listener *busconn.Listener // nil while nothing is cached
	owner    uint64            // the generation of the manager that the cache is of
	// subscribed: that manager sends its signals.
	subscribed bool
	units      map[dbus.ObjectPath]*cachedUnit
	expiry     *time.Timer
}

// cachedUnit is what was read of one unit. While it is being read it is not known; a change removes it from
// the cache, so that the reader does not store it.
type cachedUnit struct {
	known bool
	id    string
	unit  unitgraph.Unit
}

// NewCachedGraph returns a reader over bus.
func NewCachedGraph(bus *busconn.Bus) *CachedGraph { return &CachedGraph{client: New(bus)} }

// Read is Client.Graph.
func (g *CachedGraph) Read(ctx context.Context, target string) (unitgraph.Graph, error) {
	if err := g.subscribe(ctx); err != nil {
		return nil, err
	}
	return g.client.graph(ctx, target, g.unit)
}

// subscribe subscribes to changes, before anything is read.
func (g *CachedGraph) subscribe(ctx context.Context) error {
	g.subscribing.Lock()
	defer g.subscribing.Unlock()
	if !g.extend() {
		var rules []busconn.Rule
		for _, member := range []string{"UnitNew", "UnitRemoved", "Reloading"} {
			rules = append(rules, busconn.Rule{Path: Path, Interface: managerInterface, Member: member})
		}
		l, err := g.client.bus.Listen(ctx, Name, g.invalidate, rules...)
		if err != nil {
			return err
		}
		g.begin(l)
	}
	l, subscribed := g.current()
	if l == nil || subscribed {
		return nil
	}
	if err := g.client.Subscribe(ctx); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.subscribed = g.listener == l
	return nil
}

// extend restarts the cache's time to live. It reports whether there is a cache.
func (g *CachedGraph) extend() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.listener == nil {
		return false
	}
	g.expiry.Reset(cacheTTL)
	return true
}

// begin begins a cache whose changes l receives.
func (g *CachedGraph) begin(l *busconn.Listener) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.listener, g.units, g.subscribed = l, map[dbus.ObjectPath]*cachedUnit{}, false
	_, g.owner = l.Owner()
	g.expiry = time.AfterFunc(cacheTTL, g.expire)
}

// current returns the listener, and whether the manager sends its signals. It empties the cache when the
// manager is another one, or has re-executed itself.
func (g *CachedGraph) current() (l *busconn.Listener, subscribed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.listener == nil { // expired just now: this reading caches nothing
		return nil, false
	}
	if _, now := g.listener.Owner(); now != g.owner {
		g.owner, g.units, g.subscribed = now, map[dbus.ObjectPath]*cachedUnit{}, false
	}
	return g.listener, g.subscribed
}

// expire ends the cache; the next reading begins another.
func (g *CachedGraph) expire() {
	g.mu.Lock()
	l := g.listener
	g.listener, g.units = nil, nil
	g.mu.Unlock()
	if l != nil {
		l.Close()
	}
}

// invalidate removes what a signal says has changed. It runs on the goroutine that reads from the bus, before
// any reply that was sent after the signal.
func (g *CachedGraph) invalidate(s *dbus.Signal) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(s.Body) == 2 { // UnitNew(so), UnitRemoved(so)
		if at, ok := s.Body[1].(dbus.ObjectPath); ok {
			delete(g.units, at)
			return
		}
	}
	clear(g.units)
}

// unit is graphUnit, from the cache where it has the unit. The states in the row are current.
func (g *CachedGraph) unit(ctx context.Context, row unitRow) (string, unitgraph.Unit, error) {
	g.mu.Lock()
	entry := g.units[row.Path]
	if entry != nil && entry.known && row.Active != "" {
		id, u := entry.id, entry.unit
		g.mu.Unlock()
		u.LoadState, u.ActiveState, u.Job = row.Load, row.Active, row.JobType
		return id, u, nil
	}
	entry = &cachedUnit{}
	if g.units != nil {
		g.units[row.Path] = entry
	}
	g.mu.Unlock()
	id, u, err := g.client.graphUnit(ctx, row)
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.units[row.Path] != entry: // it changed meanwhile
	case err != nil || id == "":
		delete(g.units, row.Path)
	default:
		entry.known, entry.id, entry.unit = true, id, u
	}
	return id, u, err
}
