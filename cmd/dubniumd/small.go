package main

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubnium/dubnium/daemon"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/internal/zap"
)

// staySmall runs on one processor at a time: the runtime keeps memory for each that it
// may use, and what is done here waits for others, and is handed from one goroutine to
// the next, which takes longer when the next one sleeps on another processor.
func staySmall() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(1)
	}
}

// quiet is how long nothing has happened when what it took is given back.
const quiet = 3 * time.Second

// thrift gives back what was needed once nothing has happened for a while. A look that
// found nothing new is nothing that happened: an idle daemon is left to sleep.
type thrift struct {
	daemon.Listener
	timer *time.Timer
}

func newThrift(l daemon.Listener, log *zap.Logger) *thrift {
	return &thrift{l, time.AfterFunc(quiet, func() {
		if err := giveBack(); err != nil {
			log.Warn("the daemon is larger than it needs to be", zap.Error(err))
		}
	})}
}

// Notify is the listener's.
func (t *thrift) Notify(v status.View, events []status.Event) {
	if len(events) > 0 {
		t.timer.Reset(quiet)
	}
	t.Listener.Notify(v, events)
}

// giveBack gives back memory, which what is pooled leaves only with a second
// collection, and the pages of the program that have been read so far: a start or a
// transition reads nearly all. Those that are needed again are in the kernel's cache.
func giveBack() error {
	runtime.GC()
	debug.FreeOSMemory()
	path, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("cannot tell which program this is: %w", err)
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return fmt.Errorf("cannot tell where the program is in memory: %w", err)
	}
	for line := range bytes.Lines(maps) {
		first, last, found := readOnly(line, path)
		if !found {
			continue
		}
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, first, last-first, unix.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("cannot give back pages of the program: %w", errno)
		}
	}
	return nil
}

// readOnly returns where a line of /proc/PID/maps has the file at path, if it may not
// be written there: what was written would be lost.
func readOnly(line []byte, path string) (first, last uintptr, found bool) {
	var mode, offset, device, inode, file string
	n, err := fmt.Sscanf(string(line), "%x-%x %s %s %s %s %s", &first, &last, &mode, &offset, &device, &inode, &file)
	return first, last, err == nil && n == 7 && file == path && mode[0] == 'r' && mode[1] == '-'
}
