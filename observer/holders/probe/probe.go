// Package probe finds out who keeps a GPU's device nodes open, from /proc and
// /sys alone.
//
// Nodes are told apart by device number, never by path: a process under
// PrivateDevices= or in a container has other paths for the same device, or none
// that we could see. A process that ends while it is looked at is no holder. One
// whose open files may not be seen is counted, so that the reader knows that the
// answer is not complete. A process that opens a node after its turn is missed:
// whoever decides on the answer looks again.
package probe

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/observer/holders"
)

// Roots are the directories to read; on a host /proc and /sys.
type Roots struct{ Proc, Sys string }

// Scan reads the GPUs and their holders. It fails when the host cannot be read
// at all; a host without a GPU is an answer.
func Scan(r Roots) (holders.Document, error) {
	t, err := readTopology(r)
	if err != nil {
		return holders.Document{}, err
	}
	d := holders.Document{GPUs: t.gpus, Holders: []observer.Holder{}}
	pids, err := processes(r.Proc)
	if err != nil {
		return holders.Document{}, err
	}
	for _, pid := range pids {
		p := process{dir: filepath.Join(r.Proc, strconv.Itoa(pid)), pid: pid}
		held, err := p.holds(t)
		switch {
		case gone(err):
		case errors.Is(err, fs.ErrPermission):
			d.Unreadable++
		case err != nil:
			return holders.Document{}, err
		default:
			d.Holders = append(d.Holders, held...)
		}
	}
	if d.PCMs, err = openPCMs(r.Proc); err != nil {
		return holders.Document{}, err
	}
	if d.Reapers, err = reapers(r.Proc, pids); err != nil {
		return holders.Document{}, err
	}
	slices.SortFunc(d.Holders, func(a, b observer.Holder) int {
		return cmp.Or(cmp.Compare(a.GPU, b.GPU), cmp.Compare(a.PID, b.PID))
	})
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
