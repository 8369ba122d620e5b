package server

import (
	"strings"

	"github.com/dubnium/dubnium/busapi"
)

// refused reports a failed call to the controller, which records the error that the
// caller received.
func (s *Server) refused(c *call, asked string, cause error) {
	reply := busapi.ToDBus(cause)
	r := c.about
	r.Asked, r.UID, r.By = asked, c.uid, describe(c.uid)
	r.Mode, r.Why = busapi.Short(r.Mode, busapi.MaxReason), busapi.Short(r.Why, busapi.MaxReason)
	r.Reason, r.Text = reply.Name[strings.LastIndexByte(reply.Name, '.')+1:], reply.Error()
	s.controller.Rejected(r)
}
