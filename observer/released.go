package observer

import (
	"fmt"
	"slices"

	"github.com/dubnium/dubnium/policy"
)

// displayReleased is True if no foreign process holds a display GPU, Unknown if some processes or
// display GPUs could not be read.
func displayReleased(p policy.Policy, s Snapshot) Fact {
	f := Fact{Source: SourceHolders, At: s.Processes.At, Reason: s.Processes.Reason}
	if !s.Processes.Known() {
		return f
	}
	if missing := missingDisplays(p, s.Processes); len(missing) > 0 {
		f.Reason = fmt.Sprintf("the display GPU %s of the policy is missing or has no driver", missing[0])
		return f
	}
	foreign := ForeignHolders(p, s.Processes)
	if len(foreign) == 0 {
		if f.Reason = s.Processes.doubt(p); f.Reason == "" {
			f.Truth, f.Reason = True, "no foreign process holds a display GPU"
		}
		return f
	}
	h, more := foreign[0], len(foreign)-1
	for _, holder := range foreign {
		more += holder.Truncated
	}
	f.Truth = False
	f.Reason = fmt.Sprintf("%s holds %s", h.String(), h.GPU)
	if more > 0 {
		f.Reason += fmt.Sprintf(" and %d more", more)
	}
	return f
}

func missingDisplays(p policy.Policy, h ProcessScan) []string {
	var missing []string
	for _, pci := range p.GPU.Display {
		if !slices.ContainsFunc(h.GPUs, func(g GPU) bool { return g.PCI == pci && !g.Hidden }) {
			missing = append(missing, pci)
		}
	}
	return missing
}

// ForeignHolders lists the holders that must release a display GPU before compute can use it. Not
// among them are PID 1 and logind, which keep the nodes of a session open until it is finalized,
// the GPU probe, the units that the policy permits, and ai.slice.
func ForeignHolders(p policy.Policy, h ProcessScan) []Holder {
	var foreign []Holder
	displays := DisplayGPUs(p, h)
	for _, holder := range h.Holders {
		if slices.Contains(displays, holder.GPU) && !permitted(p, holder) {
			foreign = append(foreign, holder)
		}
	}
	return foreign
}

// gpuProbe is the unit of the GPU probe. NVML opens the device nodes while the probe reads it.
const gpuProbe = "dubnium-probe-gpu.service"

// permitted reports whether the unit of a holder may hold a display GPU. Truncated processes share
// the unit of h, except in a user slice, where the units may differ, or if the unit is unknown.
func permitted(p policy.Policy, h Holder) bool {
	if h.Truncated > 0 && (h.Unit == "" || ofUser(h.Slices)) {
		return false
	}
	return h.PID == 1 || h.Unit == "systemd-logind.service" || h.Unit == gpuProbe ||
		slices.Contains(p.GPU.PermittedHolders, h.Unit) || slices.Contains(h.Slices, "ai.slice")
}

// MayHold lists the processes that may hold a display GPU because their open files were not all
// read. Permitted processes are left out. The list is empty if there is no display GPU.
func MayHold(p policy.Policy, h ProcessScan) []Unseen {
	if !h.Known() || len(DisplayGPUs(p, h)) == 0 || len(missingDisplays(p, h)) > 0 {
		return nil
	}
	var doubtful []Unseen
	for _, u := range h.Unseen {
		if !permitted(p, Holder{PID: u.PID, Unit: u.Unit, Slices: u.Slices, Truncated: u.Truncated}) {
			doubtful = append(doubtful, u)
		}
	}
	return doubtful
}

// doubt returns why the list of holders may be incomplete for the display GPUs, empty if it is
// complete.
func (h ProcessScan) doubt(p policy.Policy) string {
	if len(DisplayGPUs(p, h)) == 0 {
		return ""
	}
	unseen, others := MayHold(p, h), h.MoreUnseen
	for _, u := range unseen {
		others += 1 + u.Truncated
	}
	switch {
	case others == 0:
		return ""
	case len(unseen) == 0:
		return fmt.Sprintf("%d processes that are not listed may hold a display GPU", others)
	case others == 1:
		return unseen[0].Text() + ", so it may hold a display GPU"
	}
	return fmt.Sprintf("%s, so it and %d others may hold a display GPU", unseen[0].Text(), others-1)
}
