// Package holders asks the holders probe who keeps the GPUs open.
//
// The looking itself needs to see every process's open files, so it is done by
// dubnium-probe behind a socket, in a sandbox of its own; this package is the
// daemon's side. Whatever goes wrong there, a probe that is missing, slow,
// broken or not allowed to see every process, makes the facts unknown, with the
// reason in words. It never makes them "nobody".
package holders

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/dubnium/dubnium/internal/probeclient"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// Socket is the name of the probe's socket under policy.Paths.Probes.
const Socket = "holders"

// Source looks through the probe. It watches nothing: the kernel tells nobody who opens a device.
type Source struct{ *probeclient.Source }

// New returns the source for the probe of p's host.
func New(p policy.Policy) *Source { return &Source{probeclient.NewSource(p, Socket)} }

// NextPoll asks for a look now and then while who has a GPU, and which are there, can
// matter.
func (s *Source) NextPoll(now observer.Snapshot) time.Time {
	if pace := observer.GPUPace(s.Policy(), now); pace > 0 {
		return now.Processes.At.Add(pace)
	}
	return time.Time{}
}

// Read asks the probe.
func (s *Source) Read(ctx context.Context) observer.Part {
	d, reason := s.ask(ctx)
	part := observer.ProcessScan{Reading: observer.Reading{At: time.Now(), Reason: reason}}
	if reason == "" {
		part.GPUs, part.Holders = d.GPUs, d.Holders
		part.Unseen, part.MoreUnseen = d.Unseen, d.MoreUnseen
		part.Jobs, part.Directories = d.Jobs, d.Stores
		part.PCMs, part.DAWs, part.SoundComplete = d.PCMs, d.DAWs, d.PCMs != nil && d.DAWs != nil
		part.MorePCMs, part.MoreDAWs = d.MorePCMs, d.MoreDAWs
	}
	return part
}

// ask makes nothing known of an answer that leaves processes out without naming them,
// as that of an earlier version does.
func (s *Source) ask(ctx context.Context) (d Document, reason string) {
	d, reason = probeclient.Ask(ctx, s.Source, Decode)
	silent := d.Unreadable - d.MoreUnseen
	for _, u := range d.Unseen {
		silent -= 1 + u.Truncated
	}
	if reason == "" && silent > 0 && slices.ContainsFunc(d.GPUs, func(g observer.GPU) bool { return !g.Hidden }) {
		reason = fmt.Sprintf("the holders probe may not see the open files of %d processes", silent)
	}
	return d, reason
}
