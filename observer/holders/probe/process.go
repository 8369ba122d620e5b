package probe

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dubnium/dubnium/observer"
)

// process is one entry of /proc.
type process struct {
	dir string
	pid int
}

// holds returns one holder for each GPU that the process has a node of open.
// Errors: gone, or not permitted, or a /proc that is not one.
func (p process) holds(t topology) ([]observer.Holder, error) {
	nodes, err := p.openNodes(t)
	if err != nil || len(nodes) == 0 {
		return nil, err
	}
	is, err := p.identity()
	if err != nil {
		return nil, err
	}
	var held []observer.Holder
	for _, gpu := range t.gpus {
		h := is
		h.GPU = gpu.PCI
		for _, n := range nodes {
			if slices.Contains(n.gpus, gpu.PCI) {
				h.Nodes = append(h.Nodes, n.name)
			}
		}
		if len(h.Nodes) > 0 {
			slices.Sort(h.Nodes)
			h.Nodes = slices.Compact(h.Nodes)
			held = append(held, h)
		}
	}
	return held, nil
}

// openNodes returns the GPU nodes among the process's open files. A process
// whose main thread has ended shows no files there although the other threads
// keep them open, so then the threads are asked. (Kernel threads have no files
// and no other threads.)
func (p process) openNodes(t topology) ([]node, error) {
	nodes, files, err := scanFiles(filepath.Join(p.dir, "fd"), t)
	if err != nil || files > 0 {
		return nodes, err
	}
	tasks, threads, err := list(filepath.Join(p.dir, "task"))
	if err != nil {
		return nil, ignoreGone(err)
	}
	unix.Close(tasks)
	for _, thread := range threads {
		if thread == strconv.Itoa(p.pid) {
			continue // its files are those of the process
		}
		more, files, err := scanFiles(filepath.Join(p.dir, "task", thread, "fd"), t)
		if err != nil && !gone(err) {
			return nil, err
		}
		if nodes = append(nodes, more...); files > 0 {
			break // threads share their table of open files
		}
	}
	return nodes, nil
}

func ignoreGone(err error) error {
	if gone(err) {
		return nil
	}
	return err
}

// scanFiles returns the GPU nodes among the open files that an fd directory
// lists, and how many files there were.
func scanFiles(dir string, t topology) (nodes []node, files int, err error) {
	d, names, err := list(dir)
	if err != nil {
		return nil, 0, err
	}
	defer unix.Close(d)
	for _, name := range names {
		number, isDevice, err := deviceNumber(d, name)
		if err != nil && !gone(err) {
			return nil, 0, err
		}
		if n, ours := t.nodes[number]; isDevice && ours {
			nodes = append(nodes, n)
		}
	}
	return nodes, len(names), nil
}

// deviceNumber follows the link to an open file, in an fd directory that is open.
// AT_STATX_DONT_SYNC keeps a file on a network filesystem whose server is away from
// blocking the probe for ever (statx(2)); a device node's number needs no server.
func deviceNumber(dir int, name string) (number uint64, isCharDevice bool, err error) {
	var st unix.Statx_t
	if err := unix.Statx(dir, name, unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &st); err != nil {
		// A file of a dead mount is no device node.
		if errors.Is(err, unix.EIO) || errors.Is(err, unix.ESTALE) || errors.Is(err, unix.ENOTCONN) {
			return 0, false, nil
		}
		return 0, false, &os.PathError{Op: "statx", Path: "fd/" + name, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFCHR {
		return 0, false, nil
	}
	return unix.Mkdev(st.Rdev_major, st.Rdev_minor), true, nil
}

// identity says who the process is.
func (p process) identity() (observer.Holder, error) {
	comm, err := os.ReadFile(filepath.Join(p.dir, "comm"))
	if err != nil {
		return observer.Holder{}, err
	}
	uid, err := p.uid()
	if err != nil {
		return observer.Holder{}, err
	}
	cgroup, err := os.ReadFile(filepath.Join(p.dir, "cgroup"))
	if err != nil {
		return observer.Holder{}, err
	}
	where := placeOf(string(cgroup))
	return observer.Holder{
		PID: p.pid, Command: strings.ToValidUTF8(strings.TrimSuffix(string(comm), "\n"), "?"), UID: uid,
		Unit: where.unit, Slices: where.slices, Session: where.session,
	}, nil
}

// uid is the real user id. The owner of /proc/PID will not do: it is root for
// every process that is not dumpable (proc(5)).
func (p process) uid() (uint32, error) {
	status, err := os.ReadFile(filepath.Join(p.dir, "status"))
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(status) {
		if ids, ok := bytes.CutPrefix(line, []byte("Uid:")); ok {
			if fields := bytes.Fields(ids); len(fields) > 0 {
				uid, err := strconv.ParseUint(string(fields[0]), 10, 32)
				return uint32(uid), err
			}
		}
	}
	return 0, fmt.Errorf("cannot read the user of pid %d: no Uid line in its status", p.pid)
}

// Identify says who a process is, for a probe that knows of it from elsewhere. Of
// a holder it leaves out what is held.
func Identify(proc string, pid int) (observer.Holder, error) {
	return process{dir: filepath.Join(proc, strconv.Itoa(pid)), pid: pid}.identity()
}
