package observer

import (
	"slices"

	"github.com/dubnium/dubnium/policy"
)

// Topology is which GPUs the machine has, and which the policy names.
type Topology struct {
	// Known: the GPUs have been read. Otherwise Reason explains why not, and Present,
	// Unusable and Missing are empty.
	Known  bool   `json:"known"`
	Reason string `json:"reason,omitempty"`
	// Planned are the GPUs that the policy expects in the future.
	Planned []string `json:"planned"`
	// Present are the GPUs of the machine, Unusable those of them without a driver of this
	// host, and Missing those that the policy names and the machine lacks. All are PCI
	// addresses.
	Present  []string `json:"present"`
	Unusable []string `json:"unusable"`
	Missing  []string `json:"missing"`
	// Display are the display GPUs: those of the policy, or every one that has an output.
	Display []string `json:"display"`
	// AI are the GPUs that inference may use, by mode.
	AI map[policy.Mode][]string `json:"ai"`
	// MinAI is how many of them compute needs.
	MinAI int `json:"min_ai"`
}

// TopologyOf is the topology as of the last read. All lists are sorted.
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
		if !h.WasRead() {
			t.Reason = "not read yet"
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
	t.Present, t.Unusable, t.Missing = sorted(t.Present), sorted(t.Unusable), sorted(t.Missing)
	t.Display = sorted(DisplayGPUs(p, h))
	return t
}

// sorted returns each element of list once, and never nil.
func sorted(list []string) []string {
	all := append([]string{}, list...)
	slices.Sort(all)
	return slices.Compact(all)
}
