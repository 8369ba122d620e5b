package observer

import (
	"slices"

	"github.com/dubnium/dubnium/policy"
)

// Topology is which GPUs the machine has, beside those that the policy speaks of.
type Topology struct {
	// Known: it has been looked at. Where not, Reason says why, and nothing is told of
	// which GPUs there are; what the policy says is told all the same.
	Known  bool   `json:"known"`
	Reason string `json:"reason,omitempty"`
	// Planned are those that the machine is to have some day, by the policy.
	Planned []string `json:"planned"`
	// Present are those that are there, Unusable those of them without a driver of
	// this host, and Missing those that the policy names and that are not there. All
	// are PCI addresses.
	Present  []string `json:"present"`
	Unusable []string `json:"unusable"`
	Missing  []string `json:"missing"`
	// Display are those that drive a display: the policy's, or every one that could.
	Display []string `json:"display"`
	// AI are those that inference may use, by mode.
	AI map[policy.Mode][]string `json:"ai"`
	// MinAI is how many of them compute needs to be whole.
	MinAI int `json:"min_ai"`
}

// TopologyOf is what the last look at the GPUs says, in an order that does not
// depend on it.
func TopologyOf(p policy.Policy, h ProcessScan) Topology {
	t := Topology{
		Known: h.Known(), Planned: sorted(p.GPU.Planned), Display: sorted(p.GPU.Display),
		AI: map[policy.Mode][]string{}, MinAI: p.GPU.MinAI,
		Present: []string{}, Unusable: []string{}, Missing: []string{},
	}
	for _, mode := range policy.Modes() {
		t.AI[mode] = sorted(p.AIGPUs(mode))
	}
	if t.MinAI == 0 {
		t.MinAI = len(t.AI[policy.Compute])
	}
	if !t.Known {
		t.Reason = h.Reason
		if !h.Looked() {
			t.Reason = "nobody has looked yet"
		}
		return t
	}
	for _, g := range h.GPUs {
		t.Present = append(t.Present, g.PCI)
		if g.Hidden {
			t.Unusable = append(t.Unusable, g.PCI)
		}
	}
	for _, pci := range slices.Concat(p.GPU.Display, p.GPU.AI, p.GPU.Planned) {
		if !slices.Contains(t.Present, pci) {
			t.Missing = append(t.Missing, pci)
		}
	}
	t.Present, t.Unusable, t.Missing, t.Display = sorted(t.Present), sorted(t.Unusable), sorted(t.Missing), sorted(DisplayGPUs(p, h))
	return t
}

// sorted has each element once, and is never nil.
func sorted(list []string) []string {
	all := append([]string{}, list...)
	slices.Sort(all)
	return slices.Compact(all)
}
