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

// DirectoryReader reads the directories that the policy requires. A file system whose server is away blocks
// until it is back. Such a read is left running, and its directory is unknown until it ends.
type DirectoryReader struct {
	read  func(path string) observer.Directory
	limit time.Duration
	// pending are the reads that have not ended yet.
	pending map[string]chan observer.Directory
}

// NewDirectoryReader returns a reader of the file system of PID 1, through the process directory proc: in the
// sandbox of the probe /home is empty and everything is read-only. It is not safe for concurrent use.
func NewDirectoryReader(proc string) *DirectoryReader {
	root := filepath.Join(proc, "1", "root")
	return &DirectoryReader{
		read:  func(path string) observer.Directory { return store(root, path) },
		limit: time.Second, pending: map[string]chan observer.Directory{},
	}
}

// Read reads the directories.
func (s *DirectoryReader) Read(paths []string) []observer.Directory {
	for _, path := range paths {
		if s.pending[path] != nil {
			continue
		}
		result := make(chan observer.Directory, 1)
		s.pending[path] = result
		go func() { result <- s.read(path) }()
	}
	late, stop := context.WithTimeout(context.Background(), s.limit)
	defer stop()
	found := make([]observer.Directory, len(paths))
	for i, path := range paths {
		found[i] = s.await(late, path)
	}
	return found
}

func (s *DirectoryReader) await(late context.Context, path string) (found observer.Directory) {
	result := s.pending[path]
	select {
	case found = <-result:
	case <-late.Done():
		select {
		case found = <-result: // both were ready
		default:
			return observer.Directory{Path: path, Reason: "its file system does not answer"}
		}
	}
	delete(s.pending, path)
	return found
}

// store reads one directory. The daemon is root, so it can write unless the file system is read-only.
func store(root, path string) observer.Directory {
	found := observer.Directory{Path: path}
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
		found.Free.Reason = "its file system is unknown"
		return found
	}
	free := float64(fs.Bavail) * float64(fs.Frsize)
	found.Free.Value = &free
	return found
}

func fileSystem(root, path string) (fs unix.Statfs_t, err error) {
	top, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		// Not %w: an ENOENT of the root does not mean that the directory is missing.
		return fs, fmt.Errorf("the file system of PID 1 cannot be read: %v", err)
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

// resolve follows the links in a path below top, where absolute links start at top. It does what
// openat2(2) does with RESOLVE_IN_ROOT, which systemd does not permit for a dynamic user
// (RestrictSUIDSGID=).
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
		if err == unix.EINVAL { // not a link
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
