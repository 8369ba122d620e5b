package probe

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// The classes of PCI functions, as their `class` file begins (PCI Code and ID
// Assignment Specification): display controllers of any kind, and HD audio.
const (
	classDisplay = "0x03"
	classHDAudio = "0x0403"
)

// readPCI adds the graphics cards without device nodes, to distinguish a card without a driver from
// one that is missing. It sets the driver and the audio function of each card.
func (t *topology) readPCI(sys string) error {
	dir := filepath.Join(sys, "bus/pci/devices")
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a machine without PCI
	}
	if err != nil {
		return fmt.Errorf("cannot list PCI devices: %w", err)
	}
	for _, e := range entries {
		function := filepath.Join(dir, e.Name())
		class, err := os.ReadFile(filepath.Join(function, "class"))
		switch {
		case err != nil && vanished(function):
		case err != nil:
			return fmt.Errorf("cannot read a PCI device: %w", err)
		case strings.HasPrefix(string(class), classDisplay):
			t.hidden(e.Name())
		}
	}
	for i := range t.gpus {
		t.gpus[i].Driver = driverOf(filepath.Join(dir, t.gpus[i].PCI))
		t.gpus[i].Audio = audioOf(dir, t.gpus[i].PCI)
	}
	return nil
}

// hidden adds a card, unless it is known by its device nodes.
func (t *topology) hidden(pci string) {
	known := len(t.gpus)
	if g := t.gpu(pci); len(t.gpus) > known {
		g.Hidden = true
	}
}

// driverOf returns the driver that is bound to a PCI function, empty for none.
func driverOf(function string) string {
	driver, err := os.Readlink(filepath.Join(function, "driver"))
	if err != nil {
		return ""
	}
	return filepath.Base(driver)
}

// audioOf finds the HDMI audio of a card: function 1 of its slot, as in readAudio.
func audioOf(dir, pci string) string {
	slot, first := strings.CutSuffix(pci, ".0")
	if !first {
		return ""
	}
	class, err := os.ReadFile(filepath.Join(dir, slot+".1", "class"))
	if err != nil || !strings.HasPrefix(string(class), classHDAudio) {
		return ""
	}
	return slot + ".1"
}
