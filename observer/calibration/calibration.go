// Package calibration finds out how much memory of a display GPU is in use
// although nobody holds it, so that policy can tell residue from use.
//
// No published number can be trusted: it differs from driver to driver and from
// host to host. So releases are watched: what NVML says once the last holder has
// gone and the number has come to rest. A release that shows no such number is
// indeterminate, with the reason, and counts for nothing. The package is pure: it
// makes samples into releases and releases into a proposal.
package calibration

import (
	"cmp"
	"slices"
	"time"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// Use is whether somebody has a GPU.
type Use string

// The uses.
const (
	Held    Use = "held"
	Free    Use = "free"
	Unclear Use = "unclear"
)

// Sample is one display GPU at one look.
type Sample struct {
	At  time.Time
	GPU string // PCI address
	Use Use
	// Reason says why the use is unclear.
	Reason string
	// Used is its memory in use, in bytes.
	Used observer.Measure
	// Holders are who has it, in words.
	Holders []string
}

// Samples reads the display GPUs out of the evidence. The use is what the daemon
// made of it: somebody who may not see other people's processes samples as well
// as root does.
func Samples(p policy.Policy, o observer.Observation, s observer.Snapshot) []Sample {
	var all []Sample
	use, reason := useOf(o.Facts)
	for _, pci := range observer.DisplayGPUs(p, s.Processes) {
		sample := Sample{At: s.GPU.At, GPU: pci, Use: use, Reason: reason, Used: observer.Measure{Reason: "NVML does not list " + pci}}
		if use == Held {
			sample.Holders = holders(p, s.Processes, pci)
		}
		for _, c := range s.GPU.Cards {
			if c.PCI == pci {
				sample.Used = c.MemoryUsed
				sample.Used.Reason = cmp.Or(c.Reason, c.MemoryUsed.Reason)
			}
		}
		if !s.GPU.Known() {
			sample.Used = observer.Measure{Reason: cmp.Or(s.GPU.Reason, "NVML has not been asked")}
		}
		all = append(all, sample)
	}
	return all
}

// useOf: free is what is proved in every way, held what is shown in any.
func useOf(f observer.Facts) (Use, string) {
	want := []struct {
		signal observer.Signal
		free   observer.Truth
	}{
		{observer.DisplayReleased, observer.True}, {observer.DisplayGraphics, observer.False}, {observer.DisplayCompute, observer.False},
	}
	use, reason := Free, ""
	for _, w := range want {
		switch fact := f[w.signal]; fact.Truth {
		case w.free:
		case observer.Unknown:
			use, reason = Unclear, fact.Reason
		default:
			return Held, ""
		}
	}
	return use, reason
}

// holders names who holds a GPU as far as the reader may know; those that policy
// permits hold it after the release too.
func holders(p policy.Policy, h observer.ProcessScan, pci string) []string {
	var names []string
	for _, holder := range observer.ForeignHolders(p, h) {
		if holder.GPU == pci {
			names = append(names, holder.String())
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Outcome is what came of watching a release.
type Outcome string

// The outcomes.
const (
	Pass          Outcome = "pass"
	Indeterminate Outcome = "indeterminate"
)

// Release is one time that a GPU was let go.
type Release struct {
	At      time.Time `json:"at"`
	GPU     string    `json:"gpu"`
	Outcome Outcome   `json:"outcome"`
	// Reason says why it is indeterminate.
	Reason string `json:"reason,omitempty"`
	// Residual is the memory in use once it came to rest, in bytes.
	Residual *float64 `json:"residual,omitempty"`
	// Held is the least memory in use that was seen while somebody held it, and
	// Holders who; both are missing when the watch began after the release.
	Held    *float64 `json:"held,omitempty"`
	Holders []string `json:"holders,omitempty"`
}

const (
	mib = 1 << 20
	// settle is how many samples in a row have to agree, rest by how much, and apart
	// how long they lie apart at least: the driver frees in steps for a moment after
	// the last holder is gone, and samples come in bursts when signals do.
	settle = 4
	rest   = 4 * mib
	apart  = 400 * time.Millisecond
)

// Watch makes samples into releases. The zero value is ready.
type Watch struct{ gpus map[string]*watched }

// watched is one GPU.
type watched struct {
	held    *float64
	holders []string
	// since is when it was let go, zero while it is held; told, that this release
	// has had its outcome.
	since time.Time
	told  bool
	// used is the memory in use since then, last measured at last.
	used []float64
	last time.Time
}

// Add takes a sample in, and returns the release that it decides, if any.
func (w *Watch) Add(s Sample) *Release {
	if w.gpus == nil {
		w.gpus = map[string]*watched{}
	}
	g := w.gpus[s.GPU]
	if g == nil {
		g = &watched{}
		w.gpus[s.GPU] = g
	}
	switch s.Use {
	case Held:
		ended := g.end(s.GPU, "it was taken again before its memory came to rest")
		g.hold(s)
		return ended
	case Unclear:
		return g.end(s.GPU, "it is not clear whether somebody holds it: "+s.Reason)
	}
	return g.free(s)
}

// Finish returns the releases that were still being watched.
func (w *Watch) Finish() []Release {
	var ended []Release
	for gpu, g := range w.gpus {
		if r := g.end(gpu, "the watch ended before its memory came to rest"); r != nil {
			ended = append(ended, *r)
		}
	}
	slices.SortFunc(ended, func(a, b Release) int { return cmp.Compare(a.GPU, b.GPU) })
	return ended
}

func (g *watched) hold(s Sample) {
	if !g.since.IsZero() { // held anew
		*g = watched{}
	}
	if s.Used.Value != nil && (g.held == nil || *s.Used.Value < *g.held) {
		g.held = s.Used.Value
	}
	if len(s.Holders) > 0 {
		g.holders = s.Holders
	}
}

func (g *watched) free(s Sample) *Release {
	if g.since.IsZero() {
		g.since = s.At
	}
	if g.told {
		return nil
	}
	if s.Used.Value == nil {
		return g.end(s.GPU, "its memory in use is not known: "+s.Used.Reason)
	}
	if len(g.used) > 0 && s.At.Sub(g.last) < apart {
		return nil
	}
	g.used, g.last = append(g.used, *s.Used.Value), s.At
	if len(g.used) < settle {
		return nil
	}
	last := g.used[len(g.used)-settle:]
	residual := slices.Max(last)
	if residual-slices.Min(last) > rest {
		return nil
	}
	r := g.release(s.GPU, Pass)
	r.Residual = &residual
	return r
}

// end gives a release without an outcome an indeterminate one.
func (g *watched) end(gpu, reason string) *Release {
	if g.since.IsZero() || g.told {
		return nil
	}
	r := g.release(gpu, Indeterminate)
	r.Reason = reason
	return r
}

func (g *watched) release(gpu string, outcome Outcome) *Release {
	g.told = true
	return &Release{At: g.since, GPU: gpu, Outcome: outcome, Held: g.held, Holders: g.holders}
}
