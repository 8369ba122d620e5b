// Package monitor reads the sources, follows their signals and keeps the latest
// snapshot of the host.
package monitor

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

// Source reads one part of the host.
type Source interface {
	Name() string
	// Watch calls changed whenever a read may give another result. It returns when ctx
	// ends, or with an error when it cannot watch any longer.
	Watch(ctx context.Context, changed func()) error
	// Read reads everything, bounded by ctx. It never fails: what could not be read is a
	// Part whose Reading says why.
	Read(ctx context.Context) observer.Part
}

// IncrementalReader is a Source that can read only what has signalled. It is used after
// a signal. Fresh always uses Read, because a signal may be lost.
type IncrementalReader interface {
	ReadChanged(ctx context.Context) observer.Part
}

// Polled is a Source whose part of the host sends no signals.
type Polled interface {
	// NextPoll is when to read next, given what is known now. The zero time is never.
	NextPoll(observer.Snapshot) time.Time
}

// DependentSource is a Source that needs to know what other sources have read.
type DependentSource interface {
	// OnSnapshot is called after each read of another source. It must not block.
	OnSnapshot(observer.Snapshot)
}

// PolicyAware is a Source whose reads depend on the policy.
type PolicyAware interface {
	// SetPolicy sets the policy for all reads that begin later.
	SetPolicy(policy.Policy)
}

// Monitor keeps the latest result of every source. A burst of signals costs one read.
type Monitor struct {
	sources     []*watched
	readTimeout atomic.Int64 // a time.Duration
	log         *zap.Logger
	changed     chan struct{}

	mu          sync.Mutex
	snapshot    observer.Snapshot
	subscribers map[chan struct{}]struct{}
}

// watched is a source with the channels that make it read.
type watched struct {
	Source
	signalled  chan struct{}      // the source signalled a change
	reschedule chan struct{}      // the time of the next poll may have changed
	requests   chan chan struct{} // somebody waits for a read that begins from now on
}

// New returns a monitor of sources. readTimeout bounds each read.
func New(readTimeout time.Duration, log *zap.Logger, sources ...Source) *Monitor {
	m := &Monitor{
		log:         log,
		changed:     make(chan struct{}, 1),
		subscribers: make(map[chan struct{}]struct{}),
	}
	m.readTimeout.Store(int64(readTimeout))
	for _, s := range sources {
		m.sources = append(m.sources, &watched{
			Source: s, signalled: make(chan struct{}, 1), reschedule: make(chan struct{}, 1),
			requests: make(chan chan struct{}),
		})
	}
	return m
}

// SetPolicy sets the policy for all reads that begin later. The snapshot still holds
// what was read under the policy before: call Fresh before judging by the new one.
func (m *Monitor) SetPolicy(p policy.Policy) {
	m.readTimeout.Store(int64(p.Timeouts.Look))
	for _, w := range m.sources {
		if aware, ok := w.Source.(PolicyAware); ok {
			aware.SetPolicy(p)
		}
		notify(w.reschedule)
	}
}

// Timeout bounds each read.
func (m *Monitor) Timeout() time.Duration { return time.Duration(m.readTimeout.Load()) }

// Run reads and watches until ctx ends.
func (m *Monitor) Run(ctx context.Context) {
	var all sync.WaitGroup
	for _, w := range m.sources {
		all.Go(func() { m.watch(ctx, w) })
		all.Go(func() { m.serveReads(ctx, w) })
	}
	all.Wait()
}

// Changed receives a value when Snapshot may differ from the last one read.
func (m *Monitor) Changed() <-chan struct{} { return m.changed }

// Snapshot returns what is known now. It reads nothing.
func (m *Monitor) Snapshot() observer.Snapshot {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.snapshot
}

