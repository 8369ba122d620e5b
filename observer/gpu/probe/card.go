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
	// lost: NVML returned ERROR_GPU_IS_LOST. All further calls will fail.
	lost bool
}

// function is one function of the library about one card.
type function[T any] struct {
	symbol string
	call   func(nvml.Device) (T, nvml.Return)
}

var (
	pciInfo          = function[nvml.PciInfo]{"nvmlDeviceGetPciInfo_v3", nvml.Device.GetPciInfo}
	uuid             = function[string]{"nvmlDeviceGetUUID", nvml.Device.GetUUID}
	deviceName       = function[string]{"nvmlDeviceGetName", nvml.Device.GetName}
	memoryInfo       = function[nvml.Memory_v2]{"nvmlDeviceGetMemoryInfo_v2", nvml.Device.GetMemoryInfo_v2}
	computeProcesses = function[[]nvml.ProcessInfo]{
		"nvmlDeviceGetComputeRunningProcesses_v3", nvml.Device.GetComputeRunningProcesses,
	}
	graphicsProcesses = function[[]nvml.ProcessInfo]{
		"nvmlDeviceGetGraphicsRunningProcesses_v3", nvml.Device.GetGraphicsRunningProcesses,
	}
)

// call calls a function, unless the library lacks it. reason is why there is no result, empty on
// success.
func call[T any](r *reader, f function[T]) (result T, reason string) {
	if r.library.Extensions().LookupSymbol(f.symbol) != nil {
		return result, "the driver's library lacks " + f.symbol
	}
	result, code := f.call(r.device)
	if code != nvml.SUCCESS {
		r.lost = r.lost || code == nvml.ERROR_GPU_IS_LOST
		return result, codeText(code)
	}
	return result, ""
}

// readCard reads one card.
func readCard(library nvml.Interface, proc string, index int) observer.Card {
	device, code := library.DeviceGetHandleByIndex(index)
	if code != nvml.SUCCESS {
		return observer.Card{Reason: fmt.Sprintf("card %d cannot be opened: %s", index, codeText(code))}
	}
	r := &reader{library: library, proc: proc, device: device}
	address, reason := call(r, pciInfo)
	if reason != "" {
		return observer.Card{Reason: fmt.Sprintf("the address of card %d cannot be read: %s", index, reason)}
	}
	card := observer.Card{PCI: fmt.Sprintf("%04x:%02x:%02x.0", address.Domain, address.Bus, address.Device)}
	// UUID and name are for people only, so the reasons are dropped.
	card.UUID, _ = call(r, uuid)
	card.Name, _ = call(r, deviceName)
	memory, reason := call(r, memoryInfo)
	card.MemoryTotal, card.MemoryUsed = bytes(memory.Total, reason), bytes(memory.Used, reason)
	card.Compute, card.Graphics = r.processes(computeProcesses), r.processes(graphicsProcesses)
	if r.lost {
		return observer.Card{PCI: card.PCI, UUID: card.UUID, Name: card.Name, Reason: codeText(nvml.ERROR_GPU_IS_LOST)}
	}
	return card
}

func (r *reader) processes(f function[[]nvml.ProcessInfo]) observer.CardProcesses {
	infos, reason := call(r, f)
	list := observer.CardProcesses{Processes: []observer.CardProcess{}, Reason: reason}
	for _, info := range infos {
		list.Processes = append(list.Processes, r.process(info))
	}
	return list
}

// process identifies a process. One that has ended since NVML listed it is listed with its pid only,
// since it may still hold the card.
func (r *reader) process(info nvml.ProcessInfo) observer.CardProcess {
	p := observer.CardProcess{PID: int(info.Pid), Memory: bytes(info.UsedGpuMemory, "")}
	if h, err := holders.Identify(r.proc, p.PID); err == nil {
		p.Command, p.UID, p.Unit, p.Slices = h.Command, &h.UID, h.Unit, h.Slices
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
		return observer.Measure{Reason: "the driver does not report it"}
	default:
		return observer.Measure{Value: &value}
	}
}
