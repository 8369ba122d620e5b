package probe_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/observer/holders"
	"github.com/dubnium/dubnium/observer/holders/probe"
)

const (
	pci       = "pci0000:00/0000:00:01.0/0000:01:00.0"
	pciAudio  = "pci0000:00/0000:00:01.0/0000:01:00.1"
	gpu       = "0000:01:00.0"
	ofSession = "0::/user.slice/user-1000.slice/session-3.scope\n"
)

func scan(t *testing.T, tr tree) holders.Document {
	t.Helper()
	d, err := probe.New(tr.roots()).Scan(t.Context())
	require.NoError(t, err)
	return d
}

func TestAHostWithoutAGPUIsAnAnswer(t *testing.T) {
	d := scan(t, newTree(t))
	require.Equal(t, holders.Document{
		GPUs: []observer.GPU{}, Holders: []observer.Holder{}, PCMs: []observer.PCM{},
	}, d)
}

func TestAHolderIsNamedWithItsSession(t *testing.T) {
	tr := newTree(t)
	tr.device("drm", pci, "card0", fullNumber)
	tr.device("drm", pci, "renderD128", nullNumber)
	tr.process(812, "Hyprland", 1000, ofSession, zeroDev, fullDev, nullDev, fullDev)
	tr.process(900, "bash", 1000, ofSession, zeroDev)

	d := scan(t, tr)
	require.Equal(t, []observer.GPU{{PCI: gpu, Display: true}}, d.GPUs)
	require.Equal(t, []observer.Holder{{
		GPU: gpu, PID: 812, Command: "Hyprland", UID: 1000, Unit: "session-3.scope",
		Slices: []string{"user.slice", "user-1000.slice"}, Session: "3", Nodes: []string{"card0", "renderD128"},
	}}, d.Holders)
}

func TestOnlyACardNodeMakesADisplayGPU(t *testing.T) {
	tr := newTree(t)
	tr.device("drm", pci, "renderD128", fullNumber)
	tr.file("sys/devices/"+pci+"/drm/card7-DP-1/status", "connected\n")
	tr.link("sys/class/drm/card7-DP-1", tr.path("sys/devices/"+pci+"/drm/card7-DP-1"))
	require.Equal(t, []observer.GPU{{PCI: gpu}}, scan(t, tr).GPUs)
}

func TestEachGPUOfAProcessIsItsOwnHolding(t *testing.T) {
	tr := newTree(t)
	tr.device("drm", pci, "card0", fullNumber)
	tr.device("drm", "pci0000:00/0000:00:02.0", "card1", nullNumber)
	tr.process(5, "sway", 1000, ofSession, nullDev, fullDev)
	var gpus []string
	for _, h := range scan(t, tr).Holders {
		gpus = append(gpus, h.GPU)
	}
	require.Equal(t, []string{"0000:00:02.0", "0000:01:00.0"}, gpus)
}

func TestTheGPUIsFoundBehindWhatLiesBetween(t *testing.T) {
	cases := map[string]struct{ hardware, want string }{
		"virtio is a child of its PCI function": {"pci0000:00/0000:00:03.0/virtio1", "0000:00:03.0"},
		"a firmware framebuffer is on no bus":   {"platform/simple-framebuffer.0", "simple-framebuffer.0"},
		"behind a bridge":                       {"pci0000:00/0000:00:1c.4/10000:e1:00.0", "10000:e1:00.0"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			tr := newTree(t)
			tr.device("drm", c.hardware, "card0", fullNumber)
			require.Equal(t, []observer.GPU{{PCI: c.want, Display: true}}, scan(t, tr).GPUs)
		})
	}
}

func TestACardThatCannotBePlacedIsStillAGPU(t *testing.T) {
	tr := newTree(t)
	tr.file("sys/class/drm/card0/dev", fullNumber+"\n")
	tr.process(5, "plymouthd", 0, "0::/system.slice/plymouth-start.service\n", fullDev)
	d := scan(t, tr)
	require.Equal(t, []observer.GPU{{PCI: "card0", Display: true}}, d.GPUs)
	require.Len(t, d.Holders, 1)
}

func TestAnUnreadableCardIsNotLeftOut(t *testing.T) {
	cases := map[string]func(tree){
		"no number":      func(tr tree) { tr.file("sys/class/drm/card0/uevent", "") },
		"a wrong number": func(tr tree) { tr.file("sys/class/drm/card0/dev", "zero") },
		"a card that NVIDIA's driver does not describe": func(tr tree) {
			tr.file("proc/driver/nvidia/gpus/0000:01:00.0/information", "Model: GH100\n")
		},
	}
	for name, breaks := range cases {
		t.Run(name, func(t *testing.T) {
			tr := newTree(t)
			breaks(tr)
			_, err := probe.New(tr.roots()).Scan(t.Context())
			require.ErrorContains(t, err, "cannot ")
		})
	}
}

