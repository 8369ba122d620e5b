package bed

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/dubnium/dubnium/e2e/internal/guest"
	"github.com/dubnium/dubnium/e2e/internal/wire"
)

// Signal is a signal of the guest's system bus. Args are as JSON has them, numbers as json.Number; variants are their
// values.
type Signal = wire.BusSignal

// Watch listens to the guest's system bus.
type Watch struct {
	stream *guest.Stream

	mu      sync.Mutex
	rest    []byte // the beginning of a line
	seen    []Signal
	next    int           // the first of seen that Await has not returned or passed over
	err     error         // why a line could not be read
	changed chan struct{} // closed and replaced at each signal
}

// Watch subscribes by match rules, such as "interface='org.dubnium.Mode1'". When it returns the subscription is in
// place: start the action then, and no signal is missed.
func (v *VM) Watch(ctx context.Context, rules ...string) (*Watch, error) {
	w := &Watch{changed: make(chan struct{})}
	var all []string
	for _, rule := range rules {
		if !strings.Contains(rule, "type=") {
			rule = "type='signal'," + rule
		}
		all = append(all, rule)
	}
	var err error
	if w.stream, err = v.agent.Open(ctx, wire.Request{Watch: &wire.Watch{Rules: all}}, w.take); err != nil {
		return nil, err
	}
	if _, err := w.stream.Ready(ctx); err != nil {
		return nil, fmt.Errorf("cannot watch the guest's bus: %w", err)
	}
	return w, nil
}

func (w *Watch) take(f wire.Frame) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rest = append(w.rest, f.Body...)
	for {
		line, rest, ok := bytes.Cut(w.rest, []byte("\n"))
		if !ok {
			break
		}
		w.rest = rest
		var s Signal
		d := json.NewDecoder(bytes.NewReader(line))
		d.UseNumber()
		if err := d.Decode(&s); err != nil {
			w.err = fmt.Errorf("cannot read a signal of the guest's bus: %w", err)
			break
		}
		w.seen = append(w.seen, s)
	}
	close(w.changed)
	w.changed = make(chan struct{})
}

// Await returns the next signal that satisfies ok. Signals before it are passed over: a later Await does not see them.
func (w *Watch) Await(ctx context.Context, ok func(Signal) bool) (Signal, error) {
	for {
		s, found, changed, err := w.scan(ok)
		if found || err != nil {
			return s, err
		}
		select {
		case <-changed:
		case <-w.stream.Done():
			if s, found, _, err := w.scan(ok); found || err != nil {
				return s, err
			}
			_, err := w.stream.Wait(ctx)
			return Signal{}, errors.Join(errors.New("the watch of the guest's bus has ended"), err)
		case <-ctx.Done():
			return Signal{}, fmt.Errorf("cannot wait any longer for a signal: %w; seen: %s", ctx.Err(), w.names())
		}
	}
}

func (w *Watch) scan(ok func(Signal) bool) (s Signal, found bool, changed <-chan struct{}, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.next < len(w.seen) {
		s := w.seen[w.next]
		w.next++
		if ok(s) {
			return s, true, nil, nil
		}
	}
	return Signal{}, false, w.changed, w.err
}

// Seen are all signals so far, in order.
func (w *Watch) Seen() []Signal {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]Signal(nil), w.seen...)
}

func (w *Watch) names() []string {
	var names []string
	for _, s := range w.Seen() {
		names = append(names, s.Member)
	}
	return names
}

// Close ends the subscription.
func (w *Watch) Close(ctx context.Context) error { return w.stream.Cancel(ctx) }

// Member is a condition for Await: a signal of that name.
func Member(name string) func(Signal) bool {
	return func(s Signal) bool { return s.Member == name }
}
