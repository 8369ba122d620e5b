package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// requestMode checks the words of a request before it asks anyone about the
// sender: a typo must not cost a person a password.
func (s *Server) requestMode(c call, mode string, flags uint64, options busapi.Dict) (uint64, error) {
	id, err := s.acceptMode(c, mode, flags, options)
	if err != nil {
		s.refused(c, mode, options, err)
	}
	return id, err
}

func (s *Server) acceptMode(c call, mode string, flags uint64, options busapi.Dict) (uint64, error) {
	wanted, err := s.parseMode(mode)
	if err != nil {
		return 0, err
	}
	if err := noFlags(flags); err != nil {
		return 0, err
	}
	why, err := parseRequestOptions(options)
	if err != nil {
		return 0, err
	}
	request, err := s.authorize(c, wanted)
	if err != nil {
		return 0, err
	}
	request.Why = why
	ctx, cancel := context.WithTimeout(c.ctx, callTimeout)
	defer cancel()
	return s.controller.Request(ctx, request)
}

func (s *Server) parseMode(word string) (policy.Mode, error) {
	if mode := policy.Mode(word); slices.Contains(s.options.Modes, mode) {
		return mode, nil
	}
	offered := make([]string, len(s.options.Modes))
	for i, m := range s.options.Modes {
		offered[i] = string(m)
	}
	return "", busapi.Refuse(busapi.ErrUnknownMode, "unknown mode %q: the modes are %s", word, strings.Join(offered, ", "))
}

// noFlags refuses every bit: none is known yet, and a bit that is ignored today
// could not get a meaning tomorrow.
func noFlags(flags uint64) error {
	if flags != 0 {
		return busapi.Refuse(busapi.ErrBadOption, "unknown flag bits %#x", flags)
	}
	return nil
}

// parseRequestOptions returns the requester's own words. They end up in logs, on
// terminals and in everybody's TransitionFinished, so they are short and
// printable.
func parseRequestOptions(options busapi.Dict) (why string, err error) {
	if err := knownKeys("option", options, busapi.OptionReason); err != nil {
		return "", err
	}
	value, given := options[busapi.OptionReason]
	if !given {
		return "", nil
	}
	why, isString := value.Value().(string)
	switch {
	case !isString:
		return "", wrongType("option", busapi.OptionReason, "s", value.Signature().String())
	case len(why) > busapi.MaxReason:
		return "", busapi.Refuse(busapi.ErrBadOption, "the option reason has %d bytes, more than %d", len(why), busapi.MaxReason)
	case strings.ContainsFunc(why, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "", busapi.Refuse(busapi.ErrBadOption, "the option reason holds characters that cannot be printed")
	}
	return why, nil
}

// getTransition asks the view first: a running transition has no record yet, and
// the last one is at hand.
func (s *Server) getTransition(c call, id uint64) (busapi.Dict, error) {
	view := s.controller.View()
	if view.Running != nil && view.Running.ID == id {
		return busapi.EncodeTransition(view.Running), nil
	}
	if view.Last != nil && view.Last.ID == id {
		return busapi.EncodeRecord(view.Last), nil
	}
	ctx, cancel := context.WithTimeout(c.ctx, callTimeout)
	defer cancel()
	record, err := s.controller.Record(ctx, id)
	if errors.Is(err, status.ErrNoSuchTransition) {
		return nil, busapi.Refuse(status.ErrNoSuchTransition, "no record of a transition %d is kept", id)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the record of transition %d: %w", id, err)
	}
	return busapi.EncodeRecord(&record), nil
}

// mayLook says who asks for a fresh look. A look costs the host (it walks /proc),
// so only root may ask for them as often as it likes.
func (s *Server) mayLook(ctx context.Context, c call) (uid uint32, err error) {
	if uid, err = s.authorizer.UID(ctx, c.sender); err != nil {
		return 0, senderUnknown(err)
	}
	if uid != 0 && !s.looks.allow(uid) {
		return 0, busapi.Refuse(busapi.ErrRateLimited, "uid %d asked for a fresh look less than %s ago", uid, lookInterval)
	}
	return uid, nil
}

// observe makes a fresh look.
func (s *Server) observe(c call, flags uint64) (busapi.Dict, error) {
	if err := noFlags(flags); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(c.ctx, callTimeout)
	defer cancel()
	uid, err := s.mayLook(ctx, c)
	if err != nil {
		return nil, err
	}
	view, err := s.controller.Observe(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot look at the host afresh: %w", err)
	}
	text, err := view.Policy.TOML()
	if err != nil {
		return nil, err
	}
	snapshot, redaction := observer.Redact(view.Snapshot, uid)
	return busapi.EncodeEvidence(busapi.Evidence{
		Observation: redaction.Observation(view.Observation), Since: view.ObservedSince, Snapshot: snapshot,
		Fingerprint: view.Snapshot.Fingerprint(), Redacted: uid != 0, Policy: text,
	}), nil
}

// explain says why the host is called what it was called last; it does not look.
func (s *Server) explain(c call, mode string) (busapi.Dict, error) {
	if mode != "" {
		if _, err := s.parseMode(mode); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(c.ctx, callTimeout)
	defer cancel()
	uid, err := s.authorizer.UID(ctx, c.sender)
	if err != nil {
		return nil, senderUnknown(err)
	}
	view := s.controller.View()
	_, redaction := observer.Redact(view.Snapshot, uid)
	explanation := observer.Explain(view.Policy.Policy, redaction.Observation(view.Observation))
	if mode != "" {
		explanation = explanation.Of(view.Policy.Policy, policy.Mode(mode))
	}
	return busapi.EncodeExplanation(explanation), nil
}

// getPolicy says what the daemon goes by. It waits for nobody.
func (s *Server) getPolicy(call) (busapi.Dict, error) {
	d := s.controller.View().Policy
	return busapi.EncodePolicy(busapi.Policy{File: d.File, Settings: d.Settings()}), nil
}

func (s *Server) history(c call, filter busapi.Dict) ([]busapi.Dict, error) {
	wanted, err := parseFilter(filter)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(c.ctx, callTimeout)
	defer cancel()
	records, err := s.controller.History(ctx, wanted)
	if err != nil {
		return nil, fmt.Errorf("cannot read the history: %w", err)
	}
	return busapi.EncodeHistory(records), nil
}

// knownKeys refuses a key that this version does not know: a caller who asks for
// a grace period must not believe that it is being given one.
func knownKeys(what string, d busapi.Dict, known ...string) error {
	var unknown []string
	for key := range d {
		if !slices.Contains(known, key) {
			unknown = append(unknown, key)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	return busapi.Refuse(busapi.ErrBadOption, "unknown %s %q: known is %s", what, slices.Min(unknown), strings.Join(known, ", "))
}

func wrongType(what, key, want, got string) error {
	return busapi.Refuse(busapi.ErrBadOption, "the %s %s is of type %s, not %s", what, key, got, want)
}
