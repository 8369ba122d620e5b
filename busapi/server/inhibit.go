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

// Presence knows who is on the bus.
type Presence interface {
	// AwaitGone returns nil when the connection of that unique name is not, or no
	// longer, on the bus; its error says why that will not be known.
	AwaitGone(ctx context.Context, name string) error
}

// inhibit checks the words before anybody is asked for a password, as submit does.
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
		return 0, busapi.Refuse(busapi.ErrBadOption, "unknown way to inhibit %q: it is block or delay", how)
	}
	for name, words := range map[string]string{"who": who, "why": why} {
		if err := printable("argument "+name, words); err != nil {
			return 0, err
		}
		if words == "" {
			return 0, busapi.Refuse(busapi.ErrBadOption, "the argument %s is empty: people will ask", name)
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

// watchHolder has what a connection holds released when it leaves. There is one
// watch for each connection that holds anything, and so no more than inhibitors:
// whoever takes and releases them for ever must not use up the bus's match rules.
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

// sweepHolders ends the watches of those who hold nothing any more. An inhibitor is
// in the view before its holder is watched.
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

// releaseWithHolder releases what a connection holds when it has left, at once if
// it left before anybody looked. One that cannot be watched holds nothing up.
func (s *Server) releaseWithHolder(ctx context.Context, holder string) {
	err := s.presence.AwaitGone(ctx, holder)
	if ctx.Err() != nil {
		return // it holds nothing any more, or we are ending
	}
	if err != nil {
		s.log.Warn("cannot see whether the holder of an inhibitor is there", zap.String("holder", holder), zap.Error(err))
	}
	defer s.sweepHolders()
	if err := s.controller.HolderLeft(ctx, holder); err != nil &&
		ctx.Err() == nil && !errors.Is(err, status.ErrShuttingDown) {
		s.log.Warn("cannot release the inhibitors of who left", zap.String("holder", holder), zap.Error(err))
	}
}

func (s *Server) releaseInhibitor(c *call, cookie uint32) error {
	ctx, cancel := context.WithTimeout(c.ctx, callTimeout)
	defer cancel()
	defer s.sweepHolders()
	return s.controller.Release(ctx, cookie, func(i status.Inhibitor) bool { return c.uid == 0 || i.Holder == c.sender })
}

// cancelTransition asks polkit unless the sender is who asked for the transition.
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
	ctx, cancel := context.WithTimeout(c.ctx, callTimeout) // after the password
	defer cancel()
	return s.controller.Cancel(ctx, id, describe(c.uid))
}

// postponeTransition is for the people whom it costs their session.
func (s *Server) postponeTransition(c *call, id uint64, seconds uint32) error {
	if seconds == 0 || seconds > busapi.MaxGrace {
		return busapi.Refuse(busapi.ErrBadOption, "%d seconds are not 1 to %d", seconds, busapi.MaxGrace)
	}
	if running := s.controller.View().Running; c.uid != 0 &&
		(running == nil || running.To != policy.Compute || !s.atScreen(c.uid)) {
		return busapi.Refuse(busapi.ErrAccessDenied, "%s has no graphical session that it would end", describe(c.uid))
	}
	ctx, cancel := context.WithTimeout(c.ctx, callTimeout)
	defer cancel()
	return s.controller.Postpone(ctx, id, time.Duration(seconds)*time.Second)
}

// printable refuses words that are too long or could steer somebody's terminal:
// they end up in logs and in what everybody is told.
func printable(what, words string) error {
	switch {
	case len(words) > busapi.MaxReason:
		return busapi.Refuse(busapi.ErrBadOption, "the %s has %d bytes, more than %d", what, len(words), busapi.MaxReason)
	case strings.ContainsFunc(words, func(r rune) bool { return !unicode.IsPrint(r) }):
		return busapi.Refuse(busapi.ErrBadOption, "the %s holds characters that cannot be printed", what)
	}
	return nil
}
