package daemon

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// Source looks at one part of the world.
type Source interface {
	Name() string
	// Watch pokes changed whenever a look may give another answer. It returns when
	// ctx ends, or with an error when it can watch no longer.
	Watch(ctx context.Context, changed func()) error
	// Read reads afresh, bounded by ctx. It never fails: what could not be read is
	// a Part whose Reading says why.
	Read(ctx context.Context) observer.Part
}

// IncrementalReader is a source that can look again at what has signalled alone. Whoever
// waits for a look has a whole one: a signal may be lost, and a guard must not be.
type IncrementalReader interface {
	ReadChanged(ctx context.Context) observer.Part
}

// Polled is a source whose looks cost something and that nothing signals: it is
// looked at when it can matter. Due says when the next look is due, given what is
// known now; the zero time means that there is nothing to see.
type Polled interface {
	NextPoll(observer.Snapshot) time.Time
}

// DependentSource is a source whose part of the world depends on what the others saw.
// Follow is called after each look of another source, and must not wait.
type DependentSource interface {
	OnSnapshot(observer.Snapshot)
}

// PolicyAware is a source that looks as policy says. Adopt gives it the policy that
// holds from now on: whatever looks begin later are by that one.
type PolicyAware interface {
	SetPolicy(policy.Policy)
}

// Monitor keeps the latest look of every source. Signals only say that a look is
// worth while; a burst of them costs one.
type Monitor struct {
	sources     []*watched
	readTimeout atomic.Int64 // a time.Duration
	log         *zap.Logger
	changed     chan struct{}

	mu          sync.Mutex
	snapshot    observer.Snapshot
	subscribers map[chan struct{}]struct{}
}

// watched is one source with the ways to make it look.
type watched struct {
	Source
	changed         chan struct{}      // a signal said that something may have changed
	reschedule      chan struct{}      // the pace may have changed
	refreshRequests chan chan struct{} // someone waits for a look that begins from now on
}

// NewMonitor returns eyes over sources; each look is bounded by lookTimeout.
func NewMonitor(lookTimeout time.Duration, log *zap.Logger, sources ...Source) *Monitor {
	e := &Monitor{
		log:         log,
		changed:     make(chan struct{}, 1),
		subscribers: make(map[chan struct{}]struct{}),
	}
	e.readTimeout.Store(int64(lookTimeout))
	for _, s := range sources {
		e.sources = append(e.sources, &watched{
			Source: s, changed: make(chan struct{}, 1), reschedule: make(chan struct{}, 1),
			refreshRequests: make(chan chan struct{}),
		})
	}
	return e
}

// SetPolicy makes p what is looked by from now on. What is known was seen by the
// policy before: ask for a Fresh look before it is judged by this one.
func (e *Monitor) SetPolicy(p policy.Policy) {
	e.readTimeout.Store(int64(p.Timeouts.Look))
	for _, w := range e.sources {
		if governed, ok := w.Source.(PolicyAware); ok {
			governed.SetPolicy(p)
		}
		notify(w.reschedule)
	}
}

func (e *Monitor) bound() time.Duration { return time.Duration(e.readTimeout.Load()) }

// Run looks and watches until ctx ends.
func (e *Monitor) Run(ctx context.Context) {
	var all sync.WaitGroup
	for _, w := range e.sources {
		all.Go(func() { e.watch(ctx, w) })
		all.Go(func() { e.serveReads(ctx, w) })
	}
	all.Wait()
}

// Changed is poked when Snapshot may differ from the last one read.
func (e *Monitor) Changed() <-chan struct{} { return e.changed }

// Snapshot returns what is known now, without looking.
func (e *Monitor) Snapshot() observer.Snapshot {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.snapshot
}

// Fresh returns a snapshot of which the named parts, or all when none is named,
// were looked at after the call. The error is ctx's.
func (e *Monitor) Fresh(ctx context.Context, sources ...string) (observer.Snapshot, error) {
	var replies []chan struct{}
	for _, w := range e.sources {
		if len(sources) > 0 && !slices.Contains(sources, w.Name()) {
			continue
		}
		reply := make(chan struct{})
		select {
		case w.refreshRequests <- reply:
			replies = append(replies, reply)
		case <-ctx.Done():
			return observer.Snapshot{}, ctx.Err()
		}
	}
	for _, reply := range replies {
		select {
		case <-reply:
		case <-ctx.Done():
			return observer.Snapshot{}, ctx.Err()
		}
	}
	return e.Snapshot(), nil
}