func TestNVIDIANodesAreFoundByTheDriversNumbers(t *testing.T) {
	// /dev/null and its neighbours have major 1: the driver is told to be there.
	tr := newTree(t)
	tr.file("proc/devices", "Character devices:\n  1 nvidia\n  1 nvidia-uvm\n")
	tr.nvidia("0000:01:00.0", 3)
	tr.nvidia("0000:02:00.0", 5)
	tr.process(10, "vllm", 990, "0::/ai.slice/vllm.service\n", nullDev)

	d := scan(t, tr)
	require.Equal(t, []observer.GPU{{PCI: "0000:01:00.0"}, {PCI: "0000:02:00.0"}}, d.GPUs, "no DRM node, no display")
	require.Len(t, d.Holders, 1)
	require.Equal(t, "0000:01:00.0", d.Holders[0].GPU)
	require.Equal(t, []string{"nvidia3"}, d.Holders[0].Nodes)
	require.Equal(t, []string{"ai.slice"}, d.Holders[0].Slices)
}

func TestAnNVIDIANodeOfNoSingleGPUCountsForAll(t *testing.T) {
	tr := newTree(t)
	tr.file("proc/devices", "Character devices:\n195 nvidia\n195 nvidiactl\n  1 nvidia-uvm\n")
	tr.nvidia("0000:01:00.0", 0)
	tr.nvidia("0000:02:00.0", 1)
	tr.device("drm", "pci0000:00/0000:00:02.0", "card0", fullNumber)
	inside := probe.NodeGPUs(t, tr.roots())
	require.Equal(t, map[string][]string{
		"nvidia-uvm": {"0000:01:00.0", "0000:02:00.0"}, "nvidia-uvm-tools": {"0000:01:00.0", "0000:02:00.0"},
		"nvidiactl": {"0000:01:00.0", "0000:02:00.0"}, "nvidia-modeset": {"0000:01:00.0", "0000:02:00.0"},
		"nvidia0": {"0000:01:00.0"}, "nvidia1": {"0000:02:00.0"}, "card0": {"0000:00:02.0"},
	}, inside)
}

func TestOnlyAnOpenStreamHoldsTheAudioOfAGPU(t *testing.T) {
	tr := newTree(t)
	tr.device("drm", pci, "card0", fullNumber)
	tr.device("sound", pciAudio, "pcmC1D3p", nullNumber)
	tr.device("sound", pciAudio, "controlC1", zeroNumber)
	tr.device("sound", "pci0000:00/0000:01:00.6", "pcmC2D0p", randomNumber)
	tr.process(7, "wireplumber", 1000, ofSession, zeroDev, randomDev)
	require.Empty(t, scan(t, tr).Holders, "a control node and the board's own codec are nobody's GPU")

	tr.process(8, "pipewire", 1000, ofSession, nullDev)
	held := scan(t, tr).Holders
	require.Len(t, held, 1)
	require.Equal(t, []string{"pcmC1D3p"}, held[0].Nodes)
	require.Equal(t, gpu, held[0].GPU)
}

func TestTheTopologyTellsDriversAudioAndCardsWithoutNodes(t *testing.T) {
	tr := newTree(t)
	tr.device("drm", pci, "card0", fullNumber)
	tr.function("0000:01:00.0", "0x030000", "nvidia")
	tr.function("0000:01:00.1", "0x040300", "snd_hda_intel")
	tr.function("0000:02:00.0", "0x030200", "vfio-pci")
	tr.function("0000:03:00.0", "0x038000", "")
	tr.function("0000:00:1f.3", "0x040300", "snd_hda_intel")
	require.Equal(t, []observer.GPU{
		{PCI: gpu, Display: true, Driver: "nvidia", Audio: "0000:01:00.1"},
		{PCI: "0000:02:00.0", Driver: "vfio-pci", Hidden: true},
		{PCI: "0000:03:00.0", Hidden: true},
	}, scan(t, tr).GPUs)
}

func TestAProcessThatEndedIsNoHolder(t *testing.T) {
	tr := newTree(t)
	tr.device("drm", pci, "card0", fullNumber)
	tr.process(20, "gone", 1000, ofSession, fullDev)
	require.NoError(t, os.Remove(tr.path("proc/20/comm")))
	tr.process(21, "closing", 1000, ofSession, "/proc/none/such")
	require.NoError(t, os.MkdirAll(tr.path("proc/22"), 0o755))
	require.Empty(t, scan(t, tr).Holders)
}

func TestThreadsOutliveTheirLeader(t *testing.T) {
	tr := newTree(t)
	tr.device("drm", pci, "card0", fullNumber)
	tr.process(30, "zombie", 1000, ofSession)
	tr.link("proc/30/task/31/fd/4", fullDev)
	held := scan(t, tr).Holders
	require.Len(t, held, 1)
	require.Equal(t, 30, held[0].PID)
}

func TestAProcThatHidesProcessesProvesNothing(t *testing.T) {
	tr := newTree(t)
	require.NoError(t, os.RemoveAll(tr.path("proc/1")))
	_, err := probe.New(tr.roots()).Scan(t.Context())
	require.ErrorContains(t, err, "does not show PID 1")
}

func TestTheProbeDoesNotSeeItself(t *testing.T) {
	tr := newTree(t)
	tr.device("drm", pci, "card0", fullNumber)
	tr.process(50, "dubnium-probe", 0, ofSession, fullDev)
	tr.link("proc/self", "50")
	require.Empty(t, scan(t, tr).Holders)
}

// Nothing is promised of the machine the tests run on but an answer.
func TestTheRealHostCanBeScanned(t *testing.T) {
	d, err := probe.New(probe.Roots{Proc: "/proc", Sys: "/sys"}).Scan(t.Context())
	if err != nil {
		require.ErrorContains(t, err, "does not show PID 1")
		return
	}
	require.NotNil(t, d.GPUs)
}
