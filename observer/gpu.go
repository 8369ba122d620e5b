package observer

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dubnium/dubnium/policy"
)

// NVML is what the library of the NVIDIA driver reports about the GPUs.
type NVML struct {
	Reading
	// Driver: the host has the NVIDIA driver. Without it the reading is known, and Cards is
	// empty.
	Driver bool   `json:"driver"`
	Cards  []Card `json:"cards"`
}

// Card is one GPU as NVML reports it. Each value that could not be read has a reason of its own.
type Card struct {
	PCI  string `json:"pci"` // 0000:01:00.0; empty if it could not be read
	UUID string `json:"uuid"`
	Name string `json:"name"`
	// Reason explains why nothing is known about the card, for example that it is lost.
	Reason string `json:"reason,omitempty"`
	// MemoryTotal and MemoryUsed are in bytes. MemoryUsed does not include what the driver
	// reserves for itself.
	MemoryTotal Measure       `json:"memory_total"`
	MemoryUsed  Measure       `json:"memory_used"`
	Compute     CardProcesses `json:"compute"`
	Graphics    CardProcesses `json:"graphics"`
}

// CardProcesses are the processes with a context of one kind on a card.
type CardProcesses struct {
	Processes []CardProcess `json:"processes"`
	// Reason explains why the list is unknown. Empty: it is complete.
	Reason string `json:"reason,omitempty"`
}

// CardProcess is a process that uses a card.
type CardProcess struct {
	PID     int    `json:"pid"`
	Command string `json:"command"`
	// UID is nil if it could not be read, as for a process that has ended.
	UID *uint32 `json:"uid"`
	// Unit and Slices are as in Holder.
	Unit   string   `json:"unit"`
	Slices []string `json:"slices"`
	// Memory is the memory of the card that the process uses, in bytes.
	Memory Measure `json:"memory"`
	// Redacted: the process belongs to another user than the reader.
	Redacted bool `json:"redacted,omitempty"`
}

// Into implements Part.
func (p NVML) Into(s *Snapshot) { s.GPU = p }

// String describes the process in messages. Redaction replaces it, as with Holder.String.
func (c CardProcess) String() string {
	switch {
	case c.Redacted && c.UID == nil:
		return "a process"
	case c.Redacted:
		return fmt.Sprintf("a process of uid %d", *c.UID)
	}
	return fmt.Sprintf("%s (pid %d, %s)", cmp.Or(c.Command, "a process"), c.PID, cmp.Or(c.Unit, "in no unit"))
}

// card returns the card at a PCI address, or the reason why it is unknown: NVML does not list it,
// or could not read it.
func (n NVML) card(pci string) (Card, string) {
	reason := "NVML does not list " + pci
	for _, c := range n.Cards {
		switch {
		case c.PCI == pci && c.Reason == "":
			return c, ""
		case c.PCI == pci:
			return c, pci + ": " + c.Reason
		case c.PCI == "":
			reason += fmt.Sprintf(", and a card of its list cannot be read: %s", c.Reason) // it may be that one
		}
	}
	return Card{}, reason
}

// GPUPace is the interval at which the GPUs are polled, 0 for never. Nothing signals who uses them.
// In compute a process that opens a display GPU violates the contract; in desktop they matter only
// if the policy names GPUs.
func GPUPace(p policy.Policy, s Snapshot) time.Duration {
	switch {
	case s.Systemd.Units[p.Units.ComputeTarget].Active():
		return p.Timeouts.Recheck.D()
	case p.GPU.Configured() && s.Systemd.Units[p.Units.DesktopTarget].Active():
		return p.GPU.Recheck.D()
	}
	return 0
}

// gpuFacts adds the facts about which GPUs are present and which processes use them.
func gpuFacts(p policy.Policy, s Snapshot, f Facts) {
	f[DisplayGraphics] = onDisplay(p, s, "graphics", func(c Card) CardProcesses { return c.Graphics },
		func(CardProcess) bool { return false }) // graphics are never permitted
	f[DisplayCompute] = onDisplay(p, s, "compute", func(c Card) CardProcesses { return c.Compute },
		func(c CardProcess) bool { return slices.Contains(p.GPU.PermittedHolders, c.Unit) })
	f[DisplayPresent] = usable(s, "display", p.GPU.Display)
	f[AIPresent] = aiPresent(p, s)
	f[PlannedPresent] = present(s, "planned", p.GPU.Planned, func(GPU) bool { return true })
}

// DisplayGPUs are the GPUs that drive a display: those that the policy names, otherwise every one
// with a display output.
func DisplayGPUs(p policy.Policy, h ProcessScan) []string {
	if len(p.GPU.Display) > 0 {
		return p.GPU.Display
	}
	var found []string
	for _, g := range h.GPUs {
		if g.Display {
			found = append(found, g.PCI)
		}
	}
	return found
}

// onDisplay is True if a process of one kind that is not permitted uses a display GPU. GPUs with
// another driver than NVIDIA's are left out, since NVML does not know them.
func onDisplay(
	p policy.Policy, s Snapshot, kind string, of func(Card) CardProcesses, permitted func(CardProcess) bool,
) Fact {
	if !s.Processes.Known() && len(p.GPU.Display) == 0 {
		return Fact{Source: SourceHolders, At: s.Processes.At, Reason: s.Processes.Reason}
	}
	gpus := slices.DeleteFunc(slices.Clone(DisplayGPUs(p, s.Processes)), func(pci string) bool {
		driver, known := s.Processes.driver(pci)
		return known && driver != nvidia
	})
	if len(gpus) == 0 {
		return Fact{Truth: False, Source: SourceHolders, At: s.Processes.At, Reason: "no display GPU has the NVIDIA driver"}
	}
	f := Fact{Source: SourceGPU, At: s.GPU.At, Reason: s.GPU.Reason}
	switch driver, _ := s.Processes.driver(gpus[0]); {
	case !s.GPU.Known():
		return f
	case !s.GPU.Driver && driver == nvidia:
		f.Reason = "the kernel has the NVIDIA driver for " + gpus[0] + ", but its library was not found"
		return f
	case !s.GPU.Driver:
		f.Truth, f.Reason = False, "there is no NVIDIA driver"
		return f
	}
	return usedBy(s.GPU, gpus, kind, of, permitted)
}