// Subscribe returns a channel that is poked on every signal, for someone who waits
// for the host to change, and a function that ends it.
func (e *Monitor) Subscribe() (<-chan struct{}, func()) {
	hint := make(chan struct{}, 1)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.subscribers[hint] = struct{}{}
	return hint, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.subscribers, hint)
	}
}

// rewatchDelay is how long a source that lost its world waits before it watches
// again; its facts are unknown meanwhile, by its own looks.
const rewatchDelay = time.Second

func (e *Monitor) watch(ctx context.Context, w *watched) {
	signal := func() {
		notify(w.changed)
		e.mu.Lock()
		defer e.mu.Unlock()
		for hint := range e.subscribers {
			notify(hint)
		}
	}
	for {
		// What happened before the watch began, nobody has signalled.
		signal()
		err := w.Watch(ctx, signal)
		if ctx.Err() != nil {
			return
		}
		e.log.Warn("a source stopped watching", zap.String("source", w.Name()), zap.Error(err))
		select {
		case <-ctx.Done():
			return
		case <-time.After(rewatchDelay):
		}
	}
}

// serveReads serves one source: one look at a time, for all who asked before it began.
func (e *Monitor) serveReads(ctx context.Context, w *watched) {
	due := time.NewTimer(0)
	due.Stop()
	defer due.Stop()
	for {
		var waiting []chan struct{}
		look := w.Read
		select {
		case <-ctx.Done():
			return
		case <-w.reschedule:
			e.setNextPoll(due, w)
			continue
		case <-w.changed:
			if glancer, ok := w.Source.(IncrementalReader); ok {
				look = glancer.ReadChanged
			}
		case <-due.C:
		case reply := <-w.refreshRequests:
			waiting = append(waiting, reply)
		}
		if waiting = append(waiting, drain(w.refreshRequests)...); len(waiting) > 0 {
			look = w.Read
		}
		known := e.readOnce(ctx, w, look)
		for _, reply := range waiting {
			close(reply)
		}
		e.setNextPoll(due, w)
		if _, paced := w.Source.(Polled); !known && !paced {
			// What could not be read now may be read soon, and nobody signals that.
			due.Reset(e.bound())
		}
	}
}

// readOnce reports whether the look succeeded.
func (e *Monitor) readOnce(ctx context.Context, w *watched, look func(context.Context) observer.Part) (known bool) {
	ctx, cancel := context.WithTimeout(ctx, e.bound())
	defer cancel()
	part := look(ctx)
	e.mu.Lock()
	woken := e.snapshot.Logind.WokenAt
	part.Into(&e.snapshot)
	slept := !e.snapshot.Logind.WokenAt.Equal(woken)
	e.mu.Unlock()
	notify(e.changed)
	now := e.Snapshot()
	for _, other := range e.sources {
		if other == w {
			continue
		}
		if follower, ok := other.Source.(DependentSource); ok {
			follower.OnSnapshot(now)
		}
		if slept { // timers stood still, and devices may have gone and come
			notify(other.changed)
		} else {
			notify(other.reschedule)
		}
	}
	return part.Known()
}

// setNextPoll arms the timer for a source that nothing signals. What another source
// saw may have made a look due, or not due.
func (e *Monitor) setNextPoll(timer *time.Timer, w *watched) {
	costly, ok := w.Source.(Polled)
	if !ok {
		return
	}
	timer.Stop()
	if at := costly.NextPoll(e.Snapshot()); !at.IsZero() {
		timer.Reset(max(0, time.Until(at)))
	}
}

func drain(wants <-chan chan struct{}) []chan struct{} {
	var waiting []chan struct{}
	for {
		select {
		case reply := <-wants:
			waiting = append(waiting, reply)
		default:
			return waiting
		}
	}
}

// notify sets a flag that somebody waits for; setting it twice is setting it once.
func notify(flag chan<- struct{}) {
	select {
	case flag <- struct{}{}:
	default:
	}
}
