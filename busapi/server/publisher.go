package server

import (
	"context"
	"slices"
	"sync"

	"go.uber.org/zap"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
)

// maxQueued bounds the events that wait for a slow bus. Beyond it the events of steps
// are dropped: they only show progress, and the properties are complete without them.
const maxQueued = 1024

// publisher turns views and events of the controller into signals, in its own goroutine.
// What arrives while a batch is sent forms the next batch: one PropertiesChanged, then
// its events in order.
type publisher struct {
	encode func(status.View) busapi.Dict
	emit   func(iface, member string, body ...any) error
	log    *zap.Logger

	mu      sync.Mutex
	pending batch

	wake chan struct{} // capacity 1: something is pending
	quit chan struct{}
	done chan struct{}
	once sync.Once
}

// batch is the pending view and events.
type batch struct {
	view   *status.View // nil: no new one
	events []status.Event
}

func newPublisher(
	encode func(status.View) busapi.Dict, emit func(string, string, ...any) error, log *zap.Logger,
) *publisher {
	return &publisher{
		encode: encode, emit: emit, log: log,
		wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{}),
	}
}

// start starts publishing; changes are relative to view.
func (p *publisher) start(view status.View) { go p.run(p.encode(view)) }

// stop sends what is pending and ends the goroutine; ctx bounds the wait.
func (p *publisher) stop(ctx context.Context) {
	p.once.Do(func() { close(p.quit) })
	select {
	case <-p.done:
	case <-ctx.Done():
		p.log.Warn("the bus does not accept the last signals", zap.Error(ctx.Err()))
	}
}

// notify never blocks.
func (p *publisher) notify(view status.View, events []status.Event) {
	p.mu.Lock()
	p.pending.view = &view
	p.pending.events = append(p.pending.events, events...)
	if len(p.pending.events) > maxQueued {
		p.pending.events = slices.DeleteFunc(
			p.pending.events, func(e status.Event) bool { return e.Step != nil || e.Progress != nil },
		)
	}
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *publisher) take() batch {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.pending
	p.pending = batch{}
	return b
}

// run publishes until stop, and then the last batch.
func (p *publisher) run(published busapi.Dict) {
	defer close(p.done)
	for {
		select {
		case <-p.wake:
			published = p.publish(published, p.take())
		case <-p.quit:
			p.publish(published, p.take())
			return
		}
	}
}

// publish sends one batch and returns the published properties. They are sent first, so
// that a client that reacts to an event reads the state that belongs to it.
func (p *publisher) publish(published busapi.Dict, b batch) busapi.Dict {
	if b.view != nil {
		now := p.encode(*b.view)
		if changed := busapi.Changed(published, now); len(changed) > 0 {
			p.send(busapi.PropertiesInterface, "PropertiesChanged", busapi.Interface, changed, []string{})
		}
		published = now
	}
	for _, e := range b.events {
		if member, body := busapi.EncodeEvent(e.Public()); member != "" {
			p.send(busapi.Interface, member, body...)
		}
	}
	return published
}

// send logs a failure: the connection has ended then, and with it the daemon.
func (p *publisher) send(iface, member string, body ...any) {
	if err := p.emit(iface, member, body...); err != nil {
		p.log.Warn("a signal was lost", zap.String("signal", member), zap.Error(err))
	}
}
