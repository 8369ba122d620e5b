// Package gpu reads the GPU probe: what NVML reports about the memory and the processes of each
// NVIDIA GPU.
//
// NVML is a C library and can hang forever, so dubnium-gpu-probe reads it in a sandbox of its own.
// This package is the side of the daemon. A host without the NVIDIA driver is a valid result. If the
// probe is missing, busy, slow or broken, the reading is unknown, with a reason. A card that cannot be
// read is unknown, and the others are known.
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

// Source reads the probe. It is polled: the driver does not signal the use of a card.
type Source struct{ *probeclient.Source }

// New returns the source for the probe of p's host.
func New(p policy.Policy) *Source { return &Source{probeclient.NewSource(p, Socket)} }

// NextPoll polls only if the policy names GPUs, since otherwise no mode depends on NVML.
func (s *Source) NextPoll(now observer.Snapshot) time.Time {
	if pace := observer.GPUPace(s.Policy(), now); pace > 0 && s.Policy().GPU.Configured() {
		return now.GPU.At.Add(pace)
	}
	return time.Time{}
}

// Read reads the probe.
func (s *Source) Read(ctx context.Context) observer.Part {
	d, reason := probeclient.Read(ctx, s.Source, Decode)
	part := observer.NVML{Reading: observer.Reading{At: time.Now(), Reason: reason}}
	if reason == "" {
		part.Driver, part.Cards = *d.Driver, d.Cards
	}
	return part
}
