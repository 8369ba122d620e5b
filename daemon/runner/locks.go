package runner

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/dubnium/dubnium/internal/atomicfile"
)

// locks are held while a transition runs.
type locks struct {
	runtime string // the runtime directory
	log     *zap.Logger
	held    []func() error
}

// take takes the lock that tells root's scripts that a transition runs, and writes the
// daemon's pid beside it for everybody. Whoever may open a file may lock it, so only root
// may open this one: otherwise anybody could keep the daemon from working. Errors:
// somebody else holds the lock.
func (l *locks) take() error {
	path := filepath.Join(l.runtime, "lock")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("cannot open the lock: %w", err)
	}
	if err := file.Chmod(0o600); err != nil { // an older daemon made it readable
		return errors.Join(fmt.Errorf("cannot close the lock to others: %w", err), file.Close())
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return errors.Join(fmt.Errorf("cannot lock %s, somebody else holds it: %w", path, err), file.Close())
	}
	pid := filepath.Join(l.runtime, "reconcile.pid")
	if err := atomicfile.Write(pid, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o644); err != nil {
		return errors.Join(err, file.Close())
	}
	l.held = append(l.held, func() error { return errors.Join(atomicfile.Remove(pid), file.Close()) })
	return nil
}

// takeRebuild shares the lock that nixos-rebuild takes exclusively, so that no
// configuration is switched to while a transition runs. A host without the file has none
// to switch to. If one is being switched to now, a guard blocks the transition: nobody
// waits for it here.
func (l *locks) takeRebuild(path string) {
	release, err := shareLock(path)
	if err != nil {
		l.log.Warn("a nixos-rebuild is not kept from running", zap.Error(err))
		return
	}
	l.held = append(l.held, release)
}

func shareLock(path string) (release func() error, err error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return func() error { return nil }, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open the lock of nixos-rebuild: %w", err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot share the lock %s of nixos-rebuild: %w", path, err), file.Close())
	}
	return file.Close, nil
}

func (l *locks) release() {
	for _, release := range l.held {
		if err := release(); err != nil {
			l.log.Error("cannot release a lock", zap.Error(err))
		}
	}
	l.held = nil
}
