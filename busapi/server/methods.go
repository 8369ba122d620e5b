package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// requestOptions are those of RequestMode and ForceMode.
var requestOptions = []string{
	busapi.OptionReason, busapi.OptionGrace, busapi.OptionPlan,
	busapi.OptionFor, busapi.OptionUntilIdle, busapi.OptionConfirm,
}

func (s *Server) requestMode(c *call, mode string) (uint64, error) { return s.submit(c, mode, nil) }

// forceMode skips soft guards that the caller names.
func (s *Server) forceMode(c *call, mode string, skip []string) (uint64, error) {
	c.about.Mode = mode
	guards, err := parseSoftGuards(skip)
	if err != nil {
		return 0, err
	}
	return s.submit(c, mode, guards)
}

func parseSoftGuards(names []string) ([]policy.GuardID, error) {
	ids, err := parseGuards(names)
	if err != nil {
		return nil, err
	}
	if len(ids) == 0 {
		return nil, busapi.Refuse(busapi.ErrBadOption, "ForceMode needs the name of at least one guard")
	}
	for _, id := range ids {
		if spec, _ := policy.Guard(id); spec.Hard {
			return nil, busapi.Refuse(busapi.ErrHardGuard, "guard %s is hard and cannot be skipped", id)
		}
	}
	return ids, nil
}

// reconcile requests the desired mode again, or the option target.
func (s *Server) reconcile(c *call) (uint64, error) {
	desired := s.controller.View().Desired.Mode
	target := string(desired)
	if value, given := c.options[busapi.OptionTarget]; given {
		word, ok := value.Value().(string)
		if !ok {
			return 0, wrongType("option", busapi.OptionTarget, "s", value.Signature().String())
		}
		target = word
	}
	c.about.Mode = target
	wanted, err := s.parseMode(target)
	if err != nil {
		return 0, err
	}
	return s.request(c, status.Request{Mode: wanted, KeepTerms: wanted == desired})
}

// submit checks the arguments of a request before it authorizes the sender: a typo must
// not cause a password prompt.
func (s *Server) submit(c *call, mode string, skip []policy.GuardID) (uint64, error) {
	c.about.Mode = mode
	wanted, err := s.parseMode(mode)
	if err != nil {
		return 0, err
	}
	asked, err := parseRequestOptions(c.options)
	if err != nil {
		return 0, err
	}
	c.about.Why = asked.Why
	asked.Mode, asked.Skip = wanted, skip
	if err := s.controller.View().ValidateTerms(asked); err != nil {
		return 0, busapi.Refuse(busapi.ErrBadOption, "%v", err)
	}
	return s.request(c, asked)
}

