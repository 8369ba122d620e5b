package server

import (
	"context"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
)

// parseTerms parses the terms of a request.
func parseTerms(options busapi.Dict) (terms status.Terms, err error) {
	for key, term := range map[string]*time.Duration{
		busapi.OptionFor: &terms.For, busapi.OptionUntilIdle: &terms.UntilIdle, busapi.OptionConfirm: &terms.Confirm,
	} {
		if value, given := options[key]; given {
			if *term, err = parseSeconds(key, value, 1, busapi.MaxTerm); err != nil {
				return terms, err
			}
		}
	}
	return terms, nil
}

func parseSeconds(key string, value dbus.Variant, least, most uint32) (time.Duration, error) {
	seconds, ok := value.Value().(uint32)
	switch {
	case !ok:
		return 0, wrongType("option", key, "u", value.Signature().String())
	case seconds < least:
		return 0, busapi.Refuse(busapi.ErrBadOption, "the option %s is %d, less than %d", key, seconds, least)
	case seconds > most:
		return 0, busapi.Refuse(busapi.ErrBadOption, "the option %s is %d, more than %d", key, seconds, most)
	}
	return time.Duration(seconds) * time.Second, nil
}

// confirmMode needs the action for the confirmed mode. If another user set the terms, it
// also needs that for the mode to return to, since the confirmation overrides them.
func (s *Server) confirmMode(c *call, id uint64) error {
	lease := s.controller.View().Lease
	if lease == nil || lease.ID != id || lease.Confirm == 0 {
		return busapi.Refuse(status.ErrNoSuchTransition, "no transition %d waits for confirmation", id)
	}
	needs := []need{{action: busapi.ActionRequest(lease.Mode), details: details{"mode": string(lease.Mode)}}}
	if lease.UID != c.uid {
		needs = append(
			needs, need{action: busapi.ActionRequest(lease.BackTo), details: details{"mode": string(lease.BackTo)}},
		)
	}
	right, err := s.permit(c, needs...)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.ctx, callTimeout)
	defer cancel()
	return s.controller.Confirm(ctx, id, status.Confirmation{By: describe(c.uid), UID: c.uid, Authorization: right})
}
