package qemu

import (
	"context"
	"encoding/json"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var hardware = Hardware{Version: "7.2", Machine: "pc-q35-7.2", Accelerator: "tcg", CPU: "max"}

// value returns what follows the option, by a prefix of what follows when the option comes more than once.
func value(args []string, option, prefix string) string {
	for i, a := range args[:len(args)-1] {
		if a == option && strings.HasPrefix(args[i+1], prefix) {
			return args[i+1]
		}
	}
	return ""
}

func TestARestoredMachineHasTheHardwareOfTheSavedOne(t *testing.T) {
	boot := Boot{Kernel: "k", Initrd: "i", Disk: "d", Memory: "m", Console: "c", SaveLater: true}
	saved := args(hardware, boot, boot.words(), false)
	boot.SaveLater = false
	restored := args(hardware, boot, boot.words(), true)

	assert.Equal(t, "memory-backend-file,id=memory,size=2048M,mem-path=m,share=on", value(saved, "-object", ""))
	assert.Equal(t, "memory-backend-file,id=memory,size=2048M,mem-path=m,share=off", value(restored, "-object", ""))
	assert.Equal(t, "defer", value(restored, "-incoming", ""))
	rest := func(args []string) string {
		text := strings.Join(args, " ")
		return strings.NewReplacer("share=on", "", "share=off", "", " -incoming defer", "").Replace(text)
	}
	assert.Equal(t, rest(saved), rest(restored))
}

func TestPathsMayHoldCommas(t *testing.T) {
	a := args(hardware, Boot{Disk: "/a,b/d", Memory: "/a,b/m", Console: "/a,b/c"}, "", false)
	assert.Contains(t, value(a, "-drive", ""), "file=/a,,b/d")
	assert.Contains(t, value(a, "-object", ""), "mem-path=/a,,b/m,")
	assert.Contains(t, value(a, "-chardev", "file"), "path=/a,,b/c")
	assert.Equal(t, `'/it'\''s here'`, quote("/it's here"))
}

func TestEmulationUsesAllProcessors(t *testing.T) {
	assert.Equal(t, "tcg,thread=multi", value(args(hardware, Boot{}, "", false), "-accel", ""))
	kvm := hardware
	kvm.Accelerator = "kvm"
	assert.Equal(t, "kvm", value(args(kvm, Boot{}, "", false), "-accel", ""))
}

func TestAStateIsOnlyForTheHardwareItWasSavedOn(t *testing.T) {
	key := func(h Hardware) string {
		text, err := json.Marshal(h.Key())
		require.NoError(t, err)
		return string(text)
	}
	for name, change := range map[string]func(*Hardware){
		"version":     func(h *Hardware) { h.Version = "10.0" },
		"machine":     func(h *Hardware) { h.Machine = "pc-q35-10.0" },
		"accelerator": func(h *Hardware) { h.Accelerator = "kvm" },
		"cpu":         func(h *Hardware) { h.CPU = "host" },
		"host":        func(h *Hardware) { h.HostCPU = "other" },
	} {
		changed := hardware
		change(&changed)
		assert.NotEqual(t, key(hardware), key(changed), name)
	}
}

func TestTheMachineTypeIsVersioned(t *testing.T) {
	const help = `Supported machines are:
microvm              microvm (i386)
pc                   Standard PC (i440FX + PIIX, 1996) (alias of pc-i440fx-7.2)
q35                  Standard PC (Q35 + ICH9, 2009) (alias of pc-q35-7.2)
pc-q35-7.2           Standard PC (Q35 + ICH9, 2009)
`
	machine, err := pickMachine(help)
	require.NoError(t, err)
	assert.Equal(t, "pc-q35-7.2", machine)
	_, err = pickMachine("nothing")
	assert.Error(t, err)
}

func TestTheProcessorIsItsModelAndFeatures(t *testing.T) {
	const one = "processor\t: 0\nmodel name\t: EPYC\nflags\t\t: fpu avx\ncpu MHz\t: 2000\n\nprocessor\t: 1\n"
	assert.Equal(t, processor(one), processor(strings.Replace(one, "2000", "3000", 1)))
	assert.NotEqual(t, processor(one), processor(strings.Replace(one, "avx", "avx2", 1)))
}

// fakeQMP answers the handshake and what the script says, a reply and events for each command.
func fakeQMP(t *testing.T, script map[string][]string) *monitor {
	ours, theirs := net.Pipe()
	go func() {
		in := json.NewDecoder(theirs)
		say := func(line string) { _, _ = theirs.Write([]byte(line + "\n")) }
		say(`{"QMP": {}}`)
		for {
			var c struct {
				Execute string
				ID      int
			}
			if in.Decode(&c) != nil {
				return
			}
			id, err := json.Marshal(c.ID)
			assert.NoError(t, err)
			lines, ok := script[c.Execute]
			if !ok {
				lines = []string{`{"return": {}, "id": ID}`}
			}
			for _, line := range lines {
				if line == "hang up" {
					theirs.Close()
					return
				}
				say(strings.Replace(line, "ID", string(id), 1))
			}
		}
	}()
	m, err := newMonitor(t.Context(), ours)
	require.NoError(t, err)
	return m
}

func TestTheMonitorTellsRepliesEventsAndTheEndApart(t *testing.T) {
	m := fakeQMP(t, map[string][]string{
		"query":   {`{"event": "NOISE"}`, `{"return": {"status": "running"}, "id": ID}`},
		"refuse":  {`{"error": {"class": "GenericError", "desc": "not now"}, "id": ID}`},
		"migrate": {`{"return": {}, "id": ID}`, `{"event": "MIGRATION", "data": {"status": "setup"}}`, `{"event": "MIGRATION", "data": {"status": "completed"}}`},
		"quit":    {"hang up"},
	})
	ctx := t.Context()
	var status struct{ Status string }
	require.NoError(t, m.do(ctx, "query", nil, &status))
	assert.Equal(t, "running", status.Status)
	assert.EqualError(t, m.do(ctx, "refuse", nil, nil), "cannot have QEMU refuse: not now")

	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	p := &Process{monitor: m}
	assert.ErrorIs(t, p.migrated(short, 0), context.DeadlineExceeded)
	before := m.mark()
	require.NoError(t, m.do(ctx, "migrate", nil, nil))
	require.NoError(t, p.migrated(ctx, before))
	assert.ErrorIs(t, p.migrated(short, m.mark()), context.DeadlineExceeded, "an earlier transfer is another matter")

	assert.ErrorContains(t, m.do(ctx, "quit", nil, nil), "QEMU has ended")
	assert.ErrorContains(t, m.do(ctx, "query", nil, nil), "QEMU has ended")
	assert.ErrorContains(t, m.await(ctx, 0, "NEVER", nil), "QEMU has ended")
}

func TestAFailedTransferIsAnError(t *testing.T) {
	m := fakeQMP(t, map[string][]string{
		"migrate": {`{"return": {}, "id": ID}`, `{"event": "MIGRATION", "data": {"status": "failed"}}`},
	})
	require.NoError(t, m.do(t.Context(), "migrate", nil, nil))
	assert.ErrorContains(t, (&Process{monitor: m}).migrated(t.Context(), 0), "could not transfer")
}