// Fresh returns a snapshot whose named parts, or all parts when none is named, were
// read after the call. The only error is that of ctx.
func (m *Monitor) Fresh(ctx context.Context, sources ...string) (observer.Snapshot, error) {
	var replies []chan struct{}
	for _, w := range m.sources {
		if len(sources) > 0 && !slices.Contains(sources, w.Name()) {
			continue
		}
		reply := make(chan struct{})
		select {
		case w.requests <- reply:
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
	return m.Snapshot(), nil
}

// pollInterval is how often Until reads when nothing signals: a file descriptor that
// closes and a health check that turns send no signal.
const pollInterval = 500 * time.Millisecond

// Until calls Fresh until done returns true. A signal makes it read at once. The only
// error is that of ctx.
func (m *Monitor) Until(ctx context.Context, done func(observer.Snapshot) bool, sources ...string) error {
	signals, unsubscribe := m.subscribe()
	defer unsubscribe()
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for {
		snapshot, err := m.Fresh(ctx, sources...)
		if err != nil {
			return err
		}
		if done(snapshot) {
			return nil
		}
		select {
		case <-signals:
		case <-poll.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// subscribe returns a channel that receives a value on every signal, and a function
// that ends the subscription.
func (m *Monitor) subscribe() (<-chan struct{}, func()) {
	signals := make(chan struct{}, 1)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.subscribers[signals] = struct{}{}
	return signals, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.subscribers, signals)
	}
}

// rewatchDelay is the pause before a source that failed to watch watches again. Its
// facts are unknown meanwhile.
const rewatchDelay = time.Second

func (m *Monitor) watch(ctx context.Context, w *watched) {
	signal := func() {
		notify(w.signalled)
		m.mu.Lock()
		defer m.mu.Unlock()
		for subscriber := range m.subscribers {
			notify(subscriber)
		}
	}
	for {
		// Nothing has signalled what happened before the watch began.
		signal()
		err := w.Watch(ctx, signal)
		if ctx.Err() != nil {
			return
		}
		m.log.Warn("a source stopped watching", zap.String("source", w.Name()), zap.Error(err))
		select {
		case <-ctx.Done():
			return
		case <-time.After(rewatchDelay):
		}
	}
}

// serveReads reads one source: one read at a time, for all who asked before it began.
func (m *Monitor) serveReads(ctx context.Context, w *watched) {
	next := time.NewTimer(0)
	next.Stop()
	defer next.Stop()
	for {
		var waiting []chan struct{}
		read := w.Read
		select {
		case <-ctx.Done():
			return
		case <-w.reschedule:
			m.setNextPoll(next, w)
			continue
		case <-w.signalled:
			if incremental, ok := w.Source.(IncrementalReader); ok {
				read = incremental.ReadChanged
			}
		case <-next.C:
		case reply := <-w.requests:
			waiting = append(waiting, reply)
		}
		if waiting = append(waiting, drain(w.requests)...); len(waiting) > 0 {
			read = w.Read
		}
		known := m.readOnce(ctx, w, read)
		for _, reply := range waiting {
			close(reply)
		}
		m.setNextPoll(next, w)
		if _, polled := w.Source.(Polled); !known && !polled {
			// No signal says when it can be read again.
			next.Reset(m.Timeout())
		}
	}
}

// readOnce reads a source into the snapshot. It reports whether the read succeeded.
func (m *Monitor) readOnce(
	ctx context.Context, w *watched, read func(context.Context) observer.Part,
) (known bool) {
	ctx, cancel := context.WithTimeout(ctx, m.Timeout())
	defer cancel()
	part := read(ctx)
	m.mu.Lock()
	woken := m.snapshot.Logind.WokenAt
	part.Into(&m.snapshot)
	resumed := !m.snapshot.Logind.WokenAt.Equal(woken)
	m.mu.Unlock()
	notify(m.changed)
	now := m.Snapshot()
	for _, other := range m.sources {
		if other == w {
			continue
		}
		if dependent, ok := other.Source.(DependentSource); ok {
			dependent.OnSnapshot(now)
		}
		if resumed { // timers stood still during sleep, and devices may have changed
			notify(other.signalled)
		} else {
			notify(other.reschedule)
		}
	}
	return part.Known()
}

// setNextPoll sets the timer of a polled source. It is called again after each read of
// another source, because that may change when to poll.
func (m *Monitor) setNextPoll(timer *time.Timer, w *watched) {
	polled, ok := w.Source.(Polled)
	if !ok {
		return
	}
	timer.Stop()
	if at := polled.NextPoll(m.Snapshot()); !at.IsZero() {
		timer.Reset(max(0, time.Until(at)))
	}
}

func drain(requests <-chan chan struct{}) []chan struct{} {
	var waiting []chan struct{}
	for {
		select {
		case reply := <-requests:
			waiting = append(waiting, reply)
		default:
			return waiting
		}
	}
}

// notify sends a value to a channel of capacity 1, unless one waits there already.
func notify(channel chan<- struct{}) {
	select {
	case channel <- struct{}{}:
	default:
	}
}
