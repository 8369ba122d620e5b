// Package procfs reads the load of the machine from /proc: load average, pressure and memory.
//
// The numbers come from the kernel and need no privileges, so the daemon reads them without a probe.
// Each number that cannot be read or parsed is unknown by itself: a kernel without PSI still has a
// load average.
package procfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/dubnium/dubnium/observer"
)

// Root is the mount point of the proc file system.
const Root = "/proc"

// Source reads the files below a directory.
type Source struct{ root string }

// New returns a source for the proc file system at root.
func New(root string) *Source { return &Source{root} }

// Name names the source in facts and logs.
func (s *Source) Name() string { return observer.SourceProcfs }

// Watch returns when ctx ends. There are no signals to watch.
func (s *Source) Watch(ctx context.Context, _ func()) error {
	<-ctx.Done()
	return nil
}

// NextPoll never polls: no observed state depends on these numbers. The guards that do are evaluated
// after a fresh read.
func (s *Source) NextPoll(observer.Snapshot) time.Time { return time.Time{} }

// Read reads the files. It ignores ctx, because reading /proc does not block.
func (s *Source) Read(context.Context) observer.Part {
	p := observer.Procfs{
		Cores:          s.measure("stat", online),
		PressureCPU:    s.measure("pressure/cpu", someAvg10),
		PressureMemory: s.measure("pressure/memory", someAvg10),
		PressureIO:     s.measure("pressure/io", someAvg10),
		MemAvailable:   s.measure("meminfo", row("MemAvailable")),
		MemTotal:       s.measure("meminfo", row("MemTotal")),
		LoadPerCore:    s.measure("loadavg", load1),
	}
	p.LoadPerCore = perCore(p.LoadPerCore, p.Cores)
	p.At = time.Now()
	return p
}

func row(key string) func(string) (float64, error) {
	return func(text string) (float64, error) { return meminfo(text, key) }
}

// perCore divides load by cores. The result is unknown if either is.
func perCore(load, cores observer.Measure) observer.Measure {
	switch {
	case load.Value == nil:
		return load
	case cores.Value == nil:
		return cores
	}
	each := *load.Value / *cores.Value
	return observer.Measure{Value: &each}
}

func (s *Source) measure(file string, parse func(string) (float64, error)) observer.Measure {
	text, err := s.readFile(file)
	if err != nil {
		return observer.Measure{Reason: reason(file, err)}
	}
	n, err := parse(text)
	if err != nil {
		return observer.Measure{Reason: fmt.Sprintf("/proc/%s has an unknown format: %v", file, err)}
	}
	return observer.Measure{Value: &n}
}

// bound is the number of bytes that is read of a file. On a machine with a thousand processors all
// values that are parsed are before it.
const bound = 256 << 10

func (s *Source) readFile(file string) (string, error) {
	f, err := os.Open(filepath.Join(s.root, file))
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, bound))
	return string(text), err
}

// reason names the file by its path on a real host. A kernel that was built or booted without PSI
// lacks the files, or fails to read them with EOPNOTSUPP.
func reason(file string, err error) string {
	if strings.HasPrefix(file, "pressure/") && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.EOPNOTSUPP)) {
		return "this kernel does not measure pressure (CONFIG_PSI, psi=1)"
	}
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return fmt.Sprintf("/proc/%s cannot be read: %v", file, err)
}
