// Package audio asks the audio probes what plays and records, one probe for each
// person at a screen.
//
// A probe runs as its user, since the user's server lets nobody else in, and
// streams lines; this package is the daemon's side. It starts the probe's socket
// with the first graphical session of a user and stops it after the last.
// Whatever goes wrong with a probe makes that user's audio unknown, with the
// reason in words, and the probe is tried again.
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

// Units starts and stops the probes' static units, and returns when it is done.
type Units interface {
	Start(ctx context.Context, unit string) error
	Stop(ctx context.Context, unit string) error
}

// SocketUnit and ServiceUnit name a user's probe.
func SocketUnit(uid uint32) string  { return fmt.Sprintf("dubnium-probe-audio@%d.socket", uid) }
func ServiceUnit(uid uint32) string { return fmt.Sprintf("dubnium-probe-audio@%d.service", uid) }

// Socket is where a user's probe listens, under policy.Paths.Probes.
func Socket(uid uint32) string { return fmt.Sprintf("audio-%d", uid) }

// Source looks through the probes.
type Source struct {
	policy atomic.Pointer[policy.Policy]
	units  Units
	wake   chan struct{} // the users may have changed

	mu     sync.Mutex
	told   bool // the users are known
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

// SetPolicy makes p what is looked by from now on. Where the probes are does not change.
func (s *Source) SetPolicy(p policy.Policy) { s.policy.Store(&p) }

// Name names the source in facts and logs.
func (s *Source) Name() string { return observer.SourceAudio }

// NextPoll asks for a look now and then while there is somebody to look for: a probe
// that hangs announces nothing.
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

// OnSnapshot takes from the sessions whose audio to look at. While logind cannot be
// read nobody has come or gone.
func (s *Source) OnSnapshot(now observer.Snapshot) {
	if !now.Logind.Known() {
		return
	}
	users := now.Logind.GraphicalUsers()
	s.mu.Lock()
	same := s.told && slices.Equal(users, s.users)
	s.users, s.told = users, true
	s.mu.Unlock()
	if !same {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// Watch keeps a link to each user's probe, and calls changed when one says
// something new. It ends with ctx, and leaves the probes' units as they are: the
// daemon that comes next wants them.
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

// reconcile lets go of the users who have left and returns new links to be run.
func (s *Source) reconcile(ctx context.Context) []*link {
	s.mu.Lock()
	defer s.mu.Unlock()
	for uid, l := range s.links {
		if !slices.Contains(s.users, uid) {
			l.leave()
			delete(s.links, uid)
		} else if l.ctx.Err() != nil {
			delete(s.links, uid) // of a watch that has ended
		}
	}
	var fresh []*link
	for _, uid := range s.users {
		if s.links[uid] == nil {
			s.links[uid] = newLink(ctx, uid, filepath.Join(s.policy.Load().Paths.Probes, Socket(uid)), s.units)
			fresh = append(fresh, s.links[uid])
		}
	}
	if s.told {
		close(s.linked)
		s.linked = make(chan struct{})
	}
	return fresh
}

// Read asks every probe for a look that begins now. The first look at a person's
// audio waits for the probe's first word, so that nobody takes its start for doubt.
func (s *Source) Read(ctx context.Context) observer.Part { return s.each(ctx, (*link).look) }

// Glance takes what the probes have said: a line is all there is to know.
func (s *Source) Glance(ctx context.Context) observer.Part { return s.each(ctx, (*link).glance) }

func (s *Source) each(ctx context.Context, look func(*link, context.Context) observer.AudioServer) observer.Part {
	links, told := s.all(ctx)
	if !told {
		return observer.Audio{Reading: observer.Reading{At: time.Now(), Reason: "whose audio to look at is not known yet"}}
	}
	servers := make([]observer.AudioServer, len(links))
	var all sync.WaitGroup
	for i, l := range links {
		all.Go(func() { servers[i] = look(l, ctx) })
	}
	all.Wait()
	return observer.Audio{Reading: observer.Reading{At: time.Now()}, Servers: servers}
}

// all waits until there is a link for everybody, as far as ctx lets it.
func (s *Source) all(ctx context.Context) (links []*link, told bool) {
	for {
		s.mu.Lock()
		links = links[:0]
		for _, uid := range s.users {
			if l := s.links[uid]; l != nil {
				links = append(links, l)
			}
		}
		told = s.told
		complete, linked := told && len(links) == len(s.users), s.linked
		s.mu.Unlock()
		if complete {
			return links, told
		}
		select {
		case <-linked:
		case <-ctx.Done():
			return links, told
		}
	}
}
