package server

import (
	"strings"

	"github.com/dubnium/dubnium/busapi"
)

// refused tells the controller of a call that got an error, for the record. What is
// recorded is what the caller was told.
func (s *Server) refused(c *call, asked string, cause error) {
	reply := busapi.ToDBus(cause)
	r := c.about
	r.Asked, r.UID, r.By = asked, c.uid, describe(c.uid)
	r.Mode, r.Why = busapi.Short(r.Mode, busapi.MaxReason), busapi.Short(r.Why, busapi.MaxReason)
	r.Reason, r.Text = reply.Name[strings.LastIndexByte(reply.Name, '.')+1:], reply.Error()
	s.controller.Rejected(r)
}
