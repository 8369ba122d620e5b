package server

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode"

	"go.uber.org/zap"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/policy"
)

// Presence watches connections of the bus.
type Presence interface {
	// AwaitGone returns nil when the connection with that unique name is not, or no
	// longer, on the bus. An error says why it cannot be watched.
	AwaitGone(ctx context.Context, name string) error
}

// inhibit checks the arguments before a password prompt, as submit does.
func (s *Server) inhibit(c *call, mode, who, why, how string) (cookie uint32, err error) {
	c.about.Mode, c.about.Why = mode, why
	i := status.Inhibitor{Who: who, Why: why, How: status.How(how), Holder: c.sender, UID: c.uid}
	if mode != "" {
		if i.Mode, err = s.parseMode(mode); err != nil {
			return 0, err
		}
	}
	action, known := map[status.How]string{
		status.Block: busapi.ActionInhibitBlock, status.Delay: busapi.ActionInhibitDelay,
	}[i.How]
	if !known {
		return 0, busapi.Refuse(busapi.ErrBadOption, "how must be block or delay, not %q", how)
	}
	for name, words := range map[string]string{"who": who, "why": why} {
		if err := printable("argument "+name, words); err != nil {
			return 0, err
		}
		if words == "" {
			return 0, busapi.Refuse(busapi.ErrBadOption, "the argument %s is empty", name)
		}
	}
	if _, err := s.permit(c, need{action: action}); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(c.ctx, callTimeout)
	defer cancel()
	if cookie, err = s.controller.Inhibit(ctx, i); err == nil {
		s.watchHolder(c.ctx, i.Holder)
	}
	return cookie, err
}

// watchHolder releases the inhibitors of a connection when it disconnects. There is one
// watch per holder, and so at most one per inhibitor: taking and releasing inhibitors
// must not exhaust the match rules of the bus.
func (s *Server) watchHolder(ctx context.Context, holder string) {
	s.holdersMu.Lock()
	defer s.holdersMu.Unlock()
	if s.holders[holder] != nil {
		return
	}
	watching, stop := context.WithCancel(ctx)
	s.holders[holder] = stop
	go s.releaseWithHolder(watching, holder)
}

// sweepHolders ends the watches of connections without inhibitors. An inhibitor is in
// the view before its holder is watched.
func (s *Server) sweepHolders() {
	s.holdersMu.Lock()
	defer s.holdersMu.Unlock()
	held := s.controller.View().Inhibitors
	for holder, stop := range s.holders {
		if !slices.ContainsFunc(held, func(i status.Inhibitor) bool { return i.Holder == holder }) {
			stop()
			delete(s.holders, holder)
		}
	}
}

// releaseWithHolder releases the inhibitors of a connection when it has disconnected.
// The inhibitors of a connection that cannot be watched are released at once.
func (s *Server) releaseWithHolder(ctx context.Context, holder string) {
	err := s.presence.AwaitGone(ctx, holder)
	if ctx.Err() != nil {
		return // it has no inhibitors left, or the server stops
	}
	if err != nil {
		s.log.Warn("cannot watch the holder of an inhibitor", zap.String("holder", holder), zap.Error(err))
	}
	defer s.sweepHolders()
	if err := s.controller.HolderLeft(ctx, holder); err != nil &&
		ctx.Err() == nil && !errors.Is(err, status.ErrShuttingDown) {
		s.log.Warn("cannot release the inhibitors of a connection", zap.String("holder", holder), zap.Error(err))
	}
}

func (s *Server) releaseInhibitor(c *call, cookie uint32) error {
	ctx, cancel := context.WithTimeout(c.ctx, callTimeout)
	defer cancel()
	defer s.sweepHolders()
	return s.controller.Release(ctx, cookie, func(i status.Inhibitor) bool { return c.uid == 0 || i.Holder == c.sender })
}

// cancelTransition needs no polkit action if the sender requested the transition.
func (s *Server) cancelTransition(c *call, id uint64) error {
	running := s.controller.View().Running
	if running == nil || running.ID != id {
		return busapi.Refuse(status.ErrNoSuchTransition, "no transition is running under the id %d", id)
	}
	if own := running.Origin == status.OriginOperator && running.UID == c.uid; !own {
		if _, err := s.permit(c, need{action: busapi.ActionCancel}); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(c.ctx, callTimeout) // starts after the password prompt
	defer cancel()
	return s.controller.Cancel(ctx, id, describe(c.uid))
}

// postponeTransition is for users whose session the transition would end.
func (s *Server) postponeTransition(c *call, id uint64, seconds uint32) error {
	if seconds == 0 || seconds > busapi.MaxGrace {
		return busapi.Refuse(busapi.ErrBadOption, "the seconds must be 1 to %d, not %d", busapi.MaxGrace, seconds)
	}
	if running := s.controller.View().Running; c.uid != 0 &&
		(running == nil || running.To != policy.Compute || !s.atScreen(c.uid)) {
		return busapi.Refuse(
			busapi.ErrAccessDenied, "%s has no graphical session that the transition would end", describe(c.uid),
		)
	}
	ctx, cancel := context.WithTimeout(c.ctx, callTimeout)
	defer cancel()
	return s.controller.Postpone(ctx, id, time.Duration(seconds)*time.Second)
}

// printable refuses text that is too long or could control a terminal: it is logged and
// published.
func printable(what, words string) error {
	switch {
	case len(words) > busapi.MaxReason:
		return busapi.Refuse(busapi.ErrBadOption, "the %s has %d bytes, more than %d", what, len(words), busapi.MaxReason)
	case strings.ContainsFunc(words, func(r rune) bool { return !unicode.IsPrint(r) }):
		return busapi.Refuse(busapi.ErrBadOption, "the %s has unprintable characters", what)
	}
	return nil
}
