// Package locks reads from the kernel's list who holds a lock that concerns modes.
//
// It never tries one, not even for a moment: nixos-rebuild does not wait for its own
// and would fail. What cannot be read is unknown, and a file that is not there is
// nobody's.
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

// Source reads the list below a proc file system. Its paths are those of the policy
// that the daemon began with, which no reload changes.
type Source struct {
	list                string
	transition, rebuild string
}

// New returns a source for the proc file system at root and the locks of p's host.
func New(root string, p policy.Policy) *Source {
	return &Source{
		list:       filepath.Join(root, "locks"),
		transition: filepath.Join(p.Paths.Runtime, "lock"), rebuild: p.Paths.RebuildLock,
	}
}

// Name names the source in facts and logs.
func (s *Source) Name() string { return observer.SourceLocks }

// Watch has nothing to watch: the kernel signals no lock. It ends with ctx.
func (s *Source) Watch(ctx context.Context, _ func()) error {
	<-ctx.Done()
	return nil
}

// NextPoll never asks: no state rests on a lock. Whoever judges one has it looked at first.
func (s *Source) NextPoll(observer.Snapshot) time.Time { return time.Time{} }

// Read reads the list; reading never blocks, so ctx is not needed.
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
		part = observer.Locks{Reading: observer.Reading{Reason: "who holds a lock cannot be told: " + err.Error()}}
	}
	part.At = time.Now()
	return part
}

// most bounds what is read. A list that is longer is not believed: the end of it
// may hold what is looked for.
const most = 1 << 20

func readFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most))
	if err == nil && len(text) == most {
		err = fmt.Errorf("%s is longer than %d bytes", path, most)
	}
	return string(text), err
}

// find returns who has the file for itself alone, by its device and inode.
func find(list, path string) (observer.Lock, error) {
	lock := observer.Lock{Path: path}
	var file unix.Stat_t
	err := unix.Stat(path, &file)
	if errors.Is(err, fs.ErrNotExist) {
		return lock, nil
	}
	if err != nil {
		return lock, fmt.Errorf("cannot look at %s: %w", path, err)
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

// parse reads a line of /proc/locks, "1: FLOCK  ADVISORY  WRITE 1234 00:1b:99 0 EOF":
// an flock(2) that somebody has for themselves. One that is waited for has an arrow,
// "1: -> FLOCK ...", and is nobody's yet.
func parse(line string) (pid int, inode string, exclusive bool) {
	fields := strings.Fields(line)
	if len(fields) != 8 || fields[1] != "FLOCK" || fields[3] != "WRITE" {
		return 0, "", false
	}
	pid, err := strconv.Atoi(fields[4])
	return pid, fields[5], err == nil
}