// request authorizes the request and passes it to the controller.
func (s *Server) request(c *call, asked status.Request) (uint64, error) {
	asked.NoWait = c.flags&busapi.FlagNoWait != 0
	if asked.NoWait && c.uid != 0 {
		return 0, busapi.Refuse(busapi.ErrAccessDenied, "only root can ignore delay inhibitors")
	}
	request, err := s.authorize(c, asked)
	if err != nil {
		return 0, err
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

// parseRequestOptions parses the options of RequestMode.
func parseRequestOptions(options busapi.Dict) (r status.Request, err error) {
	if r.Terms, err = parseTerms(options); err != nil {
		return r, err
	}
	if value, given := options[busapi.OptionReason]; given {
		why, ok := value.Value().(string)
		if !ok {
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
		plan, ok := value.Value().(string)
		if !ok {
			return r, wrongType("option", busapi.OptionPlan, "s", value.Signature().String())
		}
		if err := busapi.Fingerprint(plan); err != nil {
			return r, busapi.Refuse(busapi.ErrBadOption, "the option %s: %v", busapi.OptionPlan, err)
		}
		r.Plan = plan
	}
	return r, nil
}

// getTransition reads the view first: a running transition has no record, and the view
// has the last one.
func (s *Server) getTransition(c *call, id uint64) (busapi.Dict, error) {
	view := s.controller.View()
	if view.Running != nil && view.Running.ID == id {
		return busapi.EncodeTransition(view.Running), nil
	}
	if view.Last != nil && view.Last.ID == id {
		return encodeRecord(*view.Last, c.uid), nil
	}
	ctx, cancel := context.WithTimeout(c.ctx, callTimeout)
	defer cancel()
	done, err := s.awaitReading(ctx, c)
	if err != nil {
		return nil, err
	}
	defer done()
	record, err := s.controller.Record(ctx, id)
	if errors.Is(err, status.ErrNoSuchTransition) {
		return nil, busapi.Refuse(status.ErrNoSuchTransition, "no record of a transition %d is kept", id)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the record of transition %d: %w", id, err)
	}
	return encodeRecord(record, c.uid), nil
}

// encodeRecord encodes a record, redacted for uid.
func encodeRecord(r status.Record, uid uint32) busapi.Dict {
	r = r.For(uid)
	return busapi.EncodeRecord(&r)
}

// observe returns a fresh snapshot.
func (s *Server) observe(c *call) (busapi.Dict, error) {
	ctx, cancel := context.WithTimeout(c.ctx, callTimeout)
	defer cancel()
	view, err := s.controller.Observe(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot read the host: %w", err)
	}
	text, err := view.Policy.TOML()
	if err != nil {
		return nil, err
	}
	snapshot, redaction := observer.Redact(view.Snapshot, c.uid)
	return busapi.EncodeEvidence(busapi.Evidence{
		Observation: redaction.Observation(view.Observation), Since: view.ObservedSince, Snapshot: snapshot,
		Fingerprint: view.Snapshot.Fingerprint(), Redacted: c.uid != 0, Policy: text,
	}), nil
}

// explain explains the last observation.
func (s *Server) explain(c *call, mode string) (busapi.Dict, error) {
	if mode != "" {
		if _, err := s.parseMode(mode); err != nil {
			return nil, err
		}
	}
	view := s.controller.View()
	_, redaction := observer.Redact(view.Snapshot, c.uid)
	explanation := observer.Explain(view.Policy.Policy, redaction.Observation(view.Observation))
	if mode != "" {
		explanation = explanation.Of(view.Policy.Policy, policy.Mode(mode))
	}
	return busapi.EncodeExplanation(explanation), nil
}

// getPolicy returns the policy in force.
func (s *Server) getPolicy(*call) (busapi.Dict, error) {
	d := s.controller.View().Policy
	return busapi.EncodePolicy(busapi.Policy{File: d.File, Settings: d.Settings()}), nil
}

// awaitReading serializes readers of the history, which needs a processor and memory for
// each. root does not wait.
func (s *Server) awaitReading(ctx context.Context, c *call) (done func(), err error) {
	if c.uid == 0 {
		return func() {}, nil
	}
	select {
	case s.reading <- struct{}{}:
		return func() { <-s.reading }, nil
	case <-ctx.Done():
		return nil, busapi.Refuse(busapi.ErrRateLimited, "other users are reading the history")
	}
}

func (s *Server) history(c *call) ([]busapi.Dict, error) {
	wanted, err := parseFilter(c.options)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(c.ctx, callTimeout)
	defer cancel()
	done, err := s.awaitReading(ctx, c)
	if err != nil {
		return nil, err
	}
	defer done()
	records, more, err := s.controller.History(ctx, wanted)
	if err != nil {
		return nil, fmt.Errorf("cannot read the history: %w", err)
	}
	reply := make([]busapi.Dict, len(records))
	for i, r := range records {
		reply[i] = encodeRecord(r, c.uid)
	}
	if more {
		reply[len(reply)-1][busapi.KeyMore] = dbus.MakeVariant(true)
	}
	return reply, nil
}

func wrongType(what, key, want, got string) error {
	return busapi.Refuse(busapi.ErrBadOption, "the %s %s is of type %s, not %s", what, key, got, want)
}
