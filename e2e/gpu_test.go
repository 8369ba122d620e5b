//go:build e2e && soak

package e2e

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/fakenvml"
	"github.com/dubnium/dubnium/observer"
)

// nvml is a stand-in for the NVIDIA driver's library where the dynamic linker finds
// it, which says that the machine's own card is one.
type nvml struct {
	*workstation
	pci string
}

func withNVML(t *testing.T) nvml {
	t.Helper()
	w := onDesktop(t)
	w.WaitCompositor(w.ctx)
	library, err := fakenvml.Build(w.ctx, t.TempDir())
	require.NoError(t, err)
	w.Put(w.ctx, library, "/usr/lib/x86_64-linux-gnu/"+fakenvml.Name, 0o644)
	gpus := w.snapshot().Processes.GPUs
	require.Len(t, gpus, 1, "%+v", gpus)
	require.True(t, gpus[0].Display)
	return nvml{w, gpus[0].PCI}
}

// says changes what the driver says from the next look on: text, or a card with that
// many bytes in use and what follows about it.
func (n nvml) says(text string) {
	n.t.Helper()
	n.PutBytes(n.ctx, []byte(text), "/run/dubnium-fake-nvml", 0o644)
}

func (n nvml) card(used int, more string) {
	n.t.Helper()
	n.says(fmt.Sprintf("card 0000%s GPU-in-the-machine 25769803776 %d\n%s", n.pci, used, more))
}

// TestTheGPUProbeLooksFromItsSandbox: the program that is installed, in its unit, over
// the real go-nvml.
func TestTheGPUProbeLooksFromItsSandbox(t *testing.T) {
	n := withNVML(t)
	require.Equal(t, "active", n.active("dubnium-probe-gpu.socket"))
	compositor := n.CompositorPID(n.ctx)
	n.card(1<<30, fmt.Sprintf("graphics %d 536870912\n", compositor))
	gpu := n.snapshot().GPU
	require.True(t, gpu.Known(), gpu.Reason)
	require.True(t, gpu.Driver)
	require.Len(t, gpu.Cards, 1)
	card := gpu.Cards[0]
	assert.Equal(t, n.pci, card.PCI)
	assert.Equal(t, "GPU-in-the-machine", card.UUID)
	assert.InDelta(t, 1<<30, *card.MemoryUsed.Value, 0)
	require.Len(t, card.Graphics.Processes, 1, card.Graphics.Reason)
	process := card.Graphics.Processes[0]
	assert.Equal(t, compositor, process.PID)
	assert.Equal(t, n.sh(fmt.Sprintf("cat /proc/%d/comm", compositor)), process.Command)
	require.NotNil(t, process.UID)
	assert.Equal(t, uint32(1000), *process.UID)
	assert.NotEmpty(t, process.Unit)
	assert.Empty(t, card.Compute.Processes)

	// Its sandbox is what the unit says, and let it do all of that.
	for property, want := range map[string]string{
		"CapabilityBoundingSet": "", "DevicePolicy": "closed", "PrivateNetwork": "yes", "Result": "success",
	} {
		assert.Equal(t, want, n.sh("systemctl show -P "+property+" dubnium-probe-gpu.service"), property)
	}
	n.sh("test -e /run/dubnium/gpu.lock")

	// A driver that fails is unknown, for it alone, and one that hangs costs a probe.
	n.says("init 18\n")
	assert.Contains(t, n.snapshot().GPU.Reason, "Driver/library version mismatch")
	assert.Equal(t, "desktop", n.current())
	n.says("hang nvmlInit_v2\n")
	assert.False(t, n.snapshot().GPU.Known())
	assert.Equal(t, "desktop", n.current())
	n.card(1<<30, "")
	n.WaitFor(n.ctx, "the probe to answer again", `modectl current --refresh --json | grep -q GPU-in-the-machine`)

	// Without the library the host has no driver, which is an answer.
	n.sh("rm /usr/lib/x86_64-linux-gnu/" + fakenvml.Name + " && systemctl stop dubnium-probe-gpu.service")
	gpu = n.snapshot().GPU
	require.True(t, gpu.Known(), gpu.Reason)
	assert.False(t, gpu.Driver)
}

// TestAReleaseIsMeasured: the gate on the way to compute puts into the record what is
// left in use, and the policy that has a threshold judges by it; the doctor tells both.
func TestAReleaseIsMeasured(t *testing.T) {
	n := withNVML(t)
	n.card(80<<20, "")
	n.governed(0)
	n.reach("compute")
	n.requireCompute()
	n.requireResidual(80 << 20)

	// More than that is somebody's, and vLLM does not get the card.
	n.reach("desktop")
	n.requireDesktop()
	n.governed(160)
	n.card(900<<20, "")
	out, code := n.modectl("request compute")
	assert.NotZero(t, code, out)
	assert.Contains(t, out, "900 MiB of its memory are in use, more than 160")
	n.requireResidual(900 << 20)
	out, _ = n.modectl("doctor")
	assert.Contains(t, out,
		"1 of the last 2 releases of a display GPU left more than gpu.residual_mib = 160 in use, 900 MiB at most")
}

// governed restarts the daemon with a policy that names the card and has a threshold.
func (n nvml) governed(residualMiB int) {
	n.t.Helper()
	n.sh(fmt.Sprintf(`sed -i '/^\[gpu\]$/,$d' /etc/dubnium/policy.toml &&
		printf '\n[gpu]\ndisplay = ["%s"]\nresidual_mib = %d\n' >> /etc/dubnium/policy.toml &&
		systemctl restart dubniumd`, n.pci, residualMiB))
	n.becomes("desktop")
	n.audioKnown()
}

// requireResidual requires that the last transition measured that much on the card.
func (n nvml) requireResidual(bytes uint64) {
	n.t.Helper()
	var last struct {
		Steps []struct{ Residual []observer.GPUMemory }
	}
	require.NoError(n.t, json.Unmarshal([]byte(n.sh("modectl last-transition --json")), &last))
	var measured []observer.GPUMemory
	for _, step := range last.Steps {
		measured = append(measured, step.Residual...)
	}
	require.Equal(n.t, []observer.GPUMemory{{GPU: n.pci, Bytes: bytes}}, measured)
}
