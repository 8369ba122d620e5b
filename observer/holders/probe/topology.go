package probe

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dubnium/dubnium/observer"
)

// node is a device node, with the GPUs that a process holds by having it open.
type node struct {
	name string
	gpus []string
}

// topology has the GPUs of the host and their nodes by device number.
type topology struct {
	gpus  []observer.GPU
	nodes map[uint64]node
}

// readTopology reads the GPUs from the kernel.
func readTopology(r Roots) (topology, error) {
	t := topology{gpus: []observer.GPU{}, nodes: map[uint64]node{}}
	for _, read := range []func() error{
		func() error { return t.readDRM(r.Sys) },
		func() error { return t.readNVIDIA(r.Proc) },
		func() error { return t.readPCI(r.Sys) },
		func() error { return t.readAudio(r.Sys) },
	} {
		if err := read(); err != nil {
			return topology{}, err
		}
	}
	slices.SortFunc(t.gpus, func(a, b observer.GPU) int { return strings.Compare(a.PCI, b.PCI) })
	return t, nil
}

// gpu returns the entry of that id, and adds it if necessary.
func (t *topology) gpu(id string) *observer.GPU {
	i := slices.IndexFunc(t.gpus, func(g observer.GPU) bool { return g.PCI == id })
	if i < 0 {
		t.gpus = append(t.gpus, observer.GPU{PCI: id})
		i = len(t.gpus) - 1
	}
	return &t.gpus[i]
}

func (t *topology) add(number uint64, name string, gpus ...string) {
	n := t.nodes[number]
	if n.name == "" {
		n.name = name
	}
	n.gpus = append(n.gpus, gpus...)
	t.nodes[number] = n
}

// drmNode excludes connectors such as card0-DP-1, which have no node, and includes the control nodes
// of old kernels.
var drmNode = regexp.MustCompile(`^(card|renderD|controlD)[0-9]+$`)

func (t *topology) readDRM(sys string) error {
	return eachDevice(filepath.Join(sys, "class/drm"), drmNode.MatchString, func(name, path string, number uint64) error {
		id, err := gpuOf(path)
		if err != nil {
			return err
		}
		g := t.gpu(id)
		g.Display = g.Display || strings.HasPrefix(name, "card")
		t.add(number, name, id)
		return nil
	})
}

// eachDevice calls visit for each entry of a /sys/class directory whose name is wanted and that has a
// device number. It ignores a missing directory: no driver of that class is loaded.
func eachDevice(dir string, wanted func(name string) bool, visit func(name, path string, number uint64) error) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot list devices: %w", err)
	}
	for _, e := range entries {
		if !wanted(e.Name()) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		number, err := readNumber(filepath.Join(path, "dev"))
		if err == nil {
			err = visit(e.Name(), path, number)
		}
		if err != nil && !vanished(path) {
			return err
		}
	}
	return nil
}

// vanished reports whether a device was unplugged since it was listed. Only then it is left out: a
// device that exists and cannot be read makes the list incomplete.
func vanished(path string) bool {
	_, err := os.Lstat(path)
	return gone(err)
}

// readNumber reads a `dev` file: "226:0".
func readNumber(path string) (uint64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("cannot read a device number: %w", err)
	}
	major, minor, _ := strings.Cut(strings.TrimSpace(string(text)), ":")
	hi, err1 := strconv.ParseUint(major, 10, 32)
	lo, err2 := strconv.ParseUint(minor, 10, 32)
	if err1 != nil || err2 != nil {
		return 0, fmt.Errorf("cannot read a device number: %s contains %q", path, text)
	}
	return unix.Mkdev(uint32(hi), uint32(lo)), nil
}

// gpuOf returns the id of the GPU of an entry of /sys/class/drm: the innermost PCI function in the
// path of its `device` (for virtio-gpu the device is a child of that function), or the name of the
// device if it is not on PCI.
func gpuOf(path string) (string, error) {
	device, err := filepath.EvalSymlinks(filepath.Join(path, "device"))
	if errors.Is(err, fs.ErrNotExist) { // a device without a parent is its own GPU
		device, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		return "", fmt.Errorf("cannot find the GPU of %s: %w", filepath.Base(path), err)
	}
	if pci := pciOf(device); pci != "" {
		return pci, nil
	}
	return filepath.Base(device), nil
}

func pciOf(device string) string {
	parts := strings.Split(device, string(filepath.Separator))
	for _, part := range slices.Backward(parts) {
		if observer.IsPCI(part) {
			return part
		}
	}
	return ""
}

// pcmNode excludes controlC0 and hwC0D0. A sound server always keeps the control node of every card
// open to be notified of plugs. That neither powers nor holds the device; only an open PCM does.
var pcmNode = regexp.MustCompile(`^pcmC[0-9]+D[0-9]+[cp]$`)

// readAudio adds the PCM nodes of the HDMI audio of each GPU: function 1 of its slot. (The higher
// functions of the slot of an APU are the analog codec of the board, which is not part of the GPU.)
func (t *topology) readAudio(sys string) error {
	class := filepath.Join(sys, "class/sound")
	return eachDevice(class, pcmNode.MatchString, func(name, path string, number uint64) error {
		device, err := filepath.EvalSymlinks(filepath.Join(path, "device"))
		if err != nil {
			return fmt.Errorf("cannot find the card of %s: %w", name, err)
		}
		slot, isHDMI := strings.CutSuffix(pciOf(device), ".1")
		if !isHDMI {
			return nil
		}
		gpu := slot + ".0"
		if slices.ContainsFunc(t.gpus, func(g observer.GPU) bool { return g.PCI == gpu }) {
			t.add(number, name, gpu)
		}
		return nil
	})
}
