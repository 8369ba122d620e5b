package holders

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"

	"github.com/dubnium/dubnium/internal/probeclient"
	"github.com/dubnium/dubnium/observer"
)

// Document is what the holders probe writes: the processes that have device nodes of GPUs or sound
// devices open, and jobs.
type Document struct {
	// GPUs and Holders are required, and empty on a host without GPUs.
	GPUs    []observer.GPU    `json:"gpus"`
	Holders []observer.Holder `json:"holders"`
	// Unseen are the processes whose open files were not all read, and MoreUnseen counts
	// those for which the list has no room. Any of them could be a holder.
	Unseen     []observer.Unseen `json:"unseen,omitempty"`
	MoreUnseen int               `json:"more_unseen,omitempty"`
	// PCMs are the ALSA devices that are open, and DAWs the processes that the policy
	// calls digital audio workstations. Nil: they could not be read, or the version of the
	// probe does not read them.
	PCMs     []observer.PCM     `json:"pcms"`
	MorePCMs int                `json:"more_pcms,omitempty"`
	DAWs     []observer.Process `json:"daws"`
	MoreDAWs int                `json:"more_daws,omitempty"`
	// Jobs are the processes that match a job pattern of the policy, and Stores the
	// directories that the policy requires.
	Jobs        observer.Jobs        `json:"jobs"`
	Directories []observer.Directory `json:"stores"`
	// Unreadable counts all processes whose open files were not all read. Earlier versions
	// have only this number.
	Unreadable int `json:"unreadable"`
	// Error is why the probe could not read the host.
	Error string `json:"error,omitempty"`
}

// Limits of a valid entry. Those of the kernel are lower (a comm has 15 bytes, a unit name 255), so
// the probe does not write a document that exceeds them.
const (
	maxName   = 600
	maxList   = 64
	maxReason = 200
	maxPath   = 4096
	maxGPUs   = 256
)

// The number of entries that the probe lists. It counts the rest. Any user can start many processes
// that belong in a list, and the document must stay well below probeclient.MaxDocument.
const (
	MaxHolders = 1024
	MaxUnseen  = 64
	MaxPCMs    = 256
	MaxDAWs    = 16
	MaxJobs    = 64
)

// gpuID is a PCI address, or the name of a device that has none.
var gpuID = regexp.MustCompile(`^[A-Za-z0-9:._-]{1,64}$`)

// Fault is why the probe could not read the host, empty if it could.
func (d Document) Fault() string { return d.Error }

// Decode parses a document and validates it. The strings of the result are printable and within their
// limits.
func Decode(data []byte) (Document, error) {
	var d Document
	if err := probeclient.Decode(data, &d); err != nil {
		return Document{}, err
	}
	if d.Error != "" {
		return Document{Error: probeclient.Clean(d.Error, maxReason)}, nil
	}
	if d.GPUs == nil || d.Holders == nil {
		return Document{}, errors.New("its answer lacks the GPUs or the holders")
	}
	if d.Unreadable < 0 {
		return Document{}, errors.New("it counted a negative number of processes")
	}
	return d, d.check()
}

// check rejects what the probe cannot have written, and cleans the strings.
func (d *Document) check() error {
	for _, list := range []struct {
		what            string
		len, most, more int
	}{
		{"GPUs", len(d.GPUs), maxGPUs, 0},
		{"holders", len(d.Holders), MaxHolders, 0},
		{"processes without their open files", len(d.Unseen), MaxUnseen, d.MoreUnseen},
		{"sound devices", len(d.PCMs), MaxPCMs, d.MorePCMs},
		{"digital audio workstations", len(d.DAWs), MaxDAWs, d.MoreDAWs},
		{"jobs", len(d.Jobs.List), MaxJobs, d.Jobs.Truncated},
		{"processes without their command line", len(d.Jobs.Unread), MaxUnseen, d.Jobs.MoreUnread},
		{"directories", len(d.Directories), maxList, 0},
	} {
		if list.len > list.most || list.more < 0 {
			return fmt.Errorf("it lists %d %s and %d more", list.len, list.what, list.more)
		}
	}
	return cmp.Or(
		d.checkGPUs(), d.checkSound(), d.checkJobs(), checkUnseen(d.Unseen), checkUnseen(d.Jobs.Unread), d.checkStores(),
	)
}

