// Package audio reads the audio probes: what plays and records. There is one probe for each user with
// a graphical session.
//
// A probe runs as its user, since the audio server rejects other users, and streams lines. This
// package is the side of the daemon. It starts the socket of the probe with the first graphical
// session of a user, and stops it after the last. If a probe fails, the audio of its user is unknown,
// with a reason, and the connection is retried.
package audio

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// Units starts and stops the units of the probes. Both methods wait for the job.
type Units interface {
	Start(ctx context.Context, unit string) error
	Stop(ctx context.Context, unit string) error
}

// SocketUnit and ServiceUnit are the units of the probe of a user.
func SocketUnit(uid uint32) string  { return fmt.Sprintf("dubnium-probe-audio@%d.socket", uid) }
func ServiceUnit(uid uint32) string { return fmt.Sprintf("dubnium-probe-audio@%d.service", uid) }

// Socket is the name of the socket of a user's probe under policy.Paths.Probes.
func Socket(uid uint32) string { return fmt.Sprintf("audio-%d", uid) }

// Source reads the probes.
type Source struct {
	policy atomic.Pointer[policy.Policy]
	units  Units
	wake   chan struct{} // the users may have changed

	mu     sync.Mutex
	known  bool // users is valid
	users  []uint32
	links  map[uint32]*link
	linked chan struct{} // closed and replaced when there are new links
}

// New returns the source for p's host.
func New(p policy.Policy, units Units) *Source {
	s := &Source{units: units, wake: make(chan struct{}, 1), links: map[uint32]*link{}, linked: make(chan struct{})}
	s.SetPolicy(p)
	return s
}

// SetPolicy makes p the policy in force. The paths of the sockets do not change.
func (s *Source) SetPolicy(p policy.Policy) { s.policy.Store(&p) }

// Name names the source in facts and logs.
func (s *Source) Name() string { return observer.SourceAudio }

// NextPoll polls rarely, and only while there is a graphical session. The probes send changes by
// themselves; polling detects one that hangs.
func (s *Source) NextPoll(now observer.Snapshot) time.Time {
	if len(now.Logind.GraphicalUsers()) == 0 {
		return time.Time{}
	}
	oldest := now.Audio.At
	for _, server := range now.Audio.Servers {
		if server.At.Before(oldest) {
			oldest = server.At
		}
	}
	return oldest.Add(observer.AudioRecheck(*s.policy.Load()))
}

// OnSnapshot updates the users whose audio is read from the sessions. It keeps them while logind
// cannot be read.
func (s *Source) OnSnapshot(now observer.Snapshot) {
	if !now.Logind.Known() {
		return
	}
	users := now.Logind.GraphicalUsers()
	s.mu.Lock()
	same := s.known && slices.Equal(users, s.users)
	s.users, s.known = users, true
	s.mu.Unlock()
	if !same {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// Watch keeps a connection to the probe of each user, and calls changed when one sends a change. It
// returns nil when ctx ends. The units of the probes keep running then, for the next daemon.
func (s *Source) Watch(ctx context.Context, changed func()) error {
	var running sync.WaitGroup
	defer running.Wait()
	for {
		for _, l := range s.reconcile(ctx) {
			running.Go(func() {
				l.run(changed)
				changed()
			})
		}
		changed()
		select {
		case <-s.wake:
		case <-ctx.Done():
			return nil
		}
	}
}

// reconcile closes the links of users without a session, and returns new links, which the caller
// runs.
func (s *Source) reconcile(ctx context.Context) []*link {
	s.mu.Lock()
	defer s.mu.Unlock()
	for uid, l := range s.links {
		if !slices.Contains(s.users, uid) {
			l.close()
			delete(s.links, uid)
		} else if l.ctx.Err() != nil {
			delete(s.links, uid) // of an earlier Watch
		}
	}
	var fresh []*link
	for _, uid := range s.users {
		if s.links[uid] == nil {
			s.links[uid] = newLink(ctx, uid, filepath.Join(s.policy.Load().Paths.Probes, Socket(uid)), s.units)
			fresh = append(fresh, s.links[uid])
		}
	}
	if s.known {
		close(s.linked)
		s.linked = make(chan struct{})
	}
	return fresh
}

// Read requests a new read from every probe. The first read of a user waits for the first line of the
// probe, so that a probe that is starting is not published as unknown.
func (s *Source) Read(ctx context.Context) observer.Part { return s.each(ctx, (*link).read) }

// ReadChanged returns the last line of each probe, since a line is the complete state.
func (s *Source) ReadChanged(ctx context.Context) observer.Part { return s.each(ctx, (*link).last) }

func (s *Source) each(ctx context.Context, read func(*link, context.Context) observer.AudioServer) observer.Part {
	links, known := s.all(ctx)
	if !known {
		reason := "the users with a graphical session are not known yet"
		return observer.Audio{Reading: observer.Reading{At: time.Now(), Reason: reason}}
	}
	servers := make([]observer.AudioServer, len(links))
	var reads sync.WaitGroup
	for i, l := range links {
		reads.Go(func() { servers[i] = read(l, ctx) })
	}
	reads.Wait()
	return observer.Audio{Reading: observer.Reading{At: time.Now()}, Servers: servers}
}

// all returns the links of all users. It waits until each user has one, or ctx ends.
func (s *Source) all(ctx context.Context) (links []*link, known bool) {
	for {
		s.mu.Lock()
		links = links[:0]
		for _, uid := range s.users {
			if l := s.links[uid]; l != nil {
				links = append(links, l)
			}
		}
		known = s.known
		complete, linked := known && len(links) == len(s.users), s.linked
		s.mu.Unlock()
		if complete {
			return links, known
		}
		select {
		case <-linked:
		case <-ctx.Done():
			return links, known
		}
	}
}
