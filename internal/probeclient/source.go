package probeclient

import (
	"context"
	"path/filepath"
	"sync/atomic"

	"github.com/dubnium/dubnium/policy"
)

// Document is the answer of a probe.
type Document interface {
	// Fault is why the probe could not read anything, empty if it could.
	Fault() string
}

// Source is the common part of the sources that read a one-shot probe: its socket, the policy in
// force, and a Watch without signals.
type Source struct {
	socket string
	policy atomic.Pointer[policy.Policy]
	probe  *Client
}

// NewSource returns the source for the probe that listens on socket, a file name under
// policy.Paths.Probes. It is the name of the source as well.
func NewSource(p policy.Policy, socket string) *Source {
	s := &Source{socket: socket, probe: New(filepath.Join(p.Paths.Probes, socket))}
	s.SetPolicy(p)
	return s
}

// SetPolicy makes p the policy in force. The path of the socket does not change.
func (s *Source) SetPolicy(p policy.Policy) { s.policy.Store(&p) }

// Policy returns the policy in force.
func (s *Source) Policy() policy.Policy { return *s.policy.Load() }

// Name names the source in facts and logs.
func (s *Source) Name() string { return s.socket }

// Watch returns when ctx ends. There are no signals to watch.
func (s *Source) Watch(ctx context.Context, _ func()) error {
	<-ctx.Done()
	return nil
}

// Read requests a document from the probe of s, and decodes it. reason is why there is none, empty
// on success.
func Read[D Document](ctx context.Context, s *Source, decode func([]byte) (D, error)) (d D, reason string) {
	data, err := s.probe.Fetch(ctx)
	if err != nil {
		return d, "the " + s.socket + " probe " + err.Error()
	}
	d, err = decode(data)
	switch {
	case err != nil:
		return d, "the " + s.socket + " probe sent an invalid answer: " + err.Error()
	case d.Fault() != "":
		return d, "the " + s.socket + " probe reports: " + d.Fault()
	}
	return d, ""
}