func (d *Document) checkGPUs() error {
	known := map[string]bool{}
	for i := range d.GPUs {
		g := &d.GPUs[i]
		if !gpuID.MatchString(g.PCI) || (g.Audio != "" && !gpuID.MatchString(g.Audio)) {
			return fmt.Errorf("it names a GPU %q", probeclient.Clean(cmp.Or(g.Audio, g.PCI), maxReason))
		}
		g.Driver = probeclient.Clean(g.Driver, maxList)
		known[g.PCI] = true
	}
	for i := range d.Holders {
		h := &d.Holders[i]
		switch {
		case h.PID <= 0 || h.Truncated < 0:
			return fmt.Errorf("it names a holder with pid %d and %d more", h.PID, h.Truncated)
		case !known[h.GPU]:
			return fmt.Errorf("it names a holder of the GPU %q, which it did not list", probeclient.Clean(h.GPU, maxReason))
		case len(h.Slices) > maxList || len(h.Nodes) > maxList:
			return fmt.Errorf("it names too many slices or nodes of pid %d", h.PID)
		}
		h.Command, h.Session = probeclient.Clean(h.Command, maxList), probeclient.Clean(h.Session, maxList)
		h.Unit = probeclient.Clean(h.Unit, maxName)
		clean(h.Slices, maxName)
		clean(h.Nodes, maxList)
	}
	return nil
}

func (d *Document) checkSound() error {
	for i := range d.PCMs {
		d.PCMs[i].Name = probeclient.Clean(d.PCMs[i].Name, maxList)
		if err := checkProcess(&d.PCMs[i].Process); err != nil {
			return err
		}
	}
	for i := range d.DAWs {
		if err := checkProcess(&d.DAWs[i]); err != nil {
			return err
		}
	}
	return nil
}

func (d *Document) checkJobs() error {
	d.Jobs.Reason = probeclient.Clean(d.Jobs.Reason, maxReason)
	for i := range d.Jobs.List {
		j := &d.Jobs.List[i]
		j.Pattern = probeclient.Clean(j.Pattern, maxReason)
		if err := checkProcess(&j.Process); err != nil {
			return err
		}
	}
	return nil
}

func (d *Document) checkStores() error {
	for i := range d.Directories {
		s := &d.Directories[i]
		s.Path, s.Fault = probeclient.Clean(s.Path, maxPath), probeclient.Clean(s.Fault, maxReason)
		s.Reason, s.Free.Reason = probeclient.Clean(s.Reason, maxReason), probeclient.Clean(s.Free.Reason, maxReason)
		if free := s.Free.Value; free != nil && !(*free >= 0 && *free <= 1e21) {
			return fmt.Errorf("it finds %v bytes free", *free)
		}
	}
	return nil
}

func checkUnseen(list []observer.Unseen) error {
	for i := range list {
		u := &list[i]
		if u.Truncated < 0 || len(u.Slices) > maxList {
			return fmt.Errorf("it names %d slices of pid %d and %d more like it", len(u.Slices), u.PID, u.Truncated)
		}
		clean(u.Slices, maxName)
		if err := checkProcess(&u.Process); err != nil {
			return err
		}
	}
	return nil
}

func checkProcess(p *observer.Process) error {
	if p.PID < 0 { // 0 is a process that has ended or is unknown
		return fmt.Errorf("it names a process with pid %d", p.PID)
	}
	p.Command, p.Session = probeclient.Clean(p.Command, maxList), probeclient.Clean(p.Session, maxList)
	p.Unit = probeclient.Clean(p.Unit, maxName)
	return nil
}

func clean(list []string, limit int) {
	for i := range list {
		list[i] = probeclient.Clean(list[i], limit)
	}
}
