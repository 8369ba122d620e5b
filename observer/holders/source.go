// Package holders reads the holders probe: the processes that hold GPUs and sound devices, and jobs.
//
// To read the open files of every process needs privileges, so dubnium-probe does it in a sandbox of
// its own. This package is the side of the daemon. If the probe is missing, slow, broken or lacks
// permissions, the reading is unknown, with a reason. It is never an empty list.
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

// Source reads the probe. It is polled: the kernel does not signal who opens a device.
type Source struct{ *probeclient.Source }

// New returns the source for the probe of p's host.
func New(p policy.Policy) *Source { return &Source{probeclient.NewSource(p, Socket)} }

// NextPoll polls while the mode depends on the GPUs (observer.GPUPace).
func (s *Source) NextPoll(now observer.Snapshot) time.Time {
	if pace := observer.GPUPace(s.Policy(), now); pace > 0 {
		return now.Processes.At.Add(pace)
	}
	return time.Time{}
}

// Read reads the probe.
func (s *Source) Read(ctx context.Context) observer.Part {
	d, reason := s.document(ctx)
	part := observer.ProcessScan{Reading: observer.Reading{At: time.Now(), Reason: reason}}
	if reason == "" {
		part.GPUs, part.Holders = d.GPUs, d.Holders
		part.Unseen, part.MoreUnseen = d.Unseen, d.MoreUnseen
		part.Jobs, part.Directories = d.Jobs, d.Directories
		part.PCMs, part.DAWs, part.SoundComplete = d.PCMs, d.DAWs, d.PCMs != nil && d.DAWs != nil
		part.MorePCMs, part.MoreDAWs = d.MorePCMs, d.MoreDAWs
	}
	return part
}

// document reads the probe. It rejects a document that counts unreadable processes without naming
// them, as an earlier version of the probe does.
func (s *Source) document(ctx context.Context) (d Document, reason string) {
	d, reason = probeclient.Read(ctx, s.Source, Decode)
	unnamed := d.Unreadable - d.MoreUnseen
	for _, u := range d.Unseen {
		unnamed -= 1 + u.Truncated
	}
	if reason == "" && unnamed > 0 && slices.ContainsFunc(d.GPUs, func(g observer.GPU) bool { return !g.Hidden }) {
		reason = fmt.Sprintf("the holders probe cannot read the open files of %d processes", unnamed)
	}
	return d, reason
}
