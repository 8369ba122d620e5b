// Package gpu asks the GPU probe what NVML knows: memory and processes of each
// NVIDIA GPU.
//
// NVML can hang for ever, and it is C, so it is asked by dubnium-gpu-probe
// behind a socket, in a sandbox of its own; this package is the daemon's side. A
// host without the NVIDIA driver is an answer. A probe that is missing, busy,
// slow or broken makes the facts unknown, with the reason in words; a card that
// cannot be read is unknown beside others that can.
package gpu

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
const Socket = "gpu"

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
func (s *Source) Name() string { return observer.SourceGPU }

// Watch has nothing to watch: the driver tells nobody who begins to use a card.
// It ends with ctx.
func (s *Source) Watch(ctx context.Context, _ func()) error {
	<-ctx.Done()
	return nil
}

// Due asks for a look now and then where policy says whose the GPUs are: only
// there does a mode rest on what NVML knows.
func (s *Source) Due(now observer.Snapshot) time.Time {
	if pace := observer.GPUPace(*s.policy.Load(), now); pace > 0 && s.policy.Load().GPU.Configured() {
		return now.GPU.At.Add(pace)
	}
	return time.Time{}
}

// Look asks the probe.
func (s *Source) Look(ctx context.Context) observer.Part {
	d, reason := s.ask(ctx)
	part := observer.NVML{Reading: observer.Reading{At: time.Now(), Reason: reason}}
	if reason == "" {
		part.Driver, part.Cards = *d.Driver, d.Cards
	}
	return part
}

func (s *Source) ask(ctx context.Context) (d Document, reason string) {
	data, err := s.probe.Fetch(ctx)
	if err != nil {
		return d, "the gpu probe " + err.Error()
	}
	d, err = Decode(data)
	switch {
	case err != nil:
		return d, "the gpu probe cannot be believed: " + err.Error()
	case d.Error != "":
		return d, "the gpu probe cannot tell: " + d.Error
	}
	return d, ""
}
