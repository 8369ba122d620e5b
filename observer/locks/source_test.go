package locks_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/observer/locks"
	"github.com/dubnium/dubnium/policy"
)

// host is a machine's two locks, in a directory of their own.
func host(t *testing.T) (p policy.Policy, look func(proc string) observer.Locks) {
	p.Paths.Runtime = t.TempDir()
	p.Paths.RebuildLock = filepath.Join(p.Paths.Runtime, "switch-to-configuration.lock")
	return p, func(proc string) observer.Locks {
		var s observer.Snapshot
		locks.New(proc, p).Read(t.Context()).Into(&s)
		require.False(t, s.Locks.At.IsZero())
		return s.Locks
	}
}

// take opens a file and takes its lock as how says.
func take(t *testing.T, path string, how int) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	require.NoError(t, unix.Flock(int(f.Fd()), how|unix.LOCK_NB))
	return f
}

func TestRead(t *testing.T) {
	p, look := host(t)
	transition := filepath.Join(p.Paths.Runtime, "lock")
	free := observer.Locks{Transition: observer.Lock{Path: transition}, Rebuild: observer.Lock{Path: p.Paths.RebuildLock}}
	seen := func() observer.Locks {
		l := look("/proc")
		require.True(t, l.Known(), l.Reason)
		l.Reading = observer.Reading{}
		return l
	}
	require.Equal(t, free, seen(), "files that are not there are nobody's")

	f := take(t, transition, unix.LOCK_EX)
	held := free
	held.Transition.Held, held.Transition.PID, held.Transition.Own = true, os.Getpid(), true
	require.Equal(t, held, seen())
	require.NoError(t, f.Close())
	require.Equal(t, free, seen())

	shared := take(t, p.Paths.RebuildLock, unix.LOCK_SH)
	require.Equal(t, free, seen(), "a share is ours in a transition, and keeps nobody from anything")
	require.NoError(t, shared.Close())
	take(t, p.Paths.RebuildLock, unix.LOCK_EX)
	require.True(t, seen().Rebuild.Held)

	// To look is not to touch: whoever wants the other lock gets it at once.
	take(t, transition, unix.LOCK_EX)
}

func TestParse(t *testing.T) {
	p, look := host(t)
	require.NoError(t, os.WriteFile(p.Paths.RebuildLock, nil, 0o644))
	var file unix.Stat_t
	require.NoError(t, unix.Stat(p.Paths.RebuildLock, &file))
	at := fmt.Sprintf("%02x:%02x:%d", unix.Major(file.Dev), unix.Minor(file.Dev), file.Ino)
	other := fmt.Sprintf("%02x:%02x:%d", unix.Major(file.Dev), unix.Minor(file.Dev), file.Ino+1)
	proc := t.TempDir()
	for list, pid := range map[string]int{
		"": 0,
		"1: FLOCK  ADVISORY  WRITE 77 " + at + " 0 EOF\n":                                                   77,
		"1: POSIX  ADVISORY  WRITE 5 " + other + " 0 EOF\n2: FLOCK  ADVISORY  WRITE 77 " + at + " 0 EOF\n":  77,
		"1: FLOCK  ADVISORY  WRITE 77 " + other + " 0 EOF\n":                                                0,
		"1: FLOCK  ADVISORY  READ  77 " + at + " 0 EOF\n":                                                   0,
		"1: POSIX  ADVISORY  WRITE 77 " + at + " 0 EOF\n":                                                   0,
		"1: FLOCK  ADVISORY  READ  77 " + at + " 0 EOF\n1: -> FLOCK  ADVISORY  WRITE 78 " + at + " 0 EOF\n": 0,
		"garbage\n1: FLOCK\n": 0,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(proc, "locks"), []byte(list), 0o644))
		l := look(proc)
		require.True(t, l.Known(), l.Reason)
		require.Equal(t, observer.Lock{Path: p.Paths.RebuildLock, Held: pid != 0, PID: pid}, l.Rebuild, list)
	}
}

func TestUnreadable(t *testing.T) {
	_, look := host(t)
	proc := t.TempDir()
	require.Contains(t, look(proc).Reason, "the holders of the locks cannot be read: open ")
	require.NoError(t, os.WriteFile(filepath.Join(proc, "locks"), []byte(strings.Repeat("x", 2<<20)), 0o644))
	require.Contains(t, look(proc).Reason, "is longer than")
	p := policy.Policy{Paths: policy.Paths{Runtime: "/proc/self/status", RebuildLock: "/none"}}
	var s observer.Snapshot
	locks.New("/proc", p).Read(t.Context()).Into(&s)
	require.Contains(t, s.Locks.Reason, "cannot stat /proc/self/status/lock: not a directory")
}
