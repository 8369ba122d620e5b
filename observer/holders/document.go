package holders

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/dubnium/dubnium/internal/form"
	"github.com/dubnium/dubnium/internal/oneshot"
	"github.com/dubnium/dubnium/observer"
)

// Document is what the holders probe writes: who has a GPU's device nodes open,
// and who the sound devices.
type Document struct {
	// GPUs and Holders are always there, empty rather than null: a document
	// without them is a broken one, not a host without GPUs.
	GPUs    []observer.GPU    `json:"gpus"`
	Holders []observer.Holder `json:"holders"`
	// PCMs are the ALSA devices that are open, and Reapers the processes of REAPER.
	// Nil: it could not tell, or is of a version that does not look.
	PCMs    []observer.PCM     `json:"pcms"`
	Reapers []observer.Process `json:"reapers"`
	// Jobs are the processes that the policy calls somebody's work, and Stores its
	// directories.
	Jobs   observer.Jobs    `json:"jobs"`
	Stores []observer.Store `json:"stores"`
	// Unreadable counts the processes whose open files the probe was not allowed
	// to see; any of them could be a holder.
	Unreadable int `json:"unreadable"`
	// Error says why there is no answer at all.
	Error string `json:"error,omitempty"`
}

// Bounds on what is believed. The kernel's own limits are lower (a comm has 15
// bytes, a unit name 255), so a document that passes them is not from our probe.
const (
	maxName   = 600
	maxList   = 64
	maxReason = 200
	maxPath   = 4096
)

// MaxJobs is how many jobs are listed; the rest is counted.
const MaxJobs = 64

// isGPU reports whether id is a PCI address, or the name of a device that has none.
func isGPU(id string) bool {
	return id != "" && len(id) <= 64 && form.Only(id, func(c byte) bool { return form.Alphanumeric(c) || strings.IndexByte(":._-", c) >= 0 })
}

// Fault says why the probe could not look.
func (d Document) Fault() string { return d.Error }

// Decode reads a document and checks it against the schema. What it returns
// holds no control characters and no string beyond its bound.
func Decode(data []byte) (Document, error) {
	var d Document
	if err := oneshot.Decode(data, &d); err != nil {
		return Document{}, err
	}
	if d.Error != "" {
		return Document{Error: oneshot.Clean(d.Error, maxReason)}, nil
	}
	if d.GPUs == nil || d.Holders == nil {
		return Document{}, errors.New("its answer lacks the GPUs or the holders")
	}
	if d.Unreadable < 0 {
		return Document{}, errors.New("it counted less than no processes")
	}
	return d, d.check()
}

// check refuses what no probe of ours writes, and cleans what it may.
func (d *Document) check() error {
	known := map[string]bool{}
	for i := range d.GPUs {
		g := &d.GPUs[i]
		if !isGPU(g.PCI) || (g.Audio != "" && !isGPU(g.Audio)) {
			return fmt.Errorf("it names a GPU %q", oneshot.Clean(cmp.Or(g.Audio, g.PCI), maxReason))
		}
		g.Driver = oneshot.Clean(g.Driver, maxList)
		known[g.PCI] = true
	}
	for i := range d.Holders {
		h := &d.Holders[i]
		switch {
		case h.PID <= 0:
			return fmt.Errorf("it names a holder with pid %d", h.PID)
		case !known[h.GPU]:
			return fmt.Errorf("it names a holder of the GPU %q, which it did not list", oneshot.Clean(h.GPU, maxReason))
		case len(h.Slices) > maxList || len(h.Nodes) > maxList:
			return fmt.Errorf("it names more slices or nodes of pid %d than there can be", h.PID)
		}
		h.Command, h.Session = oneshot.Clean(h.Command, maxList), oneshot.Clean(h.Session, maxList)
		h.Unit = oneshot.Clean(h.Unit, maxName)
		for j := range h.Slices {
			h.Slices[j] = oneshot.Clean(h.Slices[j], maxName)
		}
		for j := range h.Nodes {
			h.Nodes[j] = oneshot.Clean(h.Nodes[j], maxList)
		}
	}
	return d.checkSound()
}

func (d *Document) checkSound() error {
	for i := range d.PCMs {
		d.PCMs[i].Name = oneshot.Clean(d.PCMs[i].Name, maxList)
		if err := checkProcess(&d.PCMs[i].Process); err != nil {
			return err
		}
	}
	for i := range d.Reapers {
		if err := checkProcess(&d.Reapers[i]); err != nil {
			return err
		}
	}
	return d.checkJobs()
}

func (d *Document) checkJobs() error {
	if len(d.Jobs.List) > MaxJobs || d.Jobs.More < 0 {
		return fmt.Errorf("it names %d jobs and %d more", len(d.Jobs.List), d.Jobs.More)
	}
	d.Jobs.Reason = oneshot.Clean(d.Jobs.Reason, maxReason)
	for i := range d.Jobs.List {
		j := &d.Jobs.List[i]
		j.Pattern = oneshot.Clean(j.Pattern, maxReason)
		if err := checkProcess(&j.Process); err != nil {
			return err
		}
	}
	if len(d.Stores) > maxList {
		return fmt.Errorf("it names %d directories", len(d.Stores))
	}
	for i := range d.Stores {
		s := &d.Stores[i]
		s.Path, s.Fault, s.Reason = oneshot.Clean(s.Path, maxPath), oneshot.Clean(s.Fault, maxReason), oneshot.Clean(s.Reason, maxReason)
		s.Free.Reason = oneshot.Clean(s.Free.Reason, maxReason)
		if free := s.Free.Value; free != nil && !(*free >= 0 && *free <= 1e21) {
			return fmt.Errorf("it finds %v bytes free", *free)
		}
	}
	return nil
}

func checkProcess(p *observer.Process) error {
	if p.PID < 0 { // 0 is one that ended, or that nobody can tell
		return fmt.Errorf("it names a process with pid %d", p.PID)
	}
	p.Command, p.Session = oneshot.Clean(p.Command, maxList), oneshot.Clean(p.Session, maxList)
	p.Unit = oneshot.Clean(p.Unit, maxName)
	return nil
}
