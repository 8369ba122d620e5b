// Package probe reads the GPUs through NVML, the library of the NVIDIA driver.
//
// A host without the driver is a valid result, and a driver that fails an error. A card that fails is
// unknown, and the others are read. Three traps shape the code:
//   - go-nvml binds the functions of the library lazily, and exits the process if one is missing. So
//     every function is looked up before it is called.
//   - go-nvml does not distinguish a missing library from a broken one, and has no lookup before
//     Init. So this package opens the library once before go-nvml does.
//   - A call can hang in the kernel forever. The caller bounds the process, and a lock keeps further
//     processes from hanging as well.
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

// Options are the paths to read.
type Options struct {
	// Libraries are tried in order: names for the dynamic linker, or paths.
	Libraries []string
	// Proc is the process directory.
	Proc string
	// Lock is the path of a lock file that is held while NVML is read.
	Lock string
}

// Read reads NVML once. The document contains the error too.
func Read(o Options) (gpu.Document, error) {
	d, err := read(o)
	if err != nil {
		return gpu.Document{Error: err.Error()}, err
	}
	return d, nil
}

func read(o Options) (gpu.Document, error) {
	kernel, err := kernelDriver(o.Proc)
	if err != nil {
		return gpu.Document{}, err
	}
	library, path, err := open(o.Libraries)
	switch {
	case errors.Is(err, errMissing) && !kernel:
		return document(false, nil), nil
	case errors.Is(err, errMissing):
		return gpu.Document{}, fmt.Errorf("cannot use NVML: the kernel has the NVIDIA driver, but %w", err)
	case err != nil:
		return gpu.Document{}, fmt.Errorf("cannot use NVML: %w", err)
	}
	defer library.Close()
	unlock, err := lock(o.Lock)
	if err != nil {
		return gpu.Document{}, err
	}
	defer unlock()
	return readCards(path, o.Proc, kernel)
}

func document(driver bool, cards []observer.Card) gpu.Document {
	if cards == nil {
		cards = []observer.Card{}
	}
	return gpu.Document{Driver: &driver, Cards: cards}
}

// kernelDriver reports whether the kernel module of the driver is loaded.
func kernelDriver(proc string) (bool, error) {
	_, err := os.Stat(filepath.Join(proc, "driver/nvidia/version"))
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, os.ErrNotExist):
		return false, nil
	}
	return false, fmt.Errorf("cannot find out whether there is an NVIDIA driver: %w", err)
}

var errMissing = errors.New("its library was not found")

// needed are the functions without which no card can be read.
var needed = []string{
	"nvmlInit_v2", "nvmlShutdown", "nvmlErrorString", "nvmlDeviceGetCount_v2", "nvmlDeviceGetHandleByIndex_v2",
}

// open opens the first library that exists, and returns its path. A library that exists and is
// broken is an error: the next one is not tried.
func open(names []string) (*dl.DynamicLibrary, string, error) {
	for _, name := range names {
		library := dl.New(name, dl.RTLD_LAZY|dl.RTLD_GLOBAL)
		err := library.Open()
		if err != nil && isMissing(name, err) {
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

// isMissing reports whether err of dlopen(3) means that the library itself is missing, and not one of
// its dependencies. dlopen has no error codes; its text begins with the name of the missing file.
func isMissing(name string, err error) bool {
	return strings.HasPrefix(err.Error(), name+":") && strings.Contains(err.Error(), "No such file or directory")
}

// lock ensures that only one process reads NVML. It does not wait, because the holder of the lock may
// hang in the driver.
func lock(path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot lock NVML: %w", err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = file.Close() // nothing was written
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.New("NVML is busy: another read has not ended")
		}
		return nil, fmt.Errorf("cannot lock NVML: %w", err)
	}
	return func() { _ = file.Close() }, nil // closing unlocks
}

// readCards initializes NVML for one read only, because an open handle holds the GPU.
func readCards(path, proc string, kernel bool) (gpu.Document, error) {
	library := nvml.New(nvml.WithLibraryPath(path))
	switch code := library.Init(); {
	case code == nvml.ERROR_DRIVER_NOT_LOADED && !kernel:
		return document(false, nil), nil // the library is installed without the driver
	case code != nvml.SUCCESS:
		return gpu.Document{}, fmt.Errorf("cannot start NVML: %s", codeText(code))
	}
	defer library.Shutdown()
	count, code := library.DeviceGetCount()
	if code != nvml.SUCCESS {
		return gpu.Document{}, fmt.Errorf("cannot count the GPUs: %s", codeText(code))
	}
	var cards []observer.Card
	for i := range count {
		cards = append(cards, readCard(library, proc, i))
	}
	return document(true, cards), nil
}

// codeText returns the text of NVML for a code, and the code, since the texts differ between drivers.
func codeText(code nvml.Return) string {
	return fmt.Sprintf("%s (NVML error %d)", code.Error(), int(code))
}
