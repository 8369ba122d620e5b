package server

import (
	"context"
	"sync"
	"time"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/internal/busconn"
	"github.com/dubnium/dubnium/internal/ration"
)

// rationClass is the cost of a method. Calls of root are not rationed.
type rationClass int

// The classes.
const (
	cheap   rationClass = iota // answered from memory
	looking                    // reads the host, which walks /proc
	records                    // reads the history
	changes                    // adds a line to the history
	holding                    // adds a line to the log and emits a signal
)

var rationClasses = map[rationClass]ration.Ration{
	cheap:   {Burst: 500, Every: 5 * time.Millisecond},
	looking: {Burst: 5, Every: time.Second},
	records: {Burst: 20, Every: 500 * time.Millisecond},
	changes: {Burst: 60, Every: 10 * time.Second},
	holding: {Burst: 32, Every: time.Second},
}

const (
	// maxInFlight bounds the running calls of one user, over all methods, and
	// maxInFlightOfAll those of all users. Calls of root are not bounded.
	maxInFlight, maxInFlightOfAll = 32, 512
	// maxUnknown bounds the calls whose user is not known yet, and maxUnknownOf those of
	// one connection. The bus permits a user 256 connections, so that no user fills the
	// queue; a call of root may be in it.
	maxUnknown, maxUnknownOf = 2048, 4
	// maxUnknownBytes bounds the size of these calls. A short one always fits.
	maxUnknownBytes, short = 4 << 20, 1 << 10
	// lookups is the number of concurrent lookups on the bus, which answers many in the
	// time of one.
	lookups = 32
	// maxKnown bounds the cache of users by connection.
	maxKnown = 1024
	// maxAnswers bounds the refusals that wait for a slow bus. Further ones are dropped:
	// only a caller that floods the daemon loses replies.
	maxAnswers = 256
	// identifyTimeout bounds the lookup of the user of a connection.
	identifyTimeout = 10 * time.Second
)

// rationBy creates the rations, with this clock.
func (s *Server) rationBy(now func() time.Time) {
	s.rations = map[rationClass]*ration.Rations{}
	for class, r := range rationClasses {
		s.rations[class] = ration.New(r, now)
	}
}

// callers caches the users of connections. The bus never reuses a unique name, so an
// entry stays valid.
type callers struct {
	uidOf func(ctx context.Context, sender string) (uint32, error)

	mu      sync.Mutex
	known   map[string]uint32
	waiting map[string][]waiting
	unknown int
	bytes   int
	senders chan string // those that wait; capacity maxUnknown
}

// waiting is a call whose user is being looked up.
type waiting struct {
	size int // in bytes
	then func(uid uint32, err error)
}

func newCallers(uidOf func(context.Context, string) (uint32, error)) *callers {
	return &callers{
		uidOf: uidOf, known: map[string]uint32{}, waiting: map[string][]waiting{}, senders: make(chan string, maxUnknown),
	}
}

// identify calls then with the user of the sender of a call of that size: at once if it
// is cached, else from a goroutine of run. It never blocks. It reports whether then will
// be called.
func (c *callers) identify(sender string, size int, then func(uid uint32, err error)) bool {
	c.mu.Lock()
	uid, known := c.known[sender]
	if known {
		c.mu.Unlock()
		then(uid, nil)
		return true
	}
	defer c.mu.Unlock()
	if c.unknown >= maxUnknown || len(c.waiting[sender]) >= maxUnknownOf ||
		size > short && c.bytes+size > maxUnknownBytes {
		return false
	}
	c.unknown, c.bytes = c.unknown+1, c.bytes+size
	if c.waiting[sender] = append(c.waiting[sender], waiting{size, then}); len(c.waiting[sender]) == 1 {
		c.senders <- sender // does not block: at most as many senders wait as calls
	}
	return true
}

// run looks up the users of senders until ctx ends.
func (c *callers) run(ctx context.Context) {
	var group sync.WaitGroup
	for range lookups {
		group.Go(func() { c.lookUp(ctx) })
	}
	group.Wait()
}

func (c *callers) lookUp(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case sender := <-c.senders:
			lookup, cancel := context.WithTimeout(ctx, identifyTimeout)
			uid, err := c.uidOf(lookup, sender)
			cancel()
			for _, call := range c.store(sender, uid, err) {
				call.then(uid, err)
			}
		}
	}
}

// store caches the user of a sender and returns the calls that waited for it.
func (c *callers) store(sender string, uid uint32, err error) []waiting {
	c.mu.Lock()
	defer c.mu.Unlock()
	waited := c.waiting[sender]
	delete(c.waiting, sender)
	for _, call := range waited {
		c.unknown, c.bytes = c.unknown-1, c.bytes-call.size
	}
	if err == nil {
		if len(c.known) >= maxKnown {
			clear(c.known) // connections that still exist are looked up again
		}
		c.known[sender] = uid
	}
	return waited
}

// HandleCall accepts a method call. It runs on the goroutine that reads from the bus and
// never blocks.
func (s *Server) HandleCall(m busconn.Call) {
	taken := s.callers.identify(m.Sender, m.Header.Body, func(uid uint32, err error) { s.admit(m, uid, err) })
	if !taken {
		s.turnAway(m, busapi.Refuse(busapi.ErrRateLimited, "too many calls are waiting"))
	}
}

// admit serves a call in its own goroutine, unless its user has too many.
func (s *Server) admit(m busconn.Call, uid uint32, err error) {
	switch {
	case err != nil:
		s.turnAway(m, senderUnknown(err))
	case uid == 0:
		go s.serve(m, uid)
	case !s.inFlight.enter(uid):
		s.turnAway(m, busapi.Refuse(status.ErrTooMany, "too many calls are running, at most %d per user", maxInFlight))
	default:
		go func() {
			defer s.inFlight.leave(uid)
			s.serve(m, uid)
		}()
	}
}

// turnAway refuses a call that is not served.
func (s *Server) turnAway(m busconn.Call, err error) {
	m = m.Bare()
	select {
	case s.answers <- func() { s.fail(m, err) }:
	default:
	}
}

// answer sends refusals until ctx ends. The goroutine that reads from the bus must not
// wait for a bus that does not read.
func (s *Server) answer(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case send := <-s.answers:
			send()
		}
	}
}
