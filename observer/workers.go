package observer

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/dubnium/dubnium/policy"
)

// Worker is a process of vLLM's that has a GPU, by an open node or by a context.
type Worker struct {
	PID     int    `json:"pid"`
	Command string `json:"command"`
	// Unit is as in Holder: where the process is now, or was when it was seen.
	Unit string `json:"unit"`
	GPU  string `json:"gpu"` // PCI address
	// Text names it in a sentence, so that a redaction finds it.
	Text string `json:"text"`
}

// Workers lists the processes that have a GPU and are in one of the units, or are
// among those that were seen there before and have gone elsewhere. Each process is
// there once for each GPU.
func Workers(s Snapshot, units []string, before []Worker) []Worker {
	var found []Worker
	meet := func(w Worker) {
		was := slices.ContainsFunc(before, func(b Worker) bool { return b.PID == w.PID && b.Command == w.Command })
		twice := slices.ContainsFunc(found, func(f Worker) bool { return f.PID == w.PID && f.GPU == w.GPU })
		if (was || slices.Contains(units, w.Unit)) && !twice {
			found = append(found, w)
		}
	}
	for _, h := range s.Processes.Holders {
		meet(Worker{h.PID, h.Command, h.Unit, h.GPU, h.String()})
	}
	for _, card := range s.GPU.Cards {
		for _, p := range slices.Concat(card.Compute.Processes, card.Graphics.Processes) {
			meet(Worker{p.PID, p.Command, p.Unit, card.PCI, p.String()})
		}
	}
	return found
}

// GPUsFree says whether the GPUs of a vLLM that has been stopped are free of it: True
// when none of its workers, which are those of Workers, has one. That is known by the
// open files, without which it is unknown; NVML is a second witness, whose word
// against it counts.
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
		f.Reason = "who has the GPUs could not be found out: " + cmp.Or(f.Reason, "nobody has looked yet")
	case unseen != "":
		f.Reason = unseen
	default:
		f.Truth, f.Reason = True, "nothing of vLLM has a GPU"
	}
	return f
}

// unseenWorker says which process that was not looked through is a worker, empty when
// there is none.
func unseenWorker(h ProcessScan, units []string, before []Worker) string {
	for _, u := range h.Unseen {
		was := slices.ContainsFunc(before, func(b Worker) bool { return b.PID == u.PID && b.Command == u.Command })
		if was || slices.Contains(units, u.Unit) {
			return u.Text()
		}
	}
	if h.MoreUnseen > 0 {
		return fmt.Sprintf("%d processes that are not listed may have one", h.MoreUnseen)
	}
	return ""
}

// ResidualMemory is what speaks against it that the GPUs of these addresses are free
// although no process of vLLM's has one: memory that is in use on one that nobody
// has, more than the policy lets there be, and a driver that does not say. The words
// are empty where there is nothing; in doubt are those that only tell of the driver.
func ResidualMemory(p policy.Policy, s Snapshot, gpus []string) (memory, doubt string) {
	for _, pci := range gpus {
		if driver, _ := s.Processes.driver(pci); driver != nvidia {
			continue
		}
		card, reason := s.GPU.card(pci)
		if !s.GPU.Known() {
			reason = cmp.Or(s.GPU.Reason, "it has not been asked")
		}
		reason = cmp.Or(reason, card.Compute.Reason, card.Graphics.Reason)
		if used := card.MemoryUsed; reason == "" && used.Value == nil && p.GPU.ResidualMiB > 0 {
			reason = cmp.Or(used.Reason, "it does not say how much memory is in use")
		}
		switch {
		case reason != "" && !p.GPU.Configured(): // nothing rests on NVML there
		case reason != "":
			doubt = cmp.Or(doubt, fmt.Sprintf("NVML does not confirm that %s is free: %s", pci, reason))
		case p.GPU.ResidualMiB > 0 && *card.MemoryUsed.Value > float64(p.GPU.ResidualMiB)*(1<<20) && !inUse(p, s, card):
			memory = cmp.Or(memory, fmt.Sprintf("nobody has %s, and %.0f MiB of its memory are in use, more than %d",
				pci, *card.MemoryUsed.Value/(1<<20), p.GPU.ResidualMiB))
		}
	}
	return memory, doubt
}

// inUse: somebody has the card whose memory this may be.
func inUse(p policy.Policy, s Snapshot, card Card) bool {
	return len(card.Compute.Processes)+len(card.Graphics.Processes) > 0 ||
		slices.ContainsFunc(s.Processes.Holders, func(h Holder) bool {
			return h.GPU == card.PCI && h.Unit != gpuProbe && !slices.Contains(p.GPU.PermittedHolders, h.Unit)
		})
}

// ManagerHolds lists what runs under somebody's user manager and holds a display GPU,
// or its audio function.
func ManagerHolds(p policy.Policy, h ProcessScan, uid uint32) []Holder {
	var holding []Holder
	for _, holder := range ForeignHolders(p, h) {
		if holder.UnderManagerOf(uid) {
			holding = append(holding, holder)
		}
	}
	return holding
}

// UserManager is the unit of somebody's user manager.
func UserManager(uid uint32) string { return fmt.Sprintf("user@%d.service", uid) }

// UnderManagerOf reports whether the process is somebody's user manager, or in a unit
// of it.
func (h Holder) UnderManagerOf(uid uint32) bool {
	manager := UserManager(uid)
	return h.Unit == manager || strings.HasPrefix(h.Unit, manager+"/")
}
