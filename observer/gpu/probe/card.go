package probe

import (
	"fmt"
	"math"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/dubnium/dubnium/observer"
	holders "github.com/dubnium/dubnium/observer/holders/probe"
)

// reader reads one card of a library that has been initialized.
type reader struct {
	library nvml.Interface
	proc    string
	device  nvml.Device
	// lost: some question was answered so. None will be answered any more.
	lost bool
}

// question is one function of the library about one card.
type question[T any] struct {
	symbol string
	ask    func(nvml.Device) (T, nvml.Return)
}

var (
	askPCI     = question[nvml.PciInfo]{"nvmlDeviceGetPciInfo_v3", nvml.Device.GetPciInfo}
	askUUID    = question[string]{"nvmlDeviceGetUUID", nvml.Device.GetUUID}
	askName    = question[string]{"nvmlDeviceGetName", nvml.Device.GetName}
	askMemory  = question[nvml.Memory_v2]{"nvmlDeviceGetMemoryInfo_v2", nvml.Device.GetMemoryInfo_v2}
	askCompute = question[[]nvml.ProcessInfo]{
		"nvmlDeviceGetComputeRunningProcesses_v3", nvml.Device.GetComputeRunningProcesses,
	}
	askGraphics = question[[]nvml.ProcessInfo]{
		"nvmlDeviceGetGraphicsRunningProcesses_v3", nvml.Device.GetGraphicsRunningProcesses,
	}
)

// about asks a question, unless the library lacks the function for it. The
// reason says why there is no answer.
func about[T any](r *reader, q question[T]) (answer T, reason string) {
	if r.library.Extensions().LookupSymbol(q.symbol) != nil {
		return answer, "the driver's library lacks " + q.symbol
	}
	answer, code := q.ask(r.device)
	if code != nvml.SUCCESS {
		r.lost = r.lost || code == nvml.ERROR_GPU_IS_LOST
		return answer, said(code)
	}
	return answer, ""
}

// readCard reads one card.
func readCard(library nvml.Interface, proc string, index int) observer.Card {
	device, code := library.DeviceGetHandleByIndex(index)
	if code != nvml.SUCCESS {
		return observer.Card{Reason: fmt.Sprintf("card %d cannot be opened: %s", index, said(code))}
	}
	r := &reader{library: library, proc: proc, device: device}
	address, reason := about(r, askPCI)
	if reason != "" {
		return observer.Card{Reason: fmt.Sprintf("the address of card %d cannot be read: %s", index, reason)}
	}
	card := observer.Card{PCI: fmt.Sprintf("%04x:%02x:%02x.0", address.Domain, address.Bus, address.Device)}
	// Nothing rests on what it is called, so why it is not is not told.
	card.UUID, _ = about(r, askUUID)
	card.Name, _ = about(r, askName)
	memory, reason := about(r, askMemory)
	card.MemoryTotal, card.MemoryUsed = bytes(memory.Total, reason), bytes(memory.Used, reason)
	card.Compute, card.Graphics = r.processes(askCompute), r.processes(askGraphics)
	if r.lost {
		return observer.Card{PCI: card.PCI, UUID: card.UUID, Name: card.Name, Reason: said(nvml.ERROR_GPU_IS_LOST)}
	}
	return card
}

func (r *reader) processes(q question[[]nvml.ProcessInfo]) observer.CardProcesses {
	infos, reason := about(r, q)
	list := observer.CardProcesses{Processes: []observer.CardProcess{}, Reason: reason}
	for _, info := range infos {
		list.Processes = append(list.Processes, r.process(info))
	}
	return list
}

// process says who a process is. One that has ended since NVML listed it stays
// listed, by its pid alone: it may have the card still.
func (r *reader) process(info nvml.ProcessInfo) observer.CardProcess {
	p := observer.CardProcess{PID: int(info.Pid), Memory: bytes(info.UsedGpuMemory, "")}
	if is, err := holders.Identify(r.proc, p.PID); err == nil {
		p.Command, p.UID, p.Unit, p.Slices = is.Command, &is.UID, is.Unit, is.Slices
	}
	return p
}

// notAvailable is NVML_VALUE_NOT_AVAILABLE.
const notAvailable = math.MaxUint64

func bytes(n uint64, reason string) observer.Measure {
	switch value := float64(n); {
	case reason != "":
		return observer.Measure{Reason: reason}
	case n == notAvailable:
		return observer.Measure{Reason: "the driver does not say"}
	default:
		return observer.Measure{Value: &value}
	}
}
