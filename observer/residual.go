package observer

import (
	"slices"

	"github.com/dubnium/dubnium/policy"
)

// GPUMemory is how much memory of a GPU is in use.
type GPUMemory struct {
	GPU   string `json:"gpu"` // PCI address
	Bytes uint64 `json:"bytes"`
}

// MiB is the memory in MiB.
func (m GPUMemory) MiB() float64 { return float64(m.Bytes) / (1 << 20) }

// DisplayMemory is the memory in use on each display GPU that the policy names. A GPU
// of which NVML does not say it is left out.
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

// ResidualOnDisplay is the memory that a release of the display GPUs left in use:
// DisplayMemory while nobody holds one. It is nil where that is not proved, and on the
// way out of compute, where gpu.residual_mib is not judged.
func ResidualOnDisplay(p policy.Policy, s Snapshot) []GPUMemory {
	f := Derive(p, s)
	free := f.Is(DisplayReleased) == True && f.Is(DisplayGraphics) == False && f.Is(DisplayCompute) == False
	if !free || f.Is(ComputeTarget) == True {
		return nil
	}
	return DisplayMemory(p, s)
}
