package vllmstandin

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// Control is what PUT /_control takes; what is left out stays as it is.
type Control struct {
	Running *[]int `json:"running,omitempty"`
	Waiting *[]int `json:"waiting,omitempty"`
	Healthy *bool  `json:"healthy,omitempty"`
	Broken  *bool  `json:"broken_metrics,omitempty"`
}

// ControlHandler serves /_control, on a socket of its own: a stand-in that is
// still loading can be told things too.
func (s *Server) ControlHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /_control", func(w http.ResponseWriter, r *http.Request) {
		var c Control
		dec := json.NewDecoder(r.Body)
		dec.DisallowUnknownFields()
		if err := dec.Decode(&c); err != nil {
			http.Error(w, fmt.Sprintf("cannot read the control message: %v", err), http.StatusBadRequest)
			return
		}
		s.apply(c)
	})
	return mux
}

func (s *Server) apply(c Control) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.Running != nil {
		s.load.Running = *c.Running
	}
	if c.Waiting != nil {
		s.load.Waiting = *c.Waiting
	}
	if c.Healthy != nil {
		s.healthy = *c.Healthy
	}
	if c.Broken != nil {
		s.broken = *c.Broken
	}
}
