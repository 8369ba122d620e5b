package probe

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// statx is the system call.
type statx func(dir int, name string, flags, mask int, st *unix.Statx_t) error

// openFiles is what the open files of a process are to the GPUs.
type openFiles struct {
	nodes []node
	// all: every file was looked at. Otherwise they are more than there was time for
	// or, when denied, the kernel does not show them.
	all, denied bool
}

const (
	// ordinary is how many open files a process may have to be looked through at first.
	ordinary = 1024
	// growth is by how much more the second time, and so on: what is looked at twice is
	// little beside what is looked at once.
	growth = 16
	// perThread is how many files to look at take as long as to open a thread's list.
	perThread = 8
)

// lookThrough looks through the open files of an account's processes, those with few
// of them first. A child inherits what its parent has open, so that the files that are
// open have no bound but the product of two large ones.
func (p *Probe) lookThrough(ctx context.Context, t topology, turn *turn[openFiles], pids []int) {
	s := scan{ctx: ctx, statx: p.statx, nodes: t.nodes}
	for limit := ordinary; len(pids) > 0; limit *= growth {
		var rest []int
		for _, pid := range pids {
			timely := turn.visit(ctx, pid, func() (openFiles, bool) {
				files := s.process(filepath.Join(p.roots.Proc, strconv.Itoa(pid)), pid, limit)
				if !files.all && !files.denied {
					rest = append(rest, pid)
				}
				return files, true
			})
			if !timely {
				return
			}
		}
		pids = rest
	}
}

// scan looks at open files one after the other.
type scan struct {
	ctx    context.Context
	statx  statx
	nodes  map[uint64]node
	buffer [8192]byte
	names  []string

	found openFiles // of the process
	left  int       // how many files more may be looked at
}

// errMore says that there are more files than may be looked at.
var errMore = errors.New("more open files")

// process looks at the open files of one process. A process whose main thread has
// ended shows no files although the other threads keep them open, so then the threads
// are asked. (Kernel threads have no files and no other threads.)
func (s *scan) process(dir string, pid, limit int) openFiles {
	s.found, s.left = openFiles{}, limit
	files, err := s.directory(filepath.Join(dir, "fd"))
	if err == nil && files == 0 {
		err = s.threads(dir, strconv.Itoa(pid))
	}
	switch {
	case err == nil || gone(err):
		s.found.all = !s.found.denied
	case !errors.Is(err, errMore):
		s.found.denied = true
	}
	return s.found
}

func (s *scan) threads(dir, main string) error {
	threads, err := list(filepath.Join(dir, "task"))
	if err != nil {
		return err
	}
	for _, thread := range threads {
		if thread == main {
			continue // its files are those of the process
		}
		if s.left -= perThread; s.left < 0 {
			return errMore
		}
		files, err := s.directory(filepath.Join(dir, "task", thread, "fd"))
		if err != nil && !gone(err) {
			return err
		}
		if files > 0 {
			return nil // threads share their table of open files
		}
	}
	return nil
}

// directory looks at the files that an fd directory lists, and returns how many there
// are.
func (s *scan) directory(path string) (files int, err error) {
	dir, err := open(path, unix.O_DIRECTORY)
	if err != nil {
		return 0, err
	}
	defer unix.Close(dir)
	for {
		n, err := again(func() (int, error) { return unix.ReadDirent(dir, s.buffer[:]) })
		switch {
		case err != nil:
			return files, &os.PathError{Op: "readdir", Path: path, Err: err}
		case n == 0:
			return files, nil
		case s.left <= 0 || s.ctx.Err() != nil:
			return files, errMore
		}
		_, _, s.names = unix.ParseDirent(s.buffer[:n], -1, s.names[:0])
		for _, name := range s.names {
			s.file(dir, name)
		}
		files, s.left = files+len(s.names), s.left-len(s.names)
	}
}

// file notes the node that an open file is.
func (s *scan) file(dir int, name string) {
	number, isDevice, err := s.deviceNumber(dir, name)
	switch {
	case err != nil:
		s.found.denied = true
	case isDevice:
		n, ours := s.nodes[number]
		known := slices.ContainsFunc(s.found.nodes, func(k node) bool { return k.name == n.name })
		if ours && !known {
			s.found.nodes = append(s.found.nodes, n)
		}
	}
}

// deviceNumber follows the link to an open file, in an fd directory that is open.
func (s *scan) deviceNumber(dir int, name string) (number uint64, isCharDevice bool, err error) {
	st, err := s.stat(dir, name, unix.STATX_TYPE)
	switch {
	case gone(err), isDead(err), err == unix.EACCES && s.isPrivate(dir, name):
		return 0, false, nil
	case err != nil:
		return 0, false, err
	case st.Mode&unix.S_IFMT != unix.S_IFCHR:
		return 0, false, nil
	}
	return unix.Mkdev(st.Rdev_major, st.Rdev_minor), true, nil
}

// isDead: a file of a mount whose server has gone is no device node.
func isDead(err error) bool { return err == unix.EIO || err == unix.ESTALE || err == unix.ENOTCONN }

// isPrivate tells a file on somebody's own FUSE mount from one that the probe may not
// look at. Without allow_other such a file system refuses everybody else, root too,
// everything but the number of its device, which is what a request for nothing gets
// (fuse_getattr). The kernel's own refusals, by ptrace's rules or a security module's,
// are about that request as well. Device nodes do not work there: users' mounts are
// nodev.
func (s *scan) isPrivate(dir int, name string) bool {
	st, err := s.stat(dir, name, 0)
	return err == nil && st.Mask&unix.STATX_TYPE == 0
}

// stat asks about an open file. AT_STATX_DONT_SYNC keeps a file system from asking its
// server, which may never answer (statx(2)); a device node's number needs no server.
func (s *scan) stat(dir int, name string, mask int) (st unix.Statx_t, err error) {
	_, err = again(func() (int, error) { return 0, s.statx(dir, name, unix.AT_STATX_DONT_SYNC, mask, &st) })
	return st, err
}
