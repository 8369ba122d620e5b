// Package inference asks the inference probe how vLLM is.
//
// What a server answers over HTTP is parsed by dubnium-probe behind a socket, in
// a sandbox with loopback and nothing else; this package is the daemon's side.
// A probe that is missing, slow or broken makes the facts unknown, with the
// reason in words.
package inference

import (
	"context"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/dubnium/dubnium/internal/oneshot"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// Socket is the name of the probe's socket under policy.Paths.Probes.
const Socket = "inference"

// Source looks through the probe.
type Source struct {
	policy atomic.Pointer[policy.Policy]
	probe  *oneshot.Client
}

// New returns the source for the probe of p's host.
func New(p policy.Policy) *Source {
	s := &Source{probe: oneshot.New(filepath.Join(p.Paths.Probes, Socket))}
	s.Adopt(p)
	return s
}

// Adopt makes p what is looked by from now on. Where the probe is does not change.
func (s *Source) Adopt(p policy.Policy) { s.policy.Store(&p) }

// Name names the source in facts and logs.
func (s *Source) Name() string { return "inference" }

// Watch has nothing to watch: vLLM announces nothing. It ends with ctx.
func (s *Source) Watch(ctx context.Context, _ func()) error {
	<-ctx.Done()
	return nil
}

// loading is the pace of looks at a vLLM that is not healthy yet.
const loading = 2 * time.Second

// Due asks for a look as soon as vLLM was started, soon while it loads its model,
// and now and then afterwards, since it can fall ill without its unit changing.
func (s *Source) Due(now observer.Snapshot) time.Time {
	p := s.policy.Load()
	unit := now.Systemd.Units[p.Units.VLLM]
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

// Look asks the probe.
func (s *Source) Look(ctx context.Context) observer.Part {
	d, reason := s.ask(ctx)
	part := observer.Inference{Reading: observer.Reading{At: time.Now(), Reason: reason}}
	if reason == "" {
		part.Healthy, part.HealthText = *d.Healthy, d.HealthText
		part.Running, part.Waiting, part.NotListening = d.Running, d.Waiting, d.NotListening
	}
	return part
}

func (s *Source) ask(ctx context.Context) (d Document, reason string) {
	data, err := s.probe.Fetch(ctx)
	if err != nil {
		return d, "the inference probe " + err.Error()
	}
	d, err = Decode(data)
	switch {
	case err != nil:
		return d, "the inference probe cannot be believed: " + err.Error()
	case d.Error != "":
		return d, "the inference probe cannot tell: " + d.Error
	}
	return d, ""
}
