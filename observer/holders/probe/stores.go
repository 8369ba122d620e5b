package probe

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubnium/dubnium/observer"
)

// Stores looks at the directories that policy needs. A file system whose server is
// away answers nobody until it is back: such a look is left behind, and what it is
// about is not known until it ends.
type Stores struct {
	// root is the file system as PID 1 sees it: our own sandbox has /home empty and
	// everything read-only.
	root    string
	patient time.Duration
	asked   map[string]chan observer.Store
}

// NewStores returns a look that goes through the process directory proc. It is for
// one goroutine.
func NewStores(proc string) *Stores {
	return &Stores{filepath.Join(proc, "1", "root"), time.Second, map[string]chan observer.Store{}}
}

// Look looks at the directories.
func (s *Stores) Look(paths []string) []observer.Store {
	for _, path := range paths {
		if s.asked[path] != nil {
			continue
		}
		answer := make(chan observer.Store, 1)
		s.asked[path] = answer
		go func() { answer <- store(s.root, path) }()
	}
	late := time.After(s.patient)
	found := make([]observer.Store, len(paths))
	for i, path := range paths {
		select {
		case found[i] = <-s.asked[path]:
			delete(s.asked, path)
			continue
		default:
		}
		select {
		case found[i] = <-s.asked[path]:
			delete(s.asked, path)
		case <-late:
			late = closed
			found[i] = observer.Store{Path: path, Reason: "its file system does not answer"}
		}
	}
	return found
}

// closed is for a time that has passed: the next wait is none.
var closed = func() <-chan time.Time { c := make(chan time.Time); close(c); return c }()

// store looks at one. Being root, the daemon may write where the file system can be
// written to at all.
func store(root, path string) observer.Store {
	found := observer.Store{Path: path}
	fs, err := fileSystem(root, path)
	switch {
	case errors.Is(err, unix.ENOENT):
		found.Fault = "it does not exist"
	case errors.Is(err, unix.ENOTDIR):
		found.Fault = "it is not a directory"
	case err != nil:
		found.Reason = err.Error()
	case fs.Flags&unix.ST_RDONLY != 0:
		found.Fault = "it is mounted read-only"
	}
	if err != nil {
		found.Free.Reason = "nothing is known of its file system"
		return found
	}
	free := float64(fs.Bavail) * float64(fs.Frsize)
	found.Free.Value = &free
	return found
}

func fileSystem(root, path string) (fs unix.Statfs_t, err error) {
	top, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		// Not %w: it is not the directory that is missing.
		return fs, fmt.Errorf("the file system of PID 1 cannot be seen: %v", err)
	}
	defer unix.Close(top)
	// An absolute link on the way leads to where it leads PID 1, not us.
	fd, err := unix.Openat2(top, "."+path, &unix.OpenHow{
		Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC | unix.O_NONBLOCK, Resolve: unix.RESOLVE_IN_ROOT,
	})
	if err != nil {
		return fs, fmt.Errorf("it cannot be opened: %w", err)
	}
	defer unix.Close(fd)
	return fs, unix.Fstatfs(fd, &fs)
}
