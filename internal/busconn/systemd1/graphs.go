package systemd1

import (
	"context"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/internal/busconn"
	"github.com/dubnium/dubnium/observer/unitgraph"
)

// cacheTTL is for how long after a reading what ties the units is kept. It takes a
// signal for each unit that comes or goes, which an idle machine is not to be woken
// for.
const cacheTTL = 2 * time.Minute

// Graphs reads the units as Client.Graph does, and keeps for a while what does not
// change as long as a unit is loaded and the manager does not reload: most of it.
// A guard, a plan and a transition read it one after the other. Its methods may be
// called from many goroutines.
type Graphs struct {
	client *Client

	// listening lets one caller at a time see to it that changes are heard, which waits
	// for answers of the bus. mu is not held meanwhile: hear takes it on the goroutine
	// that reads those answers.
	listening sync.Mutex

	mu       sync.Mutex
	listener *busconn.Listener // nil while nothing is kept
	owner    uint64            // the listener's generation that the ties are of
	// subscribed: that manager sends its signals.
	subscribed bool
	relations  map[dbus.ObjectPath]*relations
	end        *time.Timer
}

// relations are what was read of one unit; a unit that is being read has an entry that
// is not known yet, and none any more once it has changed.
type relations struct {
	known bool
	id    string
	unit  unitgraph.Unit
}

// NewGraphs returns a reader over bus.
func NewGraphs(bus *busconn.Bus) *Graphs { return &Graphs{client: New(bus)} }

// Read is Client.Graph.
func (g *Graphs) Read(ctx context.Context, target string) (unitgraph.Graph, error) {
	if err := g.listen(ctx); err != nil {
		return nil, err
	}
	return g.client.graph(ctx, target, g.unit)
}

// listen sees to it that changes are heard before anything is read.
func (g *Graphs) listen(ctx context.Context) error {
	g.listening.Lock()
	defer g.listening.Unlock()
	if !g.extend() {
		var rules []busconn.Rule
		for _, member := range []string{"UnitNew", "UnitRemoved", "Reloading"} {
			rules = append(rules, busconn.Rule{Path: Path, Interface: managerInterface, Member: member})
		}
		l, err := g.client.bus.Listen(ctx, Name, g.hear, rules...)
		if err != nil {
			return err
		}
		g.keep(l)
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

// extend keeps what is kept for longer. It reports whether anything is.
func (g *Graphs) extend() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.listener == nil {
		return false
	}
	g.end.Reset(cacheTTL)
	return true
}

// keep begins to keep what l hears the changes of.
func (g *Graphs) keep(l *busconn.Listener) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.listener, g.relations, g.subscribed = l, map[dbus.ObjectPath]*relations{}, false
	_, g.owner = l.Owner()
	g.end = time.AfterFunc(cacheTTL, g.expire)
}

// current returns the listener, and whether the manager that it hears sends its
// signals. What is kept of another manager, or of one that has executed itself anew, is
// dropped.
func (g *Graphs) current() (l *busconn.Listener, subscribed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.listener == nil { // forgotten this moment: the reading keeps nothing
		return nil, false
	}
	if _, now := g.listener.Owner(); now != g.owner {
		g.owner, g.relations, g.subscribed = now, map[dbus.ObjectPath]*relations{}, false
	}
	return g.listener, g.subscribed
}

// expire ends what is kept; the next reading begins anew.
func (g *Graphs) expire() {
	g.mu.Lock()
	l := g.listener
	g.listener, g.relations = nil, nil
	g.mu.Unlock()
	if l != nil {
		l.Close()
	}
}

// hear notes what changed. It runs on the goroutine that reads from the bus, before
// any reply that was sent after the signal.
func (g *Graphs) hear(s *dbus.Signal) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(s.Body) == 2 { // UnitNew(so), UnitRemoved(so)
		if at, ok := s.Body[1].(dbus.ObjectPath); ok {
			delete(g.relations, at)
			return
		}
	}
	clear(g.relations)
}

// unit is graphUnit, from what is kept where that can be. What the list says of a
// unit is of now.
func (g *Graphs) unit(ctx context.Context, row unitRow) (string, unitgraph.Unit, error) {
	g.mu.Lock()
	entry := g.relations[row.Path]
	if entry != nil && entry.known && row.Active != "" {
		id, u := entry.id, entry.unit
		g.mu.Unlock()
		u.LoadState, u.ActiveState, u.Job = row.Load, row.Active, row.JobType
		return id, u, nil
	}
	entry = &relations{}
	if g.relations != nil {
		g.relations[row.Path] = entry
	}
	g.mu.Unlock()
	id, u, err := g.client.graphUnit(ctx, row)
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.relations[row.Path] != entry: // it changed meanwhile
	case err != nil || id == "":
		delete(g.relations, row.Path)
	default:
		entry.known, entry.id, entry.unit = true, id, u
	}
	return id, u, err
}
