package probeclient

import (
	"context"
	"path/filepath"
	"sync/atomic"

	"github.com/dubnium/dubnium/policy"
)

// Document is what a probe hands over.
type Document interface {
	// Fault says why the probe could not look; empty when it could.
	Fault() string
}

// Source is what the sources share that look through a one-shot probe: its place,
// the policy in force, and that nobody signals what it would see.
type Source struct {
	socket string
	policy atomic.Pointer[policy.Policy]
	probe  *Client
}

// NewSource returns the source for the probe with that socket under
// policy.Paths.Probes, whose name is the probe's and the source's.
func NewSource(p policy.Policy, socket string) *Source {
	s := &Source{socket: socket, probe: New(filepath.Join(p.Paths.Probes, socket))}
	s.SetPolicy(p)
	return s
}

// SetPolicy makes p what is looked by from now on. Where the probe is does not change.
func (s *Source) SetPolicy(p policy.Policy) { s.policy.Store(&p) }

// Policy is the one in force.
func (s *Source) Policy() policy.Policy { return *s.policy.Load() }

// Name names the source in facts and logs.
func (s *Source) Name() string { return s.socket }

// Watch has nothing to watch. It ends with ctx.
func (s *Source) Watch(ctx context.Context, _ func()) error {
	<-ctx.Done()
	return nil
}

// Ask has the probe of s look, and decodes what it says. The reason says in words
// why there is no document.
func Ask[D Document](ctx context.Context, s *Source, decode func([]byte) (D, error)) (d D, reason string) {
	data, err := s.probe.Fetch(ctx)
	if err != nil {
		return d, "the " + s.socket + " probe " + err.Error()
	}
	d, err = decode(data)
	switch {
	case err != nil:
		return d, "the " + s.socket + " probe cannot be believed: " + err.Error()
	case d.Fault() != "":
		return d, "the " + s.socket + " probe cannot tell: " + d.Fault()
	}
	return d, ""
}
