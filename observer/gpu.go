package observer

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dubnium/dubnium/policy"
)

// NVML is what the NVIDIA driver's own library says of the GPUs.
type NVML struct {
	Reading
	// Driver: the host has the NVIDIA driver. A host without it is a known one, and
	// has no cards here.
	Driver bool   `json:"driver"`
	Cards  []Card `json:"cards"`
}

// Card is one GPU as NVML tells it. What could not be read says why, each thing
// for itself.
type Card struct {
	PCI  string `json:"pci"` // 0000:01:00.0; empty when not even that could be read
	UUID string `json:"uuid"`
	Name string `json:"name"`
	// Reason says why nothing is known of the card: it is lost, say.
	Reason string `json:"reason,omitempty"`
	// MemoryTotal and MemoryUsed are in bytes. Used leaves out what the driver
	// reserves for itself.
	MemoryTotal Measure       `json:"memory_total"`
	MemoryUsed  Measure       `json:"memory_used"`
	Compute     CardProcesses `json:"compute"`
	Graphics    CardProcesses `json:"graphics"`
}

// CardProcesses are the processes with a context of one kind on a card.
type CardProcesses struct {
	Processes []CardProcess `json:"processes"`
	// Reason says why they are not known. Empty: the list is complete.
	Reason string `json:"reason,omitempty"`
}

// CardProcess is a process that uses a card.
type CardProcess struct {
	PID     int    `json:"pid"`
	Command string `json:"command"`
	// UID is whose the process is; nil when that could not be read, as for one that
	// has ended.
	UID *uint32 `json:"uid"`
	// Unit and Slices are as in Holder.
	Unit   string   `json:"unit"`
	Slices []string `json:"slices"`
	// Memory is how much of the card's it has, in bytes.
	Memory Measure `json:"memory"`
	// Redacted: it belongs to somebody else than who reads this.
	Redacted bool `json:"redacted,omitempty"`
}

// Into makes each source's facts a Part.
func (p NVML) Into(s *Snapshot) { s.GPU = p }

// String names a process in a sentence, for redaction as for a Holder.
func (c CardProcess) String() string {
	switch {
	case c.Redacted && c.UID == nil:
		return "a process"
	case c.Redacted:
		return fmt.Sprintf("a process of uid %d", *c.UID)
	}
	return fmt.Sprintf("%s (pid %d, %s)", cmp.Or(c.Command, "a process"), c.PID, cmp.Or(c.Unit, "in no unit"))
}

// card returns the card at a PCI address. One that NVML does not list is not
// known, and if there are cards that could not be read it may be one of them.
func (n NVML) card(pci string) (Card, string) {
	reason := "NVML does not list " + pci
	for _, c := range n.Cards {
		switch {
		case c.PCI == pci && c.Reason == "":
			return c, ""
		case c.PCI == pci:
			return c, pci + ": " + c.Reason
		case c.PCI == "":
			reason += fmt.Sprintf(", and a card of its list cannot be read: %s", c.Reason)
		}
	}
	return Card{}, reason
}

// GPUPace is how long after a look at the GPUs the next one is due, 0 for never:
// nobody signals who uses them. In compute a process that takes a display GPU
// breaks the contract; outside it they matter where policy says whose they are.
func GPUPace(p policy.Policy, s Snapshot) time.Duration {
	switch {
	case s.Systemd.Units[p.Units.ComputeTarget].Active():
		return p.Timeouts.Recheck.D()
	case p.GPU.Configured() && s.Systemd.Units[p.Units.DesktopTarget].Active():
		return p.GPU.Recheck.D()
	}
	return 0
}

// gpuFacts adds the facts about whose the GPUs are and what is on them.
func gpuFacts(p policy.Policy, s Snapshot, f Facts) {
	f[DisplayGraphics] = onDisplay(p, s, "graphics", func(c Card) CardProcesses { return c.Graphics },
		func(CardProcess) bool { return false }) // nobody is permitted to draw
	f[DisplayCompute] = onDisplay(p, s, "compute", func(c Card) CardProcesses { return c.Compute },
		func(c CardProcess) bool { return slices.Contains(p.GPU.PermittedHolders, c.Unit) })
	f[DisplayPresent] = usable(s, "display", p.GPU.Display)
	f[AIPresent] = aiPresent(p, s)
	f[PlannedPresent] = present(s, "planned", p.GPU.Planned, func(GPU) bool { return true })
}

// DisplayGPUs are the GPUs that drive a display: those that policy names, else
// every one that could.
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

