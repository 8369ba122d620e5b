package server

import (
	"context"
	"fmt"
	"slices"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// runGuards runs the guards of a request without making it. It does not call polkit:
// only a request finds out whether the sender may end other users' sessions.
func (s *Server) runGuards(c *call, mode string, names []string) ([]busapi.Dict, error) {
	wanted, err := s.parseMode(mode)
	if err != nil {
		return nil, err
	}
	ids, err := parseGuards(names)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(c.ctx, callTimeout)
	defer cancel()
	verdicts, snapshot, err := s.controller.Judge(
		ctx, status.Request{Mode: wanted, UID: c.uid, EndOthers: c.uid == 0}, ids,
	)
	if err != nil {
		return nil, fmt.Errorf("cannot read the host: %w", err)
	}
	_, redaction := observer.Redact(snapshot, c.uid)
	return busapi.EncodeVerdicts(guards.Redacted(verdicts, redaction)), nil
}

// parseGuards refuses unknown names: a caller must not take a missing verdict for a
// pass.
func parseGuards(names []string) ([]policy.GuardID, error) {
	var ids []policy.GuardID
	for _, name := range names {
		id := policy.GuardID(name)
		if _, known := policy.Guard(id); !known {
			return nil, busapi.Refuse(busapi.ErrUnknownGuard, "unknown guard %q", name)
		}
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}
