package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

func (s *Server) requestMode(c call, mode string, flags uint64, options busapi.Dict) (uint64, error) {
	return s.submit(c, mode, nil, flags, options)
}

// forceMode is for soft guards, by name: who forces has read what they say.
func (s *Server) forceMode(c call, mode string, skip []string, flags uint64, options busapi.Dict) (uint64, error) {
	return s.submit(c, mode, func() ([]policy.GuardID, error) { return parseSoftGuards(skip) }, flags, options)
}

func parseSoftGuards(names []string) ([]policy.GuardID, error) {
	ids, err := parseGuards(names)
	if err != nil {
		return nil, err
	}
	if len(ids) == 0 {
		return nil, busapi.Refuse(busapi.ErrBadOption, "no guard is named: that is RequestMode")
	}
	for _, id := range ids {
		if spec, _ := policy.Guard(id); spec.Hard {
			return nil, busapi.Refuse(busapi.ErrHardGuard, "%s is a hard guard: nobody can force it", id)
		}
	}
	return ids, nil
}

// submit has what is turned down written down. skips, where it is not nil, says
// which guards are not to count.
func (s *Server) submit(c call, mode string, skips func() ([]policy.GuardID, error), flags uint64, options busapi.Dict) (id uint64, err error) {
	var skip []policy.GuardID
	if skips != nil {
		skip, err = skips()
	}
	if err == nil {
		id, err = s.acceptMode(c, mode, skip, flags, options)
	}
	if err != nil {
		r := status.Refusal{Mode: mode}
		if asked, err := parseRequestOptions(options); err == nil { // what cannot be read may be why it is refused
			r.Why = asked.Why
		}
		s.refused(c, r, err)
	}
	return id, err
}

// acceptMode checks the words of a request before it asks anyone about the sender:
// a typo must not cost a person a password.
func (s *Server) acceptMode(c call, mode string, skip []policy.GuardID, flags uint64, options busapi.Dict) (uint64, error) {
	wanted, err := s.parseMode(mode)
	if err != nil {
		return 0, err
	}
	if err := noFlags(flags &^ busapi.FlagNoWait); err != nil {
		return 0, err
	}
	asked, err := parseRequestOptions(options)
	if err != nil {
		return 0, err
	}
	if err := s.controller.View().Lasts(status.Request{Mode: wanted, Terms: asked.Terms}); err != nil {
		return 0, busapi.Refuse(busapi.ErrBadOption, "%v", err)
	}
	action := busapi.ActionRequest(wanted)
	if len(skip) > 0 {
		action = busapi.ActionForce
	}
	request, err := s.authorize(c, wanted, action)
	if err != nil {
		return 0, err
	}
	request.Skip, request.Why, request.Grace, request.Plan, request.Terms = skip, asked.Why, asked.Grace, asked.Plan, asked.Terms
	request.NoWait = flags&busapi.FlagNoWait != 0
	if request.NoWait && request.UID != 0 {
		return 0, busapi.Refuse(busapi.ErrAccessDenied, "only root may leave delay inhibitors aside")
	}
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

// noFlags refuses every bit that is not known: one that is ignored today could not
// get a meaning tomorrow.
func noFlags(flags uint64) error {
	if flags != 0 {
		return busapi.Refuse(busapi.ErrBadOption, "unknown flag bits %#x", flags)
	}
	return nil
}

// parseRequestOptions returns what the requester says beside the mode.
func parseRequestOptions(options busapi.Dict) (r status.Request, err error) {
	if err := knownKeys("option", options, busapi.OptionReason, busapi.OptionGrace, busapi.OptionPlan,
		busapi.OptionFor, busapi.OptionUntilIdle, busapi.OptionConfirm); err != nil {
		return r, err
	}
	if r.Terms, err = parseTerms(options); err != nil {
		return r, err
	}
	if value, given := options[busapi.OptionReason]; given {
		why, isString := value.Value().(string)
		if !isString {
			return r, wrongType("option", busapi.OptionReason, "s", value.Signature().String())
		}
		if err := printable("option reason", why); err != nil {
			return r, err
		}
		r.Why = why
	}
	if value, given := options[busapi.OptionGrace]; given {
		grace, err := parseSeconds(busapi.OptionGrace, value, 0, busapi.MaxGrace)
		if err != nil {
			return r, err
		}
		r.Grace = &grace
	}
	if value, given := options[busapi.OptionPlan]; given {
		plan, isString := value.Value().(string)
		if !isString {
			return r, wrongType("option", busapi.OptionPlan, "s", value.Signature().String())
		}
		if err := busapi.Fingerprint(plan); err != nil {
			return r, busapi.Refuse(busapi.ErrBadOption, "the option %s: %v", busapi.OptionPlan, err)
		}
		r.Plan = plan
	}
	return r, nil
}

// getTransition asks the view first: a running transition has no record yet, and
// the last one is at hand.
func (s *Server) getTransition(c call, id uint64) (busapi.Dict, error) {
	view := s.controller.View()
	if view.Running != nil && view.Running.ID == id {
		return busapi.EncodeTransition(view.Running), nil
	}
	ctx, cancel := context.WithTimeout(c.ctx, callTimeout)
	defer cancel()
	uid, err := s.authorizer.UID(ctx, c.sender)
	if err != nil {
		return nil, senderUnknown(err)
	}
	if view.Last != nil && view.Last.ID == id {
		return encodeRecord(*view.Last, uid), nil
	}
	record, err := s.controller.Record(ctx, id)
	if errors.Is(err, status.ErrNoSuchTransition) {
		return nil, busapi.Refuse(status.ErrNoSuchTransition, "no record of a transition %d is kept", id)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the record of transition %d: %w", id, err)
	}
	return encodeRecord(record, uid), nil
}

// encodeRecord tells uid of a transition.
func encodeRecord(r status.Record, uid uint32) busapi.Dict {
	r = r.For(uid)
	return busapi.EncodeRecord(&r)
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
	uid, err := s.authorizer.UID(ctx, c.sender)
	if err != nil {
		return nil, senderUnknown(err)
	}
	records, err := s.controller.History(ctx, wanted)
	if err != nil {
		return nil, fmt.Errorf("cannot read the history: %w", err)
	}
	told := make([]busapi.Dict, len(records))
	for i, r := range records {
		told[i] = encodeRecord(r, uid)
	}
	return told, nil
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
