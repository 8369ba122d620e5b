// Package probe finds the processes that have device nodes of GPUs open, from /proc and /sys.
//
// Nodes are identified by device number, never by path: a process under PrivateDevices= or in a
// container has other paths for the same device. A process that ends while it is read is no holder.
// One whose open files were not all read is listed as unseen, so that the reader knows that the list
// of holders is incomplete. A process that opens a node after it was read is missed; a guard that
// depends on the list is evaluated after a fresh read.
//
// A user can make the read of their processes arbitrarily slow: by their number, by the number of
// open files, and by file systems and memory that block. So the processes of each user are read by a
// goroutine of their own, within a time limit (turns). Those that were not read are listed as unseen.
package probe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/observer/holders"
)

// Roots are the directories to read; on a host /proc and /sys.
type Roots struct{ Proc, Sys string }

// The time limits for reading open files and command lines. With the second of Stores their sum is
// less than probeserver.ReadBound.
const (
	filesTime = 4 * time.Second
	linesTime = 2 * time.Second
)

// Probe reads one host. It is not safe for concurrent use.
type Probe struct {
	roots Roots
	statx statx
	files turns[openFiles]
	lines turns[observer.Job]
}

// New returns the probe for the host with these roots.
func New(r Roots) *Probe {
	return &Probe{
		roots: r, statx: unix.Statx, files: newTurns[openFiles](filesTime), lines: newTurns[observer.Job](linesTime),
	}
}

// Scan reads the GPUs with their holders, and the sound devices that are open. It returns an error if
// the host cannot be read at all. A host without a GPU is a valid result.
func (p *Probe) Scan(ctx context.Context) (holders.Document, error) {
	t, err := readTopology(p.roots)
	if err != nil {
		return holders.Document{}, err
	}
	d := holders.Document{GPUs: t.gpus}
	pids, err := processes(p.roots.Proc)
	if err != nil {
		return holders.Document{}, err
	}
	p.readHolders(ctx, t, pids, &d)
	if d.PCMs, d.MorePCMs, err = openPCMs(p.roots.Proc); err != nil {
		return holders.Document{}, err
	}
	return d, nil
}

// processes lists the pids in proc, sorted, without that of the probe. If proc does not show PID 1, it
// is mounted with hidepid or belongs to another namespace. Then the list would be incomplete, which is
// an error.
func processes(proc string) ([]int, error) {
	dir, err := os.Open(proc)
	if err != nil {
		return nil, fmt.Errorf("cannot list processes: %w", err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("cannot list processes: %w", err)
	}
	self, _ := os.Readlink(filepath.Join(proc, "self"))
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil && pid > 0 && name != self {
			pids = append(pids, pid)
		}
	}
	if !slices.Contains(pids, 1) && self != "1" {
		return nil, fmt.Errorf("cannot list processes: %s does not show PID 1, so it hides others too", proc)
	}
	slices.Sort(pids)
	return pids, nil
}

// gone reports whether err means that the process or the file no longer exists.
func gone(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) }
