package probe

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubnium/dubnium/observer"
)

// Stores looks at the directories that policy needs. A file system whose server is
// away answers nobody until it is back: such a look is left behind, and what it is
// about is not known until it ends.
type Stores struct {
	look    func(path string) observer.Store
	patient time.Duration
	// asked are the looks that have not answered yet.
	asked map[string]chan observer.Store
}

// NewStores returns a look at the file system as PID 1 sees it, through the process
// directory proc: our own sandbox has /home empty and everything read-only. It is
// for one goroutine.
func NewStores(proc string) *Stores {
	root := filepath.Join(proc, "1", "root")
	return &Stores{
		look:    func(path string) observer.Store { return store(root, path) },
		patient: time.Second, asked: map[string]chan observer.Store{},
	}
}

// Look looks at the directories.
func (s *Stores) Look(paths []string) []observer.Store {
	for _, path := range paths {
		if s.asked[path] != nil {
			continue
		}
		answer := make(chan observer.Store, 1)
		s.asked[path] = answer
		go func() { answer <- s.look(path) }()
	}
	late, stop := context.WithTimeout(context.Background(), s.patient)
	defer stop()
	found := make([]observer.Store, len(paths))
	for i, path := range paths {
		found[i] = s.await(late, path)
	}
	return found
}

func (s *Stores) await(late context.Context, path string) (found observer.Store) {
	answer := s.asked[path]
	select {
	case found = <-answer:
	case <-late.Done():
		select {
		case found = <-answer: // it is there as well
		default:
			return observer.Store{Path: path, Reason: "its file system does not answer"}
		}
	}
	delete(s.asked, path)
	return found
}

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
	path, err = resolve(top, path)
	if err != nil {
		return fs, fmt.Errorf("it cannot be opened: %w", err)
	}
	fd, err := unix.Openat(top, path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return fs, fmt.Errorf("it cannot be opened: %w", err)
	}
	defer unix.Close(fd)
	return fs, unix.Fstatfs(fd, &fs)
}

// maxLinks is how many links the kernel follows in a path (path_resolution(7)).
const maxLinks = 40

// resolve follows the links in a path below top, of which absolute ones lead to where
// they lead PID 1, not us. It is what openat2(2) does with RESOLVE_IN_ROOT, which
// systemd does not let a dynamic user call (RestrictSUIDSGID=).
func resolve(top int, path string) (string, error) {
	at, links := ".", 0
	for rest := strings.Split(path, "/"); len(rest) > 0; {
		next := rest[0]
		rest = rest[1:]
		switch next {
		case "", ".":
			continue
		case "..":
			at = filepath.Dir(at)
			continue
		}
		next = at + "/" + next
		var target [4096]byte
		n, err := unix.Readlinkat(top, next, target[:])
		if err == unix.EINVAL { // it is no link
			at = next
			continue
		}
		if err != nil {
			return "", err
		}
		if links++; links > maxLinks {
			return "", unix.ELOOP
		}
		if target[0] == '/' {
			at = "."
		}
		rest = append(strings.Split(string(target[:n]), "/"), rest...)
	}
	return at, nil
}
