package daemon

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// rebuild takes the lock as switch-to-configuration does: for itself alone, and
// without waiting.
func rebuild(t *testing.T, r *harness) (end func() error, err error) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(r.dir, "rebuild.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return f.Close, unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
}

func TestRebuildLockHeld(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		end, err := rebuild(t, r) // nobody has it
		require.NoError(t, err)
		require.NoError(t, end())
		tried := 0
		r.host.fault = func(_ context.Context, when, what string) error {
			if when == "before" {
				tried++
				_, err := rebuild(t, r)
				assert.ErrorIs(t, err, unix.EWOULDBLOCK, what)
			}
			return nil
		}
		require.Equal(t, status.Success, r.request(policy.Compute).Result)
		require.NotZero(t, tried)
		_, err = rebuild(t, r)
		assert.NoError(t, err, "the share is given back")
	})
}

func TestRebuildRunning(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		end, err := rebuild(t, r)
		require.NoError(t, err)
		r.host.change(func() {
			r.host.now.Locks.Rebuild = observer.Lock{Path: "/run/nixos/switch-to-configuration.lock", Held: true, PID: 4711}
		})
		record := r.request(policy.Compute)
		assert.Equal(t, status.Blocked, record.Result)
		assert.Contains(t, record.Cause, "pid 4711 holds /run/nixos/switch-to-configuration.lock")
		assert.Empty(t, r.applied())
		require.NoError(t, end())
		r.host.change(func() { r.host.now.Locks.Rebuild.Held = false })
		assert.Equal(t, status.Success, r.request(policy.Compute).Result)
	})
}

func TestLockHolderPublished(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		unlock, err := holdLock(r.dir)
		require.NoError(t, err)
		info, err := os.Stat(filepath.Join(r.dir, "run", "lock"))
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o600), info.Mode().Perm(), "whoever can open it can lock it")
		r.host.change(func() { r.host.now.Locks.Transition = observer.Lock{Held: true, PID: 4711} })
		record := r.request(policy.Compute)
		assert.Equal(t, status.Failed, record.Result)
		assert.Contains(t, record.Cause, "somebody else holds it: resource temporarily unavailable (pid 4711)")
		require.NoError(t, unlock())
	})
}

// holdLock takes the lock of transitions as a script of root would.
func holdLock(dir string) (unlock func() error, err error) {
	file, err := os.OpenFile(filepath.Join(dir, "run", "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file.Close, nil
}
