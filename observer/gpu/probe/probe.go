// Package probe asks NVML about the GPUs, through the driver's own library.
//
// A host without the driver is an answer; a driver that fails is an error; a card
// that fails is unknown for itself, and the others are read. Three traps decide
// the order of things. go-nvml binds the library's functions lazily, and one that
// the library lacks ends the process: every function is looked up before it is
// called. The library is opened once before go-nvml does, because go-nvml does
// not tell a missing library from a broken one, and looks nothing up before its
// Init. And a call can hang in the kernel for ever: the caller bounds the process,
// and a lock keeps everybody else from hanging beside it.
package probe

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/NVIDIA/go-nvml/pkg/dl"
	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"golang.org/x/sys/unix"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/observer/gpu"
)

// Options say where to look.
type Options struct {
	// Libraries are tried in order: names for the dynamic linker, or paths.
	Libraries []string
	// Proc is the process directory.
	Proc string
	// Lock is held while NVML is asked.
	Lock string
}

// Look asks once. The error is in the document too.
func Look(o Options) (gpu.Document, error) {
	d, err := look(o)
	if err != nil {
		return gpu.Document{Error: err.Error()}, err
	}
	return d, nil
}

func look(o Options) (gpu.Document, error) {
	kernel, err := kernelDriver(o.Proc)
	if err != nil {
		return gpu.Document{}, err
	}
	library, path, err := open(o.Libraries)
	switch {
	case errors.Is(err, errMissing) && !kernel:
		return document(false, nil), nil
	case errors.Is(err, errMissing):
		return gpu.Document{}, fmt.Errorf("cannot use NVML: the kernel has the NVIDIA driver, and %w", err)
	case err != nil:
		return gpu.Document{}, fmt.Errorf("cannot use NVML: %w", err)
	}
	defer library.Close()
	unlock, err := lock(o.Lock)
	if err != nil {
		return gpu.Document{}, err
	}
	defer unlock()
	return ask(path, o.Proc, kernel)
}

func document(driver bool, cards []observer.Card) gpu.Document {
	if cards == nil {
		cards = []observer.Card{}
	}
	return gpu.Document{Driver: &driver, Cards: cards}
}

// kernelDriver reports whether the kernel's half of the driver is loaded.
func kernelDriver(proc string) (bool, error) {
	_, err := os.Stat(filepath.Join(proc, "driver/nvidia/version"))
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, os.ErrNotExist):
		return false, nil
	}
	return false, fmt.Errorf("cannot tell whether there is an NVIDIA driver: %w", err)
}

var errMissing = errors.New("its library was not found")

// needed are the functions without which nothing can be asked.
var needed = []string{
	"nvmlInit_v2", "nvmlShutdown", "nvmlErrorString", "nvmlDeviceGetCount_v2", "nvmlDeviceGetHandleByIndex_v2",
}

// open opens the first library that is there. One that is there and broken is an
// error, not a reason to try another.
func open(names []string) (*dl.DynamicLibrary, string, error) {
	for _, name := range names {
		library := dl.New(name, dl.RTLD_LAZY|dl.RTLD_GLOBAL)
		err := library.Open()
		if err != nil && notThere(name, err) {
			continue
		}
		if err != nil {
			return nil, "", fmt.Errorf("its library cannot be opened: %w", err)
		}
		for _, symbol := range needed {
			if library.Lookup(symbol) != nil {
				return nil, "", errors.Join(fmt.Errorf("the driver's library lacks %s", symbol), library.Close())
			}
		}
		return library, name, nil
	}
	return nil, "", fmt.Errorf("%w (%s)", errMissing, strings.Join(names, ", "))
}

// notThere tells a library that is missing from one that lacks something itself:
// dlopen(3) has no codes, and its text begins with the name of what is missing.
func notThere(name string, err error) bool {
	return strings.HasPrefix(err.Error(), name+":") && strings.Contains(err.Error(), "No such file or directory")
}

// lock makes sure that one process at a time asks NVML. It does not wait: who
// holds the lock may hang in the driver.
func lock(path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot lock NVML: %w", err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = file.Close() // nothing was written
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.New("NVML is busy: another look has not ended")
		}
		return nil, fmt.Errorf("cannot lock NVML: %w", err)
	}
	return func() { _ = file.Close() }, nil // closing unlocks
}

// ask initializes NVML for one look: a handle that is kept holds the GPU.
func ask(path, proc string, kernel bool) (gpu.Document, error) {
	library := nvml.New(nvml.WithLibraryPath(path))
	switch code := library.Init(); {
	case code == nvml.ERROR_DRIVER_NOT_LOADED && !kernel:
		return document(false, nil), nil // the library alone is no driver
	case code != nvml.SUCCESS:
		return gpu.Document{}, fmt.Errorf("cannot start NVML: %s", said(code))
	}
	defer library.Shutdown()
	count, code := library.DeviceGetCount()
	if code != nvml.SUCCESS {
		return gpu.Document{}, fmt.Errorf("cannot count the GPUs: %s", said(code))
	}
	var cards []observer.Card
	for i := range count {
		cards = append(cards, readCard(library, proc, i))
	}
	return document(true, cards), nil
}

// said is NVML's own text for a code, with the code, since texts differ from
// driver to driver.
func said(code nvml.Return) string { return fmt.Sprintf("%s (NVML error %d)", code.Error(), int(code)) }
