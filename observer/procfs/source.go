// Package procfs reads from /proc how busy the machine is: load, pressure and
// memory.
//
// The kernel's own numbers are not what a stranger wrote, so the daemon reads
// them itself, without privileges. What cannot be read or is not as documented is
// unknown, each number for itself: a kernel without PSI has a load all the same.
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

// Root is where the kernel has it.
const Root = "/proc"

// Source reads the files below a directory.
type Source struct{ root string }

// New returns a source for the proc file system at root.
func New(root string) *Source { return &Source{root} }

// Name names the source in facts and logs.
func (s *Source) Name() string { return observer.SourceProcfs }

// Watch has nothing to watch: a load is always changing. It ends with ctx.
func (s *Source) Watch(ctx context.Context, _ func()) error {
	<-ctx.Done()
	return nil
}

// NextPoll never asks: nothing that is observed rests on these numbers. Whoever
// judges them has them looked at first.
func (s *Source) NextPoll(observer.Snapshot) time.Time { return time.Time{} }

// Read reads the files; reading never blocks, so ctx is not needed.
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

// perCore divides; by an unknown number of cores nothing can be divided.
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
		return observer.Measure{Reason: fmt.Sprintf("/proc/%s cannot be believed: %v", file, err)}
	}
	return observer.Measure{Value: &n}
}

// bound is more than a machine with a thousand processors has before the end of
// what is looked for.
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

// reason names the file as it is named on a real host. A kernel built or booted
// without PSI lacks the files, or has them and refuses to have them read.
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
