package probe

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The NVIDIA driver's nodes are not in /sys/class. Its static major and the
// minors of the nodes that belong to no single GPU are in its sources
// (open-gpu-kernel-modules, kernel-open/nvidia/nv-chardev-numbers.h).
const (
	nvidiaMajor   = 195
	nvidiaModeset = 254
	nvidiaControl = 255
)

// readNVIDIA adds the driver's own nodes, from /proc/driver/nvidia and
// /proc/devices.
//
// nvidiactl, nvidia-modeset and nvidia-uvm count for every NVIDIA GPU, even if a process
// has nothing else open: memory is allocated through nvidiactl and uvm, GPUs can be
// attached to an nvidiactl file (NV_ESC_ATTACH_GPUS_TO_FD), and a child may have inherited
// only those. Which GPU such a process holds is unknown, so it holds all of them. A unit
// that does so permanently belongs in gpu.permitted_holders. The capability nodes
// (nvidia-caps) do not hold a GPU.
func (t *topology) readNVIDIA(proc string) error {
	dir := filepath.Join(proc, "driver/nvidia/gpus")
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot list NVIDIA GPUs: %w", err)
	}
	major, err := charMajors(proc)
	if err != nil {
		return err
	}
	var all []string
	for _, e := range entries {
		id := strings.ToLower(e.Name())
		minor, err := deviceMinor(filepath.Join(dir, e.Name(), "information"))
		switch {
		case err != nil && vanished(filepath.Join(dir, e.Name())):
			continue
		case err != nil:
			return err
		}
		t.gpu(id) // exists without a DRM node when nvidia-drm is not loaded
		t.add(unix.Mkdev(major["nvidia"], minor), fmt.Sprintf("nvidia%d", minor), id)
		all = append(all, id)
	}
	t.add(unix.Mkdev(major["nvidia"], nvidiaControl), "nvidiactl", all...)
	t.add(unix.Mkdev(major["nvidia"], nvidiaModeset), "nvidia-modeset", all...)
	if uvm, loaded := major["nvidia-uvm"]; loaded {
		t.add(unix.Mkdev(uvm, 0), "nvidia-uvm", all...)
		t.add(unix.Mkdev(uvm, 1), "nvidia-uvm-tools", all...)
	}
	return nil
}

// deviceMinor reads the minor number of a GPU's node from its information.
func deviceMinor(path string) (uint32, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("cannot read an NVIDIA GPU: %w", err)
	}
	minor, err := minorIn(string(text))
	if err != nil {
		return 0, fmt.Errorf("cannot read an NVIDIA GPU: %s %w", path, err)
	}
	return minor, nil
}

// minorIn reads the line "Device Minor: 	 0".
func minorIn(information string) (uint32, error) {
	for line := range strings.Lines(information) {
		if value, ok := strings.CutPrefix(line, "Device Minor:"); ok {
			minor, err := strconv.ParseUint(strings.TrimSpace(value), 10, 20)
			if err != nil {
				return 0, fmt.Errorf("has %q", line)
			}
			return uint32(minor), nil
		}
	}
	return 0, errors.New("has no Device Minor")
}

// charMajors reads the character devices of /proc/devices.
func charMajors(proc string) (map[string]uint32, error) {
	text, err := os.ReadFile(filepath.Join(proc, "devices"))
	if err != nil {
		return nil, fmt.Errorf("cannot read device numbers: %w", err)
	}
	return majorsIn(string(text)), nil
}

// majorsIn parses /proc/devices. Up to version 545 the name of the driver was nvidia-frontend.
func majorsIn(devices string) map[string]uint32 {
	major := map[string]uint32{"nvidia": nvidiaMajor}
	section, _, _ := strings.Cut(devices, "Block devices:")
	for line := range strings.Lines(section) {
		fields := strings.Fields(line)
		if len(fields) != 2 {
			continue
		}
		if n, err := strconv.ParseUint(fields[0], 10, 12); err == nil {
			major[fields[1]] = uint32(n)
		}
	}
	if frontend, old := major["nvidia-frontend"]; old {
		major["nvidia"] = frontend
	}
	return major
}
