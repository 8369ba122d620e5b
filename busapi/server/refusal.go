package server

import (
	"context"
	"strings"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
)

// refused tells the controller of what got an error, for the record; no error is none.
func (s *Server) refused(c call, r status.Refusal, cause error) {
	if cause == nil {
		return
	}
	reply := busapi.ToDBus(cause)
	r.Mode, r.Why = short(r.Mode), short(r.Why)
	r.Reason, r.Text = reply.Name[strings.LastIndexByte(reply.Name, '.')+1:], cause.Error()
	ctx, cancel := context.WithTimeout(c.ctx, callTimeout)
	defer cancel()
	if uid, err := s.authorizer.UID(ctx, c.sender); err == nil {
		r.UID, r.By = &uid, describe(uid)
	}
	s.controller.Refused(r)
}

// short bounds a word that somebody made up: a message may carry megabytes.
func short(word string) string {
	if len(word) <= busapi.MaxReason {
		return word
	}
	return strings.ToValidUTF8(word[:busapi.MaxReason], "") + "..."
}
