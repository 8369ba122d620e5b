// Package inference reads the inference probe: the health of vLLM and its requests in flight.
//
// dubnium-probe parses the HTTP answers of vLLM, in a sandbox whose only network is loopback. This
// package is the side of the daemon. If the probe is missing, slow or broken, the reading is unknown,
// with a reason.
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

// Source reads the probe. It is polled: vLLM sends no signals.
type Source struct{ *probeclient.Source }

// New returns the source for the probe of p's host.
func New(p policy.Policy) *Source { return &Source{probeclient.NewSource(p, Socket)} }

// loading is the poll interval while vLLM is not healthy.
const loading = 2 * time.Second

// NextPoll polls as soon as vLLM was started, every `loading` until it is healthy, and every
// timeouts.recheck afterwards, since it can become unhealthy while its unit stays active.
func (s *Source) NextPoll(now observer.Snapshot) time.Time {
	p := s.Policy()
	_, unit := observer.RunningVLLM(p, now.Systemd)
	last := now.Inference.At
	switch {
	case !unit.Active():
		return time.Time{}
	case last.Before(unit.ActiveSince):
		return unit.ActiveSince
	case !now.Inference.Healthy:
		return last.Add(min(loading, p.Timeouts.Recheck.D()))
	}
	return last.Add(p.Timeouts.Recheck.D())
}

// Read reads the probe.
func (s *Source) Read(ctx context.Context) observer.Part {
	d, reason := probeclient.Read(ctx, s.Source, Decode)
	part := observer.Inference{Reading: observer.Reading{At: time.Now(), Reason: reason}}
	if reason == "" {
		part.Healthy, part.HealthText = *d.Healthy, d.HealthText
		part.Running, part.Waiting, part.NotListening = d.Running, d.Waiting, d.NotListening
	}
	return part
}
