package observer

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/dubnium/dubnium/policy"
)

// Worker is a process of vLLM that holds a GPU, by an open device node or by an NVML context.
type Worker struct {
	PID     int    `json:"pid"`
	Command string `json:"command"`
	// Unit is as in Holder.
	Unit string `json:"unit"`
	GPU  string `json:"gpu"` // PCI address
	// Text describes the process in messages. Redaction replaces it.
	Text string `json:"text"`
}

// Workers lists the processes that hold a GPU and are in one of the units, or were listed in before
// and have moved to another unit. A process is listed once for each GPU.
func Workers(s Snapshot, units []string, before []Worker) []Worker {
	var found []Worker
	add := func(w Worker) {
		known := slices.ContainsFunc(before, func(b Worker) bool { return b.PID == w.PID && b.Command == w.Command })
		duplicate := slices.ContainsFunc(found, func(f Worker) bool { return f.PID == w.PID && f.GPU == w.GPU })
		if (known || slices.Contains(units, w.Unit)) && !duplicate {
			found = append(found, w)
		}
	}
	for _, h := range s.Processes.Holders {
		add(Worker{h.PID, h.Command, h.Unit, h.GPU, h.String()})
	}
	for _, card := range s.GPU.Cards {
		for _, p := range slices.Concat(card.Compute.Processes, card.Graphics.Processes) {
			add(Worker{p.PID, p.Command, p.Unit, card.PCI, p.String()})
		}
	}
	return found
}

// GPUsFree is True if none of Workers holds a GPU after vLLM was stopped. The open files prove it:
// without them the fact is Unknown. A worker that only NVML lists makes it False too.
func GPUsFree(s Snapshot, units []string, before []Worker) Fact {
	f := Fact{Source: SourceHolders, At: s.Processes.At, Reason: s.Processes.Reason}
	left, unseen := Workers(s, units, before), unseenWorker(s.Processes, units, before)
	switch {
	case len(left) > 0:
		f.Truth, f.Reason = False, fmt.Sprintf("%s has %s", left[0].Text, left[0].GPU)
		if more := len(left) - 1; more > 0 {
			f.Reason += fmt.Sprintf(" and %d more", more)
		}
	case !s.Processes.Known():
		f.Reason = "the holders of the GPUs are unknown: " + cmp.Or(f.Reason, "not read yet")
	case unseen != "":
		f.Reason = unseen
	default:
		f.Truth, f.Reason = True, "no process of vLLM has a GPU"
	}
	return f
}

// unseenWorker names a process whose open files were not all read and that may be a worker, empty
// for none.
func unseenWorker(h ProcessScan, units []string, before []Worker) string {
	for _, u := range h.Unseen {
		known := slices.ContainsFunc(before, func(b Worker) bool { return b.PID == u.PID && b.Command == u.Command })
		if known || slices.Contains(units, u.Unit) {
			return u.Text()
		}
	}
	if h.MoreUnseen > 0 {
		return fmt.Sprintf("%d processes that are not listed may have a GPU", h.MoreUnseen)
	}
	return ""
}

// ResidualMemory returns why a GPU of these addresses may not be free although no process of vLLM
// holds one. memory: more memory is in use on a GPU without a holder than the policy permits.
// doubt: NVML could not be read. Both are empty if all are free.
func ResidualMemory(p policy.Policy, s Snapshot, gpus []string) (memory, doubt string) {
	for _, pci := range gpus {
		if driver, _ := s.Processes.driver(pci); driver != nvidia {
			continue
		}
		card, reason := s.GPU.card(pci)
		if !s.GPU.Known() {
			reason = cmp.Or(s.GPU.Reason, "not read yet")
		}
		reason = cmp.Or(reason, card.Compute.Reason, card.Graphics.Reason)
		if used := card.MemoryUsed; reason == "" && used.Value == nil && p.GPU.ResidualMiB > 0 {
			reason = cmp.Or(used.Reason, "it does not report the memory in use")
		}
		switch {
		case reason != "" && !p.GPU.Configured(): // no fact depends on NVML then
		case reason != "":
			doubt = cmp.Or(doubt, fmt.Sprintf("NVML does not confirm that %s is free: %s", pci, reason))
		case p.GPU.ResidualMiB > 0 && *card.MemoryUsed.Value > float64(p.GPU.ResidualMiB)*(1<<20) && !inUse(p, s, card):
			memory = cmp.Or(memory, fmt.Sprintf("no process holds %s, but %.0f MiB of its memory are in use, more than %d",
				pci, *card.MemoryUsed.Value/(1<<20), p.GPU.ResidualMiB))
		}
	}
	return memory, doubt
}

// inUse reports whether a process holds the card, so that its memory may belong to it.
func inUse(p policy.Policy, s Snapshot, card Card) bool {
	return len(card.Compute.Processes)+len(card.Graphics.Processes) > 0 ||
		slices.ContainsFunc(s.Processes.Holders, func(h Holder) bool {
			return h.GPU == card.PCI && h.Unit != gpuProbe && !slices.Contains(p.GPU.PermittedHolders, h.Unit)
		})
}

// ManagerHolds lists the processes under the user manager of uid that hold a display GPU or its
// audio function.
func ManagerHolds(p policy.Policy, h ProcessScan, uid uint32) []Holder {
	var holding []Holder
	for _, holder := range ForeignHolders(p, h) {
		if holder.UnderManagerOf(uid) {
			holding = append(holding, holder)
		}
	}
	return holding
}

// UserManager is the unit of the user manager of uid.
func UserManager(uid uint32) string { return fmt.Sprintf("user@%d.service", uid) }

// UnderManagerOf reports whether the process is the user manager of uid, or in a unit of it.
func (h Holder) UnderManagerOf(uid uint32) bool {
	manager := UserManager(uid)
	return h.Unit == manager || strings.HasPrefix(h.Unit, manager+"/")
}
