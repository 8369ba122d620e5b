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

// rationClass says how costly a method is. Root's calls are not rationed.
type rationClass int

// The classes.
const (
	cheap   rationClass = iota // answered from memory
	looking                    // a fresh look, which walks /proc
	records                    // reads the history
	changes                    // has a line in the history
	holding                    // has a line in the log, and everybody hears of it
)

var rationClasses = map[rationClass]ration.Ration{
	cheap:   {Burst: 500, Every: 5 * time.Millisecond},
	looking: {Burst: 5, Every: time.Second},
	records: {Burst: 20, Every: 500 * time.Millisecond},
	changes: {Burst: 60, Every: 10 * time.Second},
	holding: {Burst: 32, Every: time.Second},
}

const (
	// maxInFlight bounds the calls of one user, over all methods, that are being
	// served, and maxInFlightOfAll those of all users. Root's are not bounded.
	maxInFlight, maxInFlightOfAll = 32, 512
	// maxUnknown bounds the calls whose user the bus has still to tell, and
	// maxUnknownOf those of one connection: the bus lets a user have 256 connections, so
	// that no user takes all the room. Root's call may be among them.
	maxUnknown, maxUnknownOf = 2048, 4
	// maxUnknownBytes bounds what these calls carry. A short one always fits.
	maxUnknownBytes, short = 4 << 20, 1 << 10
	// lookups is how many connections the bus is asked about at once. It answers many
	// questions in the time of one.
	lookups = 32
	// maxKnown bounds the connections whose user is remembered.
	maxKnown = 1024
	// maxAnswers bounds the refusals that wait for a bus that does not read. Further
	// ones are dropped: whoever causes so many can wait for an answer in vain.
	maxAnswers = 256
	// identifyTimeout bounds the question whose a connection is.
	identifyTimeout = 10 * time.Second
)

// rationBy fills everybody's rations. They are kept by this clock.
func (s *Server) rationBy(now func() time.Time) {
	s.rations = map[rationClass]*ration.Rations{}
	for class, r := range rationClasses {
		s.rations[class] = ration.New(r, now)
	}
}

// callers knows whose connections are calling. The bus never uses a unique name twice,
// so that what was learned of one stays true.
type callers struct {
	ask func(ctx context.Context, sender string) (uint32, error)

	mu      sync.Mutex
	known   map[string]uint32
	waiting map[string][]waiting
	unknown int
	bytes   int
	senders chan string // those that wait; capacity maxUnknown
}

// waiting is a call whose user is being asked about.
type waiting struct {
	size int // in bytes
	then func(uid uint32, err error)
}

func newCallers(ask func(context.Context, string) (uint32, error)) *callers {
	return &callers{
		ask: ask, known: map[string]uint32{}, waiting: map[string][]waiting{}, senders: make(chan string, maxUnknown),
	}
}

// identify calls then with the user behind the sender of a call of that size: at once
// when it is known, else from one of run's goroutines. It never blocks. It reports
// whether then will be called.
func (c *callers) identify(sender string, size int, then func(uid uint32, err error)) bool {
	c.mu.Lock()
	uid, known := c.known[sender]
	if known {
		c.mu.Unlock()
		then(uid, nil)
		return true
	}
	defer c.mu.Unlock()
	if c.unknown >= maxUnknown || len(c.waiting[sender]) >= maxUnknownOf || size > short && c.bytes+
		size > maxUnknownBytes {
		return false
	}
	c.unknown, c.bytes = c.unknown+1, c.bytes+size
	if c.waiting[sender] = append(c.waiting[sender], waiting{size, then}); len(c.waiting[sender]) == 1 {
		c.senders <- sender // there is room: no more senders wait than calls
	}
	return true
}

// run asks the bus about senders until ctx ends.
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
			asking, cancel := context.WithTimeout(ctx, identifyTimeout)
			uid, err := c.ask(asking, sender)
			cancel()
			for _, call := range c.learn(sender, uid, err) {
				call.then(uid, err)
			}
		}
	}
}

// learn remembers a sender and returns who waited for it.
func (c *callers) learn(sender string, uid uint32, err error) []waiting {
	c.mu.Lock()
	defer c.mu.Unlock()
	waited := c.waiting[sender]
	delete(c.waiting, sender)
	for _, call := range waited {
		c.unknown, c.bytes = c.unknown-1, c.bytes-call.size
	}
	if err == nil {
		if len(c.known) >= maxKnown {
			clear(c.known) // those that are there still are asked about again
		}
		c.known[sender] = uid
	}
	return waited
}

// HandleCall takes a method call in. It runs on the goroutine that reads from the bus
// and never blocks.
func (s *Server) HandleCall(m busconn.Call) {
	taken := s.callers.identify(m.Sender, m.Header.Body, func(uid uint32, err error) { s.admit(m, uid, err) })
	if !taken {
		s.turnAway(m, busapi.Refuse(busapi.ErrRateLimited, "too many calls wait"))
	}
}

// admit serves a call in a goroutine of its own, unless its user has too many already.
func (s *Server) admit(m busconn.Call, uid uint32, err error) {
	switch {
	case err != nil:
		s.turnAway(m, senderUnknown(err))
	case uid == 0:
		go s.serve(m, uid)
	case !s.inFlight.enter(uid):
		s.turnAway(m, busapi.Refuse(status.ErrTooMany, "too many calls are under way, %d at most of one user", maxInFlight))
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

// answer sends refusals until ctx ends: the goroutine that reads must not wait for a bus
// that does not.
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
