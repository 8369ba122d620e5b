package main

import (
	"io"
	"sync"
)

// queue holds a stream's input until it is read. It has no bound on purpose: the link carries all streams, and one
// process that does not read its input must not stop the others.
type queue struct {
	mu     sync.Mutex
	filled *sync.Cond
	parts  [][]byte
	closed bool
}

func newQueue() *queue {
	q := &queue{}
	q.filled = sync.NewCond(&q.mu)
	return q
}

func (q *queue) push(b []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.parts = append(q.parts, b)
	}
	q.filled.Signal()
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.filled.Broadcast()
}

// Read implements io.Reader; it ends with io.EOF once the queue is closed and drained.
func (q *queue) Read(b []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.parts) == 0 {
		if q.closed {
			return 0, io.EOF
		}
		q.filled.Wait()
	}
	n := copy(b, q.parts[0])
	if q.parts[0] = q.parts[0][n:]; len(q.parts[0]) == 0 {
		q.parts = q.parts[1:]
	}
	return n, nil
}
