package daemon

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dubnium/dubnium/internal/zap"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// Source looks at one part of the world.
type Source interface {
	Name() string
	// Watch pokes changed whenever a look may give another answer. It returns when
	// ctx ends, or with an error when it can watch no longer.
	Watch(ctx context.Context, changed func()) error
	// Look reads afresh, bounded by ctx. It never fails: what could not be read is
	// a Part whose Reading says why.
	Look(ctx context.Context) observer.Part
}

// Glancer is a source that can look again at what has signalled alone. Whoever
// waits for a look has a whole one: a signal may be lost, and a guard must not be.
type Glancer interface {
	Glance(ctx context.Context) observer.Part
}

// Costly is a source whose looks cost something and that nothing signals: it is
// looked at when it can matter. Due says when the next look is due, given what is
// known now; the zero time means that there is nothing to see.
type Costly interface {
	Due(observer.Snapshot) time.Time
}

// Follower is a source whose part of the world depends on what the others saw.
// Follow is called after each look of another source, and must not wait.
type Follower interface {
	Follow(observer.Snapshot)
}

// Governed is a source that looks as policy says. Adopt gives it the policy that
// holds from now on: whatever looks begin later are by that one.
type Governed interface {
	Adopt(policy.Policy)
}

// Eyes keeps the latest look of every source. Signals only say that a look is
// worth while; a burst of them costs one.
type Eyes struct {
	sources     []*watched
	lookTimeout atomic.Int64 // a time.Duration
	log         *zap.Logger
	changed     chan struct{}

	mu       sync.Mutex
	snapshot observer.Snapshot
	hints    map[chan struct{}]struct{}
}

// watched is one source with the ways to make it look.
type watched struct {
	Source
	dirty chan struct{}      // a signal said that something may have changed
	again chan struct{}      // the pace may have changed
	wants chan chan struct{} // someone waits for a look that begins from now on
}

// NewEyes returns eyes over sources; each look is bounded by lookTimeout.
func NewEyes(lookTimeout time.Duration, log *zap.Logger, sources ...Source) *Eyes {
	e := &Eyes{
		log:     log,
		changed: make(chan struct{}, 1),
		hints:   make(map[chan struct{}]struct{}),
	}
	e.lookTimeout.Store(int64(lookTimeout))
	for _, s := range sources {
		e.sources = append(e.sources, &watched{
			Source: s, dirty: make(chan struct{}, 1), again: make(chan struct{}, 1),
			wants: make(chan chan struct{}),
		})
	}
	return e
}

// Adopt makes p what is looked by from now on. What is known was seen by the
// policy before: ask for a Fresh look before it is judged by this one.
func (e *Eyes) Adopt(p policy.Policy) {
	e.lookTimeout.Store(int64(p.Timeouts.Look))
	for _, w := range e.sources {
		if governed, ok := w.Source.(Governed); ok {
			governed.Adopt(p)
		}
		poke(w.again)
	}
}

func (e *Eyes) bound() time.Duration { return time.Duration(e.lookTimeout.Load()) }

// Run looks and watches until ctx ends.
func (e *Eyes) Run(ctx context.Context) {
	var all sync.WaitGroup
	for _, w := range e.sources {
		all.Go(func() { e.watch(ctx, w) })
		all.Go(func() { e.look(ctx, w) })
	}
	all.Wait()
}

// Changed is poked when Snapshot may differ from the last one read.
func (e *Eyes) Changed() <-chan struct{} { return e.changed }

// Snapshot returns what is known now, without looking.
func (e *Eyes) Snapshot() observer.Snapshot {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.snapshot
}

// Fresh returns a snapshot of which the named parts, or all when none is named,
// were looked at after the call. The error is ctx's.
func (e *Eyes) Fresh(ctx context.Context, sources ...string) (observer.Snapshot, error) {
	var replies []chan struct{}
	for _, w := range e.sources {
		if len(sources) > 0 && !slices.Contains(sources, w.Name()) {
			continue
		}
		reply := make(chan struct{})
		select {
		case w.wants <- reply:
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

// Hint returns a channel that is poked on every signal, for someone who waits
// for the host to change, and a function that ends it.
func (e *Eyes) Hint() (<-chan struct{}, func()) {
	hint := make(chan struct{}, 1)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.hints[hint] = struct{}{}
	return hint, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.hints, hint)
	}
}

// watchAgain is how long a source that lost its world waits before it watches
// again; its facts are unknown meanwhile, by its own looks.
const watchAgain = time.Second

func (e *Eyes) watch(ctx context.Context, w *watched) {
	signal := func() {
		poke(w.dirty)
		e.mu.Lock()
		defer e.mu.Unlock()
		for hint := range e.hints {
			poke(hint)
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
		case <-time.After(watchAgain):
		}
	}
}

// look serves one source: one look at a time, for all who asked before it began.
func (e *Eyes) look(ctx context.Context, w *watched) {
	due := time.NewTimer(0)
	due.Stop()
	defer due.Stop()
	for {
		var waiting []chan struct{}
		look := w.Look
		select {
		case <-ctx.Done():
			return
		case <-w.again:
			e.setDue(due, w)
			continue
		case <-w.dirty:
			if glancer, ok := w.Source.(Glancer); ok {
				look = glancer.Glance
			}
		case <-due.C:
		case reply := <-w.wants:
			waiting = append(waiting, reply)
		}
		if waiting = append(waiting, drain(w.wants)...); len(waiting) > 0 {
			look = w.Look
		}
		known := e.lookOnce(ctx, w, look)
		for _, reply := range waiting {
			close(reply)
		}
		e.setDue(due, w)
		if _, paced := w.Source.(Costly); !known && !paced {
			// What could not be read now may be read soon, and nobody signals that.
			due.Reset(e.bound())
		}
	}
}

// lookOnce reports whether the look succeeded.
func (e *Eyes) lookOnce(ctx context.Context, w *watched, look func(context.Context) observer.Part) (known bool) {
	ctx, cancel := context.WithTimeout(ctx, e.bound())
	defer cancel()
	part := look(ctx)
	e.mu.Lock()
	woken := e.snapshot.Logind.WokenAt
	part.Into(&e.snapshot)
	slept := !e.snapshot.Logind.WokenAt.Equal(woken)
	e.mu.Unlock()
	poke(e.changed)
	now := e.Snapshot()
	for _, other := range e.sources {
		if other == w {
			continue
		}
		if follower, ok := other.Source.(Follower); ok {
			follower.Follow(now)
		}
		if slept { // timers stood still, and devices may have gone and come
			poke(other.dirty)
		} else {
			poke(other.again)
		}
	}
	return part.Known()
}

// setDue arms the timer for a source that nothing signals. What another source
// saw may have made a look due, or not due.
func (e *Eyes) setDue(timer *time.Timer, w *watched) {
	costly, ok := w.Source.(Costly)
	if !ok {
		return
	}
	timer.Stop()
	if at := costly.Due(e.Snapshot()); !at.IsZero() {
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

// poke sets a flag that somebody waits for; setting it twice is setting it once.
func poke(flag chan<- struct{}) {
	select {
	case flag <- struct{}{}:
	default:
	}
}
