package probe

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/dubnium/dubnium/observer"
)

// openPCMs lists the ALSA devices that are open and who opened them, from what
// the kernel says of each substream (Documentation/sound/designs/procfile.rst). A
// host without ALSA has none.
func openPCMs(proc string) ([]observer.PCM, error) {
	pcms := []observer.PCM{}
	root := filepath.Join(proc, "asound")
	files, err := filepath.Glob(filepath.Join(root, "card*", "pcm*", "sub*", "status"))
	if err != nil {
		return nil, fmt.Errorf("cannot list the sound devices: %w", err)
	}
	slices.Sort(files)
	for _, file := range files {
		status, err := os.ReadFile(file)
		if gone(err) { // a card that was unplugged
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read who has a sound device open: %w", err)
		}
		owner, open := pcmOwner(status)
		if !open {
			continue
		}
		name, err := filepath.Rel(root, filepath.Dir(file))
		if err != nil {
			return nil, err
		}
		who, err := threadsProcess(proc, owner)
		if err != nil {
			return nil, err
		}
		pcms = append(pcms, observer.PCM{Name: name, Process: who})
	}
	return pcms, nil
}

// pcmOwner reads a status: "closed", or lines of which one names the owner. An
// open device whose owner cannot be read is open all the same.
func pcmOwner(status []byte) (tid int, open bool) {
	if text := strings.TrimSpace(string(status)); text == "closed" || text == "" {
		return 0, false
	}
	for line := range bytes.Lines(status) {
		key, value, _ := strings.Cut(string(line), ":")
		if strings.TrimSpace(key) == "owner_pid" {
			tid, _ = strconv.Atoi(strings.TrimSpace(value)) // 0: unknown
		}
	}
	return tid, true
}

// threadsProcess says whose the thread is that opened a device: the kernel notes
// the thread, which for PipeWire is not the process's first. A device stays open
// after the thread that opened it has ended, or in a process that inherited it;
// then somebody unknown has it.
func threadsProcess(proc string, tid int) (observer.Process, error) {
	unknown := observer.Process{PID: tid, Command: "unknown"}
	if tid <= 0 {
		return unknown, nil
	}
	status, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(tid), "status"))
	if gone(err) {
		return unknown, nil
	}
	if err != nil {
		return observer.Process{}, err
	}
	pid := tid
	for line := range bytes.Lines(status) {
		if id, is := bytes.CutPrefix(line, []byte("Tgid:")); is {
			if n, err := strconv.Atoi(string(bytes.TrimSpace(id))); err == nil && n > 0 {
				pid = n
			}
		}
	}
	p, err := processOf(proc, pid)
	if gone(err) {
		return unknown, nil
	}
	return p, err
}

func processOf(proc string, pid int) (observer.Process, error) {
	is, err := process{dir: filepath.Join(proc, strconv.Itoa(pid)), pid: pid}.identity()
	return observer.Process{PID: is.PID, Command: is.Command, UID: is.UID, Unit: is.Unit, Session: is.Session}, err
}

// reapers lists REAPER's processes, nil when they cannot all be told.
func reapers(proc string, pids []int) ([]observer.Process, error) {
	found := []observer.Process{}
	for _, pid := range pids {
		name, err := command(proc, pid)
		if err == nil && !observer.IsREAPER(name) || gone(err) {
			continue
		}
		var p observer.Process
		if err == nil {
			p, err = processOf(proc, pid)
		}
		switch {
		case gone(err):
		case errors.Is(err, fs.ErrPermission):
			return nil, nil // one that hides may be REAPER
		case err != nil:
			return nil, err
		default:
			found = append(found, p)
		}
	}
	return found, nil
}
