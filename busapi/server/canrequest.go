package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
)

// canRequest reports whether a request by the sender would be permitted, for clients
// that offer modes. Guards come first: no password overrides them.
func (s *Server) canRequest(c *call, mode string) (answer string, details busapi.Dict, err error) {
	wanted, err := s.parseMode(mode)
	if err != nil {
		return "", nil, err
	}
	ctx, cancel := context.WithTimeout(c.ctx, callTimeout)
	defer cancel()
	r := status.Request{Mode: wanted, UID: c.uid, EndOthers: true} // polkit decides about it below
	preview, snapshot, err := s.controller.Plan(ctx, r)
	if errors.Is(err, status.ErrBusy) {
		return busapi.AnswerNo, busapi.EncodeObstacle(guards.Verdict{Reason: err.Error()}, nil), nil
	}
	if err != nil {
		return "", nil, fmt.Errorf("cannot read the host: %w", err)
	}
	preview = redactPreview(preview, snapshot, c.uid)
	if blocking := guards.Blocking(preview.Guards); len(blocking) > 0 {
		return busapi.AnswerNo, busapi.EncodeObstacle(blocking[0], preview.Sessions), nil
	}
	answer, why := s.granted(ctx, c, r)
	return answer, busapi.EncodeObstacle(guards.Verdict{Reason: why}, preview.Sessions), nil
}

// granted is the answer of polkit to the needs of a request, without a prompt. why
// explains an answer other than yes.
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