// usedBy is True if one of the GPUs has a process of one kind that is not permitted.
func usedBy(n NVML, gpus []string, kind string, of func(Card) CardProcesses, permitted func(CardProcess) bool) Fact {
	f := Fact{
		Truth: False, Source: SourceGPU, At: n.At, Reason: fmt.Sprintf("no %s process on a display GPU", kind),
	}
	for _, pci := range gpus {
		card, reason := n.card(pci)
		list := of(card)
		if reason = cmp.Or(reason, list.Reason); reason != "" {
			f.Truth, f.Reason = Unknown, reason
			continue
		}
		for _, process := range list.Processes {
			if !permitted(process) {
				f.Truth, f.Reason = True, fmt.Sprintf("%s has a %s context on %s", process.String(), kind, pci)
				return f
			}
		}
	}
	return f
}

// nvidia is the name of the kernel driver that NVML belongs to.
const nvidia = "nvidia"

// driver returns the kernel driver of a GPU, and whether it is known. It is unknown for a PCI card
// that has device nodes and hence a driver, but whose driver link could not be read.
func (h ProcessScan) driver(pci string) (string, bool) {
	i := slices.IndexFunc(h.GPUs, func(g GPU) bool { return g.PCI == pci })
	if !h.Known() || i < 0 {
		return "", false
	}
	g := h.GPUs[i]
	return g.Driver, g.Driver != "" || g.Hidden || !strings.Contains(g.PCI, ":")
}

// aiPresent is True if as many AI GPUs of compute are usable as the policy requires: gpu.min_ai, or
// all of them.
func aiPresent(p policy.Policy, s Snapshot) Fact {
	list := p.AIGPUs(policy.Compute)
	if p.GPU.MinAI == 0 {
		return usable(s, "AI", list)
	}
	return enough(s, list, p.GPU.MinAI)
}

// AIEnterable is True if enough AI GPUs are usable to enter compute. As in aiPresent, except that
// planned GPUs may be missing.
func AIEnterable(p policy.Policy, s Snapshot) Fact {
	list := p.AIGPUs(policy.Compute)
	required := slices.DeleteFunc(slices.Clone(list), func(pci string) bool { return slices.Contains(p.GPU.Planned, pci) })
	if p.GPU.MinAI == 0 {
		return usable(s, "AI", required)
	}
	return enough(s, list, min(p.GPU.MinAI, len(required)))
}

// enough is True if at least need GPUs of the list are usable. Whether one that the driver has lost
// is usable is unknown.
func enough(s Snapshot, list []string, need int) Fact {
	f := Fact{Source: SourceHolders, At: s.Processes.At, Reason: s.Processes.Reason}
	count, reason := map[Truth]int{}, ""
	for _, pci := range list {
		one := usable(s, "AI", []string{pci})
		if count[one.Truth]++; one.Truth != True {
			reason = cmp.Or(reason, one.Reason)
		}
	}
	switch {
	case count[True] >= need:
		f.Truth, f.Reason = True, fmt.Sprintf("%d of %d AI GPUs can be used, and %d are enough", count[True], len(list), need)
	case !s.Processes.Known():
	case count[True]+count[Unknown] < need:
		f.Truth, f.Reason = False, fmt.Sprintf(
			"%d of %d AI GPUs can be used, fewer than %d: %s", count[True], len(list), need, reason,
		)
	default:
		f.Reason = reason
	}
	return f
}

// usable is True if every GPU of the list is present and has a driver.
func usable(s Snapshot, role string, list []string) Fact {
	return present(s, role, list, func(g GPU) bool { return !g.Hidden })
}

// present is True if the machine has every GPU of the list, and counts accepts it. It is Unknown if
// the driver has lost one.
func present(s Snapshot, role string, list []string, counts func(GPU) bool) Fact {
	f := Fact{Source: SourceHolders, At: s.Processes.At, Reason: s.Processes.Reason}
	if len(list) == 0 {
		f.Truth, f.Reason = True, "the policy names no "+role+" GPU"
		return f
	}
	if !s.Processes.Known() {
		return f
	}
	f.Truth, f.Reason = True, "every "+role+" GPU of the policy is present"
	for _, pci := range list {
		i := slices.IndexFunc(s.Processes.GPUs, func(g GPU) bool { return g.PCI == pci })
		switch {
		case i < 0:
			f.Truth, f.Reason = False, fmt.Sprintf("the %s GPU %s of the policy is missing", role, pci)
			return f
		case !counts(s.Processes.GPUs[i]):
			f.Truth, f.Reason = False, fmt.Sprintf("the %s GPU %s of the policy has no usable driver (%s)",
				role, pci, cmp.Or(s.Processes.GPUs[i].Driver, "none is bound"))
			return f
		}
		if card, reason := s.GPU.card(pci); s.GPU.Known() && card.Reason != "" {
			f.Truth, f.Reason = Unknown, reason
		}
	}
	return f
}
