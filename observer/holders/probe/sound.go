package probe

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/observer/holders"
	"github.com/dubnium/dubnium/policy"
)

// openPCMs lists the ALSA devices that are open with their processes, from the status of each
// substream (Documentation/sound/designs/procfile.rst). A host without ALSA has none.
func openPCMs(proc string) (pcms []observer.PCM, more int, err error) {
	pcms = []observer.PCM{}
	root := filepath.Join(proc, "asound")
	files, err := filepath.Glob(filepath.Join(root, "card*", "pcm*", "sub*", "status"))
	if err != nil {
		return nil, 0, fmt.Errorf("cannot list the sound devices: %w", err)
	}
	slices.Sort(files)
	for _, file := range files {
		status, err := os.ReadFile(file)
		if gone(err) { // a card that was unplugged
			continue
		}
		if err != nil {
			return nil, 0, fmt.Errorf("cannot read who has a sound device open: %w", err)
		}
		owner, open := pcmOwner(status)
		if !open {
			continue
		}
		if len(pcms) == holders.MaxPCMs {
			more++
			continue
		}
		name, err := filepath.Rel(root, filepath.Dir(file))
		if err != nil {
			return nil, 0, err
		}
		pcms = append(pcms, observer.PCM{Name: name, Process: threadsProcess(proc, owner)})
	}
	return pcms, more, nil
}

// pcmOwner parses a status: "closed", or lines of which one has the owner. tid is 0 for an open device
// whose owner is unknown.
func pcmOwner(status []byte) (tid int, open bool) {
	if text := strings.TrimSpace(string(status)); text == "closed" || text == "" {
		return 0, false
	}
	for line := range bytes.Lines(status) {
		key, value, _ := strings.Cut(string(line), ":")
		if strings.TrimSpace(key) == "owner_pid" {
			tid, _ = strconv.Atoi(strings.TrimSpace(value))
		}
	}
	return tid, true
}

// threadsProcess identifies the process of the thread that opened a device. The kernel records the
// thread, which for PipeWire is not the main one. If that thread has ended, the process is unknown:
// the device may be open in another thread, or in a process that inherited it.
func threadsProcess(proc string, tid int) observer.Process {
	unknown := observer.Process{PID: tid, Command: "unknown"}
	if tid <= 0 {
		return unknown
	}
	text, err := status(proc, tid)
	if err != nil {
		return unknown
	}
	pid, err := strconv.Atoi(field(text, "Tgid"))
	if err != nil || pid <= 0 {
		pid = tid
	}
	if h, exists := identify(proc, pid); exists {
		return processOf(h)
	}
	return unknown
}

// DAWs lists the processes that the policy calls digital audio workstations, and counts those for
// which the list has no room. found is nil if the name of any process cannot be read.
func (p *Probe) DAWs(a policy.Audio) (found []observer.Process, more int) {
	pids, err := processes(p.roots.Proc)
	if err != nil {
		return nil, 0
	}
	found = []observer.Process{}
	for _, pid := range pids {
		name, err := command(p.roots.Proc, pid)
		switch {
		case gone(err), err == nil && !a.IsDAW(name):
		case err != nil:
			return nil, 0
		case len(found) == holders.MaxDAWs:
			more++
		default:
			if h, exists := identify(p.roots.Proc, pid); exists {
				found = append(found, processOf(h))
			}
		}
	}
	return found, more
}
