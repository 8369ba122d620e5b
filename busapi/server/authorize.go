package server

import (
	"context"
	"fmt"
	"os/user"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/policy"
)

// maxPrompts bounds how many requests of one user wait for a password. The bus
// lets a connection wait for 128 replies; without a bound one user could use
// them all up, and the daemon could talk to nobody.
const maxPrompts = 4

// authorize turns a sender into a request for mode, or refuses; action is what
// polkit is asked about. uid 0 is allowed
// by its bus credentials alone: a broken polkit must not lock the operator out
// of the way back.
func (s *Server) authorize(c call, mode policy.Mode, action string) (status.Request, error) {
	ctx, cancel := context.WithTimeout(c.ctx, authTimeout)
	defer cancel()
	uid, err := s.authorizer.UID(ctx, c.sender)
	if err != nil {
		return status.Request{}, senderUnknown(err)
	}
	request := status.Request{Mode: mode, Origin: status.OriginOperator, By: describe(uid), UID: uid, EndOthers: uid == 0}
	if uid == 0 {
		request.Authorization = status.ByCredentials
		return request, nil
	}
	return request, s.prompt(uid, func() error {
		actions := []string{action}
		if err := s.authorizer.Authorize(ctx, c.sender, action, c.interactive); err != nil {
			return err
		}
		if mode == policy.Compute && s.endsOthers(uid) {
			if err := s.authorizer.Authorize(ctx, c.sender, busapi.ActionEndOtherSessions, c.interactive); err != nil {
				return fmt.Errorf("compute would end other people's sessions: %w", err)
			}
			request.EndOthers = true
			actions = append(actions, busapi.ActionEndOtherSessions)
		}
		request.Authorization = status.ByPolkit(actions...)
		return s.stillThere(ctx, c.sender)
	})
}

// prompt asks polkit, for as many calls of one user at once as are allowed.
func (s *Server) prompt(uid uint32, ask func() error) error {
	if !s.prompts.enter(uid) {
		return busapi.Refuse(status.ErrTooMany, "%s has %d requests waiting for authorization", describe(uid), maxPrompts)
	}
	defer s.prompts.leave(uid)
	return ask()
}

// endsOthers reports whether a user other than uid has a graphical session now.
// One that begins later is the guard's business: it sees EndOthers unset.
func (s *Server) endsOthers(uid uint32) bool {
	return slices.ContainsFunc(s.controller.SessionUIDs(), func(other uint32) bool { return other != uid })
}

// atScreen reports whether a user has a graphical session now.
func (s *Server) atScreen(uid uint32) bool { return slices.Contains(s.controller.SessionUIDs(), uid) }

// stillThere refuses a requester who left while somebody was asked: nobody would
// hear the answer. Unique names are never used twice, so the name alone decides.
func (s *Server) stillThere(ctx context.Context, sender string) error {
	if _, err := s.authorizer.UID(ctx, sender); err != nil {
		return senderUnknown(err)
	}
	return nil
}

func senderUnknown(err error) error {
	return busapi.Refuse(busapi.ErrAccessDenied, "cannot tell who asks: %v", err)
}

// describe names a user for people. The name is a help only, so a user database
// that cannot answer costs the name and nothing else.
func describe(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return fmt.Sprintf("uid %s (%s)", id, u.Username)
	}
	return "uid " + id
}

// lookInterval is how long a user waits between two fresh looks.
const lookInterval = time.Second

// rateLimit lets each user through once per interval.
type rateLimit struct {
	interval time.Duration
	now      func() time.Time

	mu   sync.Mutex
	last map[uint32]time.Time
}

func newRateLimit(interval time.Duration, now func() time.Time) *rateLimit {
	return &rateLimit{interval: interval, now: now, last: map[uint32]time.Time{}}
}

func (l *rateLimit) allow(uid uint32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	for u, at := range l.last {
		if now.Sub(at) >= l.interval {
			delete(l.last, u)
		}
	}
	if _, waiting := l.last[uid]; waiting {
		return false
	}
	l.last[uid] = now
	return true
}

// inFlight bounds how many calls of one user are under way.
type inFlight struct {
	max int

	mu    sync.Mutex
	count map[uint32]int
}

func newInFlight(most int) *inFlight { return &inFlight{max: most, count: map[uint32]int{}} }

func (f *inFlight) enter(uid uint32) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.count[uid] >= f.max {
		return false
	}
	f.count[uid]++
	return true
}

func (f *inFlight) leave(uid uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.count[uid]--; f.count[uid] == 0 {
		delete(f.count, uid)
	}
}
