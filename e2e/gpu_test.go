//go:build e2e && soak

package e2e

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/fakenvml"
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

// TestAReleaseIsMeasured: modectl calibrate watches the way to compute and proposes a
// threshold, and the policy that has it judges by it.
func TestAReleaseIsMeasured(t *testing.T) {
	n := withNVML(t)
	n.audioKnown()
	n.card(80<<20, "")
	p := n.Start(n.ctx, "exec modectl calibrate gpu --releases 1 --file /root/gpu.jsonl")
	require.NoError(t, p.AwaitOutput(n.ctx, "watching the display GPUs"))
	n.reach("compute")
	n.requireCompute()
	code, err := p.Wait(n.ctx)
	require.NoError(t, err)
	require.Zero(t, code, p.Output().Both)
	assert.Contains(t, p.Output().Stdout, "1 releases measured, 0 indeterminate")
	var proposal struct{ Releases []struct{ Outcome string } }
	require.NoError(t, json.Unmarshal([]byte(n.sh("modectl calibrate gpu --show --json --file /root/gpu.jsonl")), &proposal))
	require.Len(t, proposal.Releases, 1)
	assert.Equal(t, "pass", proposal.Releases[0].Outcome)
	record := n.sh("cat /root/gpu.jsonl")
	assert.Contains(t, record, `"residual":83886080`)
	assert.Contains(t, record, n.pci)

	// More than that is somebody's, and vLLM does not get the card.
	n.reach("desktop")
	n.requireDesktop()
	n.sh(fmt.Sprintf(`printf '\n[gpu]\ndisplay = ["%s"]\nresidual_mib = 160\n' >> /etc/dubnium/policy.toml && systemctl restart dubniumd`, n.pci))
	n.becomes("desktop")
	n.audioKnown()
	n.card(900<<20, "")
	out, code := n.modectl("request compute")
	assert.NotZero(t, code, out)
	assert.Contains(t, out, "900 MiB of its memory are in use, more than 160")
}