// onDisplay says whether a process of one kind is on a display GPU. Of a GPU with
// another driver than NVIDIA's, NVML knows nothing, and it has no such process.
func onDisplay(
	p policy.Policy, s Snapshot, kind string, of func(Card) CardProcesses, permitted func(CardProcess) bool,
) Fact {
	if !s.Processes.Known() && len(p.GPU.Display) == 0 {
		return Fact{Source: SourceHolders, At: s.Processes.At, Reason: s.Processes.Reason}
	}
	asked := slices.DeleteFunc(slices.Clone(DisplayGPUs(p, s.Processes)), func(pci string) bool {
		driver, known := s.Processes.driver(pci)
		return known && driver != nvidia
	})
	if len(asked) == 0 {
		return Fact{Truth: False, Source: SourceHolders, At: s.Processes.At, Reason: "no display GPU has the NVIDIA driver"}
	}
	f := Fact{Source: SourceGPU, At: s.GPU.At, Reason: s.GPU.Reason}
	switch driver, _ := s.Processes.driver(asked[0]); {
	case !s.GPU.Known():
		return f
	case !s.GPU.Driver && driver == nvidia:
		f.Reason = "the kernel has the NVIDIA driver for " + asked[0] + ", and its library was not found"
		return f
	case !s.GPU.Driver:
		f.Truth, f.Reason = False, "there is no NVIDIA driver"
		return f
	}
	f.Truth, f.Reason = False, fmt.Sprintf("no %s process on a display GPU", kind)
	for _, pci := range asked {
		card, reason := s.GPU.card(pci)
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

// nvidia is the name of the kernel driver that NVML speaks for.
const nvidia = "nvidia"

// driver is the kernel's driver for a GPU, and whether that is known. A card on
// PCI that has device nodes has one, whether or not its name could be read; what
// is not on PCI is not NVIDIA's.
func (h ProcessScan) driver(pci string) (string, bool) {
	i := slices.IndexFunc(h.GPUs, func(g GPU) bool { return g.PCI == pci })
	if !h.Known() || i < 0 {
		return "", false
	}
	g := h.GPUs[i]
	return g.Driver, g.Driver != "" || g.Hidden || !strings.Contains(g.PCI, ":")
}

// aiPresent says whether as many of compute's GPUs are usable as the policy wants:
// every one, or gpu.min_ai.
func aiPresent(p policy.Policy, s Snapshot) Fact {
	list := p.AIGPUs(policy.Compute)
	if p.GPU.MinAI == 0 {
		return usable(s, "AI", list)
	}
	return enough(s, list, p.GPU.MinAI)
}

// AIEnterable says whether the GPUs are usable without which compute cannot begin:
// those that are planned may be missing, and gpu.min_ai may be enough of the rest.
func AIEnterable(p policy.Policy, s Snapshot) Fact {
	list := p.AIGPUs(policy.Compute)
	certain := slices.DeleteFunc(slices.Clone(list), func(pci string) bool { return slices.Contains(p.GPU.Planned, pci) })
	if p.GPU.MinAI == 0 {
		return usable(s, "AI", certain)
	}
	return enough(s, list, min(p.GPU.MinAI, len(certain)))
}

// enough says whether at least so many GPUs of the list are usable. Each that the
// driver has lost may be one or not.
func enough(s Snapshot, list []string, need int) Fact {
	f := Fact{Source: SourceHolders, At: s.Processes.At, Reason: s.Processes.Reason}
	count, wrong := map[Truth]int{}, ""
	for _, pci := range list {
		one := usable(s, "AI", []string{pci})
		if count[one.Truth]++; one.Truth != True {
			wrong = cmp.Or(wrong, one.Reason)
		}
	}
	switch {
	case count[True] >= need:
		f.Truth, f.Reason = True, fmt.Sprintf("%d of %d AI GPUs can be used, and %d are enough", count[True], len(list), need)
	case !s.Processes.Known():
	case count[True]+count[Unknown] < need:
		f.Truth, f.Reason = False, fmt.Sprintf(
			"%d of %d AI GPUs can be used, fewer than %d: %s", count[True], len(list), need, wrong,
		)
	default:
		f.Reason = wrong
	}
	return f
}

// usable says whether every GPU of the list is there, with a driver.
func usable(s Snapshot, whose string, list []string) Fact {
	return present(s, whose, list, func(g GPU) bool { return !g.Hidden })
}

// present says whether every GPU of the list is there. One that the driver has
// lost is neither there nor away.
func present(s Snapshot, whose string, list []string, counts func(GPU) bool) Fact {
	f := Fact{Source: SourceHolders, At: s.Processes.At, Reason: s.Processes.Reason}
	if len(list) == 0 {
		f.Truth, f.Reason = True, "the policy names no "+whose+" GPU"
		return f
	}
	if !s.Processes.Known() {
		return f
	}
	f.Truth, f.Reason = True, "every "+whose+" GPU of the policy is there"
	for _, pci := range list {
		i := slices.IndexFunc(s.Processes.GPUs, func(g GPU) bool { return g.PCI == pci })
		switch {
		case i < 0:
			f.Truth, f.Reason = False, fmt.Sprintf("the %s GPU %s of the policy is not there", whose, pci)
			return f
		case !counts(s.Processes.GPUs[i]):
			f.Truth, f.Reason = False, fmt.Sprintf("the %s GPU %s of the policy is there without a driver (%s)",
				whose, pci, cmp.Or(s.Processes.GPUs[i].Driver, "none is bound"))
			return f
		}
		if card, reason := s.GPU.card(pci); s.GPU.Known() && card.Reason != "" {
			f.Truth, f.Reason = Unknown, reason
		}
	}
	return f
}
