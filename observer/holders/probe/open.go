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

// openFiles are the GPU nodes among the open files of a process.
type openFiles struct {
	nodes []node
	// all: every file was read. Otherwise the kernel denied it (denied), or there was not
	// enough time.
	all, denied bool
}

const (
	// firstLimit is the number of open files of a process that are read in the first pass.
	firstLimit = 1024
	// growth is the factor by which the limit grows with each pass, so that the files that
	// are read twice are few.
	growth = 16
	// perThread is the cost of the list of a thread, in open files.
	perThread = 8
)

// readFiles reads the open files of the processes of an account, those of processes with few files
// first. A child inherits the files of its parent, so the total is bounded only by the product of the
// limits of files and processes.
func (p *Probe) readFiles(ctx context.Context, t topology, turn *turn[openFiles], pids []int) {
	s := scan{ctx: ctx, statx: p.statx, nodes: t.nodes}
	for limit := firstLimit; len(pids) > 0; limit *= growth {
		var rest []int
		for _, pid := range pids {
			visited := turn.visit(ctx, pid, func() (openFiles, bool) {
				files := s.process(filepath.Join(p.roots.Proc, strconv.Itoa(pid)), pid, limit)
				if !files.all && !files.denied {
					rest = append(rest, pid)
				}
				return files, true
			})
			if !visited {
				return
			}
		}
		pids = rest
	}
}

// scan reads open files, one process after the other.
type scan struct {
	ctx    context.Context
	statx  statx
	nodes  map[uint64]node
	buffer [8192]byte
	names  []string

	found openFiles // of the process
	left  int       // how many more files may be read
}

// errMore: a process has more open files than the limit.
var errMore = errors.New("more open files")

// process reads the open files of one process. If its main thread has ended, the process shows no
// files although the other threads keep them open, so then the threads are read. (Kernel threads have
// neither files nor other threads.)
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

// directory reads the files that an fd directory lists, and returns their number.
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

// file adds the node of an open file, if it is one of a GPU.
func (s *scan) file(dir int, name string) {
	number, isDevice, err := s.deviceNumber(dir, name)
	switch {
	case err != nil:
		s.found.denied = true
	case isDevice:
		n, ok := s.nodes[number]
		known := slices.ContainsFunc(s.found.nodes, func(k node) bool { return k.name == n.name })
		if ok && !known {
			s.found.nodes = append(s.found.nodes, n)
		}
	}
}

// deviceNumber returns the device number of an entry of an open fd directory.
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

// isDead reports whether a file is on a mount whose server is gone. Such a file is no device node.
func isDead(err error) bool { return err == unix.EIO || err == unix.ESTALE || err == unix.ENOTCONN }

// isPrivate distinguishes a file on the FUSE mount of another user from one that the probe has no
// permission to read. Without allow_other such a file system denies other users, root too, everything
// but a request for no attributes (fuse_getattr). A denial by the kernel, by the rules of ptrace or a
// security module, applies to that request as well. Device nodes do not work on such a mount, since
// mounts of users are nodev.
func (s *scan) isPrivate(dir int, name string) bool {
	st, err := s.stat(dir, name, 0)
	return err == nil && st.Mask&unix.STATX_TYPE == 0
}

// stat reads the attributes of an open file. With AT_STATX_DONT_SYNC a file system does not request
// them from its server, which may never answer (statx(2)). The number of a device node needs no
// server.
func (s *scan) stat(dir int, name string, mask int) (st unix.Statx_t, err error) {
	_, err = again(func() (int, error) { return 0, s.statx(dir, name, unix.AT_STATX_DONT_SYNC, mask, &st) })
	return st, err
}
