package server

import (
	"context"
	"fmt"
	"slices"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/observer"
)

// plan tells what a request by the sender would do. As runGuards it asks polkit
// nothing: whether the sender may do it is for a request to find out.
func (s *Server) plan(c *call, mode string) (busapi.Dict, error) {
	wanted, err := s.parseMode(mode)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(c.ctx, callTimeout)
	defer cancel()
	preview, snapshot, err := s.controller.Plan(ctx, status.Request{Mode: wanted, UID: c.uid, EndOthers: c.uid == 0})
	if err != nil {
		return nil, fmt.Errorf("cannot make a plan: %w", err)
	}
	return busapi.EncodePreview(redactPreview(preview, snapshot, c.uid)), nil
}

// redactPreview removes the details of other users' processes. Sessions and units stay:
// logind and systemd publish them.
func redactPreview(p status.Preview, s observer.Snapshot, uid uint32) status.Preview {
	_, redaction := observer.Redact(s, uid)
	p.Guards = guards.Redacted(p.Guards, redaction)
	p.Holders, p.Unseen = slices.Clone(p.Holders), slices.Clone(p.Unseen)
	for i, h := range p.Holders {
		p.Holders[i] = h.For(uid)
	}
	for i, u := range p.Unseen {
		p.Unseen[i] = u.For(uid)
	}
	return p
}
