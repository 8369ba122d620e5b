package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubnium/dubnium/e2e/internal/wire"
)

const (
	// scriptPause lies at least between two tries of a script, the one condition that has no event.
	scriptPause = 30 * time.Millisecond
	// secondLook is taken although no event came: /proc and /sys send none, and a lost signal must not cost a test.
	secondLook = 250 * time.Millisecond
)

// condition says whether it holds now, and in a few words what it saw.
type condition func(context.Context) (holds bool, seen string)

// wait blocks until the condition of the request holds.
func wait(ctx context.Context, req wire.Wait) error {
	ctx, cancel := context.WithTimeout(ctx, req.Timeout)
	defer cancel()
	switch {
	case req.Exists != "":
		return waitPath(ctx, req.Exists, true)
	case req.Gone != "":
		return waitPath(ctx, req.Gone, false)
	case req.Unit != "":
		return waitUnit(ctx, req.Unit, req.State)
	case req.PID != 0:
		return waitProcess(ctx, req.PID)
	case req.Script != "":
		return until(ctx, "the script to succeed", nil, scriptPause, script(req.Script, req.User))
	}
	return errors.New("cannot wait for nothing")
}

// until looks at once, at each wake, and after a pause. A look that takes long is followed by a pause as long: waiting
// for the machine must not be what keeps it busy.
func until(ctx context.Context, what string, wake <-chan struct{}, pause time.Duration, c condition) error {
	last := "nothing"
	for {
		began := time.Now()
		holds, seen := c(ctx)
		if holds {
			return nil
		}
		if ctx.Err() == nil {
			last = seen // what was seen by a look that was cut short says nothing
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("cannot wait any longer for %s: %w; last seen: %s", what, ctx.Err(), last)
		case <-wake:
		case <-time.After(max(pause, time.Since(began))):
		}
	}
}

func script(text, user string) condition {
	return func(ctx context.Context) (bool, string) {
		cmd, release, err := command(ctx, wire.Exec{Argv: []string{"/bin/sh", "-c", text}, User: user})
		if err != nil {
			return false, err.Error()
		}
		defer release()
		out, err := cmd.CombinedOutput()
		seen := strings.TrimSpace(string(out))
		if err == nil || errors.Is(err, exec.ErrWaitDelay) {
			return true, seen
		}
		return false, fmt.Sprintf("%v: %s", err, seen)
	}
}

func waitPath(ctx context.Context, path string, want bool) error {
	what := path + " to appear"
	if !want {
		what = path + " to vanish"
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the watch
	changes, err := watchPath(ctx, path)
	if err != nil {
		return fmt.Errorf("cannot wait for %s: %w", what, err)
	}
	return until(ctx, what, changes, secondLook, func(context.Context) (bool, string) {
		_, err := os.Lstat(path)
		if err != nil {
			return !want, err.Error()
		}
		return want, "it is there"
	})
}

// watchPath pokes the channel whenever something changes in a directory on the way to the path. Directories that do
// not exist yet are left to the second look.
func watchPath(ctx context.Context, path string) (<-chan struct{}, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("cannot use inotify: %w", err)
	}
	const events = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE
	for dir := path; dir != "/" && dir != "."; {
		dir = filepath.Dir(dir)
		if _, err := unix.InotifyAddWatch(fd, dir, events); err == nil {
			break
		}
	}
	file := os.NewFile(uintptr(fd), "inotify")
	context.AfterFunc(ctx, func() { file.Close() })
	changes := make(chan struct{}, 1)
	go func() {
		buf := make([]byte, 4096)
		for {
			if _, err := file.Read(buf); err != nil {
				return // closed with the context
			}
			notify(changes)
		}
	}()
	return changes, nil
}

// notify wakes a waiter; one that is awake already looks again anyway.
func notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// waitProcess waits for the end of a process that need not be a child of ours. A zombie has ended.
func waitProcess(ctx context.Context, pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot watch process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	const slice = 100 // ms; poll cannot be woken by a context
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, slice)
		switch {
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("cannot watch process %d: %w", pid, err)
		case n > 0:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("cannot wait any longer for process %d to end: %w", pid, ctx.Err())
		}
	}
}
