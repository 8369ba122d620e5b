// Package inference asks the inference probe how vLLM is.
//
// What a server answers over HTTP is parsed by dubnium-probe behind a socket, in
// a sandbox with loopback and nothing else; this package is the daemon's side.
// A probe that is missing, slow or broken makes the facts unknown, with the
// reason in words.
package inference

import (
	"context"
	"time"

	"github.com/dubnium/dubnium/internal/probeclient"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// Socket is the name of the probe's socket under policy.Paths.Probes.
const Socket = "inference"

// Source looks through the probe. It watches nothing: vLLM announces nothing.
type Source struct{ *probeclient.Source }

// New returns the source for the probe of p's host.
func New(p policy.Policy) *Source { return &Source{probeclient.NewSource(p, Socket)} }

// loading is the pace of looks at a vLLM that is not healthy yet.
const loading = 2 * time.Second

// NextPoll asks for a look as soon as vLLM was started, soon while it loads its model,
// and now and then afterwards, since it can fall ill without its unit changing.
func (s *Source) NextPoll(now observer.Snapshot) time.Time {
	p := s.Policy()
	_, unit := observer.RunningVLLM(p, now.Systemd)
	asked := now.Inference.At
	switch {
	case !unit.Active():
		return time.Time{}
	case asked.Before(unit.ActiveSince):
		return unit.ActiveSince
	case !now.Inference.Healthy:
		return asked.Add(min(loading, p.Timeouts.Recheck.D()))
	}
	return asked.Add(p.Timeouts.Recheck.D())
}

// Read asks the probe.
func (s *Source) Read(ctx context.Context) observer.Part {
	d, reason := probeclient.Ask(ctx, s.Source, Decode)
	part := observer.Inference{Reading: observer.Reading{At: time.Now(), Reason: reason}}
	if reason == "" {
		part.Healthy, part.HealthText = *d.Healthy, d.HealthText
		part.Running, part.Waiting, part.NotListening = d.Running, d.Waiting, d.NotListening
	}
	return part
}
