package busconn

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
)

// Rule selects signals of a service. An empty field matches all.
type Rule struct {
	Path      dbus.ObjectPath
	Below     dbus.ObjectPath // any path below this one, in place of Path
	Interface string
	Member    string
	Arg0      string
}

// match formats the rule for the bus (D-Bus specification, "Match Rules").
func (r Rule) match(sender string) string {
	var b strings.Builder
	b.WriteString("type='signal'")
	for _, part := range []struct{ key, value string }{
		{"sender", sender},
		{"path", string(r.Path)},
		{"path_namespace", string(r.Below)},
		{"interface", r.Interface},
		{"member", r.Member},
		{"arg0", r.Arg0},
	} {
		if part.value != "" {
			fmt.Fprintf(&b, ",%s='%s'", part.key, part.value)
		}
	}
	return b.String()
}

// covers reports whether the rule matches the signal. The bus delivers what any rule of
// the connection matches, and, without a rule, what is sent to this connection alone.
func (r Rule) covers(s *dbus.Signal) bool {
	if r.Path != "" && r.Path != s.Path ||
		r.Below != "" && !strings.HasPrefix(string(s.Path), string(r.Below)+"/") ||
		r.Interface+"."+r.Member != s.Name {
		return false
	}
	if r.Arg0 == "" {
		return true
	}
	if len(s.Body) == 0 {
		return false
	}
	arg, ok := s.Body[0].(string)
	return ok && arg == r.Arg0
}

// Listener receives the signals of one service.
type Listener struct {
	bus    *Bus
	name   string
	handle func(*dbus.Signal)
	notify chan struct{} // capacity 1
	owning Rule

	mu         sync.Mutex
	rules      []Rule
	owner      string
	signaled   bool   // a signal has set owner since the rule is in place
	generation uint64 // counts changes of owner
}

// Listen subscribes to the signals of the owner of name that match one of the rules.
// handle may be nil. It runs on the goroutine that reads from the bus, so it must not
// block or wait, and it has to check the types of the signal's body. C is notified after
// each signal and each change of owner.
func (b *Bus) Listen(ctx context.Context, name string, handle func(*dbus.Signal), rules ...Rule) (*Listener, error) {
	if handle == nil {
		handle = func(*dbus.Signal) {}
	}
	l := &Listener{bus: b, name: name, handle: handle, notify: make(chan struct{}, 1), owning: Rule{
		Interface: "org.freedesktop.DBus", Member: "NameOwnerChanged", Arg0: name,
	}}
	b.mu.Lock()
	b.listeners[l] = struct{}{}
	b.mu.Unlock()
	err := b.addMatch(ctx, l.owning.match(busName))
	if err == nil {
		err = l.findOwner(ctx)
	}
	if err == nil {
		err = l.SetRules(ctx, rules...)
	}
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("cannot listen to %s: %w", name, err)
	}
	return l, nil
}

const busName = "org.freedesktop.DBus"

// addMatch sends the rule even if ctx has ended: Close removes every rule, and removing
// one that was never added would remove an equal rule of another listener.
func (b *Bus) addMatch(ctx context.Context, match string) error {
	call := b.conn.BusObject().Go(busName+".AddMatch", 0, make(chan *dbus.Call, 1), match)
	select {
	case <-call.Done:
		return b.explain(ctx, busName, call.Err)
	case <-ctx.Done():
		return b.explain(ctx, busName, ctx.Err())
	}
}

// findOwner reads the owner of the name. An owner from a signal that arrived meanwhile is
// at least as new as the reply.
func (l *Listener) findOwner(ctx context.Context) error {
	var owner string
	reply := l.bus.conn.BusObject().CallWithContext(ctx, busName+".GetNameOwner", 0, l.name)
	if reply.Err != nil && !IsError(reply.Err, busName+".Error.NameHasNoOwner") {
		return l.bus.explain(ctx, busName, reply.Err)
	}
	if reply.Err == nil {
		if err := reply.Store(&owner); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.signaled {
		l.owner = owner
	}
	return nil
}

// SetRules replaces the rules. New ones are in effect when it returns.
func (l *Listener) SetRules(ctx context.Context, rules ...Rule) error {
	l.mu.Lock()
	old := l.rules
	l.rules = slices.Clone(rules)
	l.mu.Unlock()
	for _, r := range old {
		if !slices.Contains(rules, r) {
			l.bus.removeMatch(r.match(l.name))
		}
	}
	return Parallel(len(rules), func(i int) error {
		if slices.Contains(old, rules[i]) {
			return nil
		}
		return l.bus.addMatch(ctx, rules[i].match(l.name))
	})
}

// removeMatch does not wait for the reply: covers drops what a remaining rule lets in.
func (b *Bus) removeMatch(match string) {
	b.conn.BusObject().Go(busName+".RemoveMatch", dbus.FlagNoReplyExpected, nil, match)
}

// Close ends the subscription. The handler does not run after it.
func (l *Listener) Close() {
	l.bus.mu.Lock()
	delete(l.bus.listeners, l)
	l.bus.mu.Unlock()
	l.mu.Lock()
	rules := l.rules
	l.rules = nil
	l.mu.Unlock()
	for _, r := range rules {
		l.bus.removeMatch(r.match(l.name))
	}
	l.bus.removeMatch(l.owning.match(busName))
}

// C receives a value after signals and changes of owner; several are coalesced.
func (l *Listener) C() <-chan struct{} { return l.notify }

// Owner reports whether the service is on the bus, and counts the changes of its owner.
// After a change signals may have been missed.
func (l *Listener) Owner() (present bool, generation uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.owner != "", l.generation
}

// absence is how long Wait tolerates the absence of a service. systemd leaves the bus for
// a moment when it re-executes itself, and keeps its jobs; logind when it restarts, and
// keeps its sessions.
const absence = 10 * time.Second

// Wait waits for a value of C or of timeout. It fails when ctx or the connection ends,
// and when the service stays absent from the bus.
func (l *Listener) Wait(ctx context.Context, timeout <-chan time.Time) error {
	var away <-chan time.Time
	if present, _ := l.Owner(); !present {
		timer := time.NewTimer(l.bus.absence)
		defer timer.Stop()
		away = timer.C
	}
	select {
	case <-l.notify:
		return nil
	case <-timeout:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-l.bus.Done():
		return ErrDisconnected
	case <-away:
		return fmt.Errorf("%s has left the bus", l.name)
	}
}

// DeliverSignal implements dbus.SignalHandler: the default handler of godbus starts a
// goroutine for each signal that overflows, which reorders them. It runs on the goroutine
// that reads from the bus.
func (b *Bus) DeliverSignal(_, _ string, s *dbus.Signal) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for l := range b.listeners {
		if l.deliver(s) {
			select {
			case l.notify <- struct{}{}:
			default:
			}
		}
	}
}

// deliver reports whether the signal was for this listener.
func (l *Listener) deliver(s *dbus.Signal) bool {
	if s.Sender == busName && l.owning.covers(s) {
		return l.setOwner(s)
	}
	l.mu.Lock()
	ours := l.owner != "" && s.Sender == l.owner &&
		slices.ContainsFunc(l.rules, func(r Rule) bool { return r.covers(s) })
	l.mu.Unlock()
	if ours {
		l.handle(s)
	}
	return ours
}

func (l *Listener) setOwner(s *dbus.Signal) bool {
	if len(s.Body) != 3 {
		return false
	}
	owner, ok := s.Body[2].(string)
	if !ok {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.owner, l.signaled = owner, true
	l.generation++
	return true
}
