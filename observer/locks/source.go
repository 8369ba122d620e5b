// Package locks reads the holders of the lock files that concern modes from /proc/locks.
//
// It never takes a lock itself, not even for a moment: nixos-rebuild does not wait for its lock and
// would fail. If the list cannot be read, the reading is unknown. A file that does not exist is not
// locked.
package locks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// Source reads the list in a proc file system. A reload of the policy does not change the paths of
// the lock files.
type Source struct {
	list                string
	transition, rebuild string
}

// New returns a source for the proc file system at root and the lock files of p.
func New(root string, p policy.Policy) *Source {
	return &Source{
		list:       filepath.Join(root, "locks"),
		transition: filepath.Join(p.Paths.Runtime, "lock"), rebuild: p.Paths.RebuildLock,
	}
}

// Name names the source in facts and logs.
func (s *Source) Name() string { return observer.SourceLocks }

// Watch returns when ctx ends. The kernel does not signal changes of locks.
func (s *Source) Watch(ctx context.Context, _ func()) error {
	<-ctx.Done()
	return nil
}

// NextPoll never polls: no observed state depends on a lock. The guards that do are evaluated after
// a fresh read.
func (s *Source) NextPoll(observer.Snapshot) time.Time { return time.Time{} }

// Read reads the list. It ignores ctx, because reading /proc does not block.
func (s *Source) Read(context.Context) observer.Part {
	var part observer.Locks
	list, err := readFile(s.list)
	if err == nil {
		part.Transition, err = find(list, s.transition)
	}
	if err == nil {
		part.Rebuild, err = find(list, s.rebuild)
	}
	if err != nil {
		part = observer.Locks{Reading: observer.Reading{Reason: "the holders of the locks cannot be read: " + err.Error()}}
	}
	part.At = time.Now()
	return part
}

// maxList is the largest list in bytes. A longer one is an error, since the lock may be in the part
// that was not read.
const maxList = 1 << 20

func readFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxList))
	if err == nil && len(text) == maxList {
		err = fmt.Errorf("%s is longer than %d bytes", path, maxList)
	}
	return string(text), err
}

// find returns the exclusive lock on the file at path. The list names files by device and inode.
func find(list, path string) (observer.Lock, error) {
	lock := observer.Lock{Path: path}
	var file unix.Stat_t
	err := unix.Stat(path, &file)
	if errors.Is(err, fs.ErrNotExist) {
		return lock, nil
	}
	if err != nil {
		return lock, fmt.Errorf("cannot stat %s: %w", path, err)
	}
	inode := fmt.Sprintf("%02x:%02x:%d", unix.Major(file.Dev), unix.Minor(file.Dev), file.Ino)
	for line := range strings.Lines(list) {
		pid, at, exclusive := parse(line)
		if exclusive && at == inode {
			lock.Held, lock.PID, lock.Own = true, pid, pid == os.Getpid()
			return lock, nil
		}
	}
	return lock, nil
}

// parse parses a line of /proc/locks, "1: FLOCK  ADVISORY  WRITE 1234 00:1b:99 0 EOF". exclusive is
// true for a flock(2) lock that is held exclusively, and false for one that a process waits for,
// "1: -> FLOCK ...".
func parse(line string) (pid int, inode string, exclusive bool) {
	fields := strings.Fields(line)
	if len(fields) != 8 || fields[1] != "FLOCK" || fields[3] != "WRITE" {
		return 0, "", false
	}
	pid, err := strconv.Atoi(fields[4])
	return pid, fields[5], err == nil
}
