package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
)

// canRequest says whether a request by the sender would be let, for whoever offers
// modes to a person. The guards go first: no password helps against them.
func (s *Server) canRequest(c *call, mode string) (answer string, details busapi.Dict, err error) {
	wanted, err := s.parseMode(mode)
	if err != nil {
		return "", nil, err
	}
	ctx, cancel := context.WithTimeout(c.ctx, callTimeout)
	defer cancel()
	r := status.Request{Mode: wanted, UID: c.uid, EndOthers: true} // that right is polkit's answer
	preview, snapshot, err := s.controller.Plan(ctx, r)
	if errors.Is(err, status.ErrBusy) {
		return busapi.AnswerNo, busapi.EncodeObstacle(guards.Verdict{Reason: err.Error()}, nil), nil
	}
	if err != nil {
		return "", nil, fmt.Errorf("cannot look at the host afresh: %w", err)
	}
	preview = redactPreview(preview, snapshot, c.uid)
	if blocking := guards.Blocking(preview.Guards); len(blocking) > 0 {
		return busapi.AnswerNo, busapi.EncodeObstacle(blocking[0], preview.Sessions), nil
	}
	answer, why := s.granted(ctx, c, r)
	return answer, busapi.EncodeObstacle(guards.Verdict{Reason: why}, preview.Sessions), nil
}

// granted is polkit's answer to what a request needs, without a prompt. why says
// against what it stands.
func (s *Server) granted(ctx context.Context, c *call, r status.Request) (answer, why string) {
	answer = busapi.AnswerYes
	if c.uid == 0 {
		return answer, ""
	}
	needs, _, _ := s.needs(c.uid, r)
	for _, n := range needs {
		err := s.authorizer.Authorize(ctx, c.sender, n.action, n.details, false)
		switch {
		case errors.Is(err, busapi.ErrInteractionRequired):
			answer, why = busapi.AnswerChallenge, err.Error()
		case err != nil:
			return busapi.AnswerNo, err.Error()
		}
	}
	return answer, why
}
