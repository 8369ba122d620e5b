package server

import (
	"context"
	"strings"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
)

// refused tells the controller of a request that got an error, for the record.
func (s *Server) refused(c call, mode string, options busapi.Dict, cause error) {
	reply := busapi.ToDBus(cause)
	r := status.Refusal{Mode: short(mode), Reason: reply.Name[strings.LastIndexByte(reply.Name, '.')+1:], Text: cause.Error()}
	if asked, err := parseRequestOptions(options); err == nil { // what cannot be read may be why it was refused
		r.Why = asked.Why
	}
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
