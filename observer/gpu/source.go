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
	"time"

	"github.com/dubnium/dubnium/internal/probeclient"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// Socket is the name of the probe's socket under policy.Paths.Probes.
const Socket = "gpu"

// Source looks through the probe. It watches nothing: the driver tells nobody who
// begins to use a card.
type Source struct{ *probeclient.Source }

// New returns the source for the probe of p's host.
func New(p policy.Policy) *Source { return &Source{probeclient.NewSource(p, Socket)} }

// NextPoll asks for a look now and then where policy says whose the GPUs are: only
// there does a mode rest on what NVML knows.
func (s *Source) NextPoll(now observer.Snapshot) time.Time {
	if pace := observer.GPUPace(s.Policy(), now); pace > 0 && s.Policy().GPU.Configured() {
		return now.GPU.At.Add(pace)
	}
	return time.Time{}
}

// Read asks the probe.
func (s *Source) Read(ctx context.Context) observer.Part {
	d, reason := probeclient.Ask(ctx, s.Source, Decode)
	part := observer.NVML{Reading: observer.Reading{At: time.Now(), Reason: reason}}
	if reason == "" {
		part.Driver, part.Cards = *d.Driver, d.Cards
	}
	return part
}
