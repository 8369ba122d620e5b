package observer

import (
	"slices"

	"github.com/dubnium/dubnium/policy"
)

// GPUMemory is the memory of a GPU that is in use.
type GPUMemory struct {
	GPU   string `json:"gpu"` // PCI address
	Bytes uint64 `json:"bytes"`
}

// MiB is the memory in MiB.
func (m GPUMemory) MiB() float64 { return float64(m.Bytes) / (1 << 20) }

// DisplayMemory is the memory in use on each display GPU that the policy names. A GPU is left out
// if NVML does not report it.
func DisplayMemory(p policy.Policy, s Snapshot) []GPUMemory {
	if !s.GPU.Known() {
		return nil
	}
	var all []GPUMemory
	for _, card := range s.GPU.Cards {
		if used := card.MemoryUsed.Value; used != nil && slices.Contains(p.GPU.Display, card.PCI) {
			all = append(all, GPUMemory{card.PCI, uint64(*used)})
		}
	}
	return all
}

// ResidualOnDisplay is the memory that is still in use after the display GPUs were released:
// DisplayMemory while no process holds one. It is nil if that is not proved, and in compute, where
// gpu.residual_mib does not apply.
func ResidualOnDisplay(p policy.Policy, s Snapshot) []GPUMemory {
	f := Derive(p, s)
	free := f.Is(DisplayReleased) == True && f.Is(DisplayGraphics) == False && f.Is(DisplayCompute) == False
	if !free || f.Is(ComputeTarget) == True {
		return nil
	}
	return DisplayMemory(p, s)
}
