// Package probe finds out who keeps a GPU's device nodes open, from /proc and
// /sys alone.
//
// Nodes are told apart by device number, never by path: a process under
// PrivateDevices= or in a container has other paths for the same device, or none
// that we could see. A process that ends while it is looked at is no holder. One
// whose open files were not all looked at is named, so that the reader knows that
// the answer is not complete. A process that opens a node after its turn is missed:
// whoever decides on the answer looks again.
//
// Whoever may start processes can make the look at them take any time: by their
// number, by what they have open, and by files and memory that answer nobody. So
// the processes of each user are looked at on their own, and the time is bounded
// (turns); what is not done by then is told.
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

// How long is looked through open files, and how long command lines are read. With
// the second that Stores takes it is less than probeserver.LookBound.
const (
	filesTime = 4 * time.Second
	linesTime = 2 * time.Second
)

// Probe looks at one host. It is for one goroutine.
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

// Scan reads the GPUs and their holders, and which sound devices are open. It fails when
// the host cannot be read at all; a host without a GPU is an answer.
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

// processes lists the pids in proc without our own. A /proc that does not show
// PID 1 is mounted with hidepid, or belongs to another world: what it does not
// show cannot be called absent.
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

// gone reports whether err says that the process or the file ended under our
// eyes.
func gone(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) }
