package testhost

import "sync"

// outbox sends in order, in a goroutine of its own: whoever changes the model
// must not wait for the bus while holding its lock.
type outbox struct {
	mu     sync.Mutex
	queue  []func()
	wake   chan struct{} // capacity 1
	closed chan struct{}
	done   chan struct{}
}

func newOutbox() *outbox {
	o := &outbox{wake: make(chan struct{}, 1), closed: make(chan struct{}), done: make(chan struct{})}
	go o.run()
	return o
}

func (o *outbox) push(send func()) {
	o.mu.Lock()
	o.queue = append(o.queue, send)
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

func (o *outbox) run() {
	defer close(o.done)
	for {
		select {
		case <-o.closed:
			return
		case <-o.wake:
		}
		for _, send := range o.take() {
			send()
		}
	}
}

func (o *outbox) take() []func() {
	o.mu.Lock()
	defer o.mu.Unlock()
	queue := o.queue
	o.queue = nil
	return queue
}

// close waits for the sender; its connections must be closed, or it may be
// stuck in one.
func (o *outbox) close() {
	close(o.closed)
	<-o.done
}
