package daemon

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/daemon/monitor"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// routes are the transitions that failures are tried in; the last of each.
var routes = map[string][]policy.Mode{
	"desktop to studio-local": {"studio-local"},
	"studio-local to desktop": {"studio-local", "desktop"},
	"desktop to compute":      {"compute"},
	"studio-local to compute": {"studio-local", "compute"},
	"compute to desktop":      {"compute", "desktop"},
	"compute to studio-local": {"compute", "studio-local"},
}

// stopIsolating runs a daemon on the host, and stops it in the middle of the isolate of
// compute.
func stopIsolating(t *testing.T, host *fakeHost, dir string) {
	r := startHarness(t, host, dir, thisBoot)
	r.settle()
	host.fault = func(ctx context.Context, when, what string) error {
		if what == "apply isolate-compute" && when == "before" {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
	_, err := r.Request(t.Context(), status.Request{Mode: policy.Compute, UID: 1000})
	require.NoError(t, err)
	synctest.Wait()
	r.stop()
}

// TestStopInTheMiddle: SIGTERM is no failure of a step. The daemon stops without
// taking anything back, and the next one recovers.
func TestStopInTheMiddle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		host := newFakeHost(testPolicy(dir))
		stopIsolating(t, host, dir)
		assert.NotContains(t, host.appliedSteps(), "undo end-sessions")
		assert.FileExists(t, filepath.Join(dir, "state", "transition.json"))

		host.fault = nil
		r := startHarness(t, host, dir, thisBoot)
		defer r.stop()
		v := r.settle()
		assert.Equal(t, status.Interrupted, v.Last.Result)
		assert.Equal(t, observer.State("desktop"), v.Last.Final)
		assert.Equal(t, observer.FailedTransition, v.Observation.State)
	})
}

// A script of root's took the lock in the moment in which the daemon was away. The next
// daemon waits for it, says so, and then recovers.
func TestRecoveryWaitsForLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		host := newFakeHost(testPolicy(dir))
		stopIsolating(t, host, dir)
		unlock, err := holdLock(dir)
		require.NoError(t, err)
		applied := host.appliedSteps()

		host.fault = nil
		r := startHarness(t, host, dir, thisBoot)
		time.Sleep(time.Hour)
		running := r.View().Running
		require.NotNil(t, running)
		assert.Equal(t, status.PhaseRecovering, running.Phase)
		assert.Contains(t, running.Progress, "somebody else holds it")
		assert.False(t, running.Cancellable)
		assert.Equal(t, applied, host.appliedSteps(), "nothing is undone without the lock")
		r.stop() // a stop ends the wait, and leaves the journal
		assert.FileExists(t, filepath.Join(dir, "state", "transition.json"))

		r = startHarness(t, host, dir, thisBoot)
		defer r.stop()
		time.Sleep(time.Minute)
		require.NoError(t, unlock())
		v := r.settle()
		assert.Equal(t, status.Interrupted, v.Last.Result)
		assert.Equal(t, observer.State("desktop"), v.Last.Final)
		assert.NotEqual(t, applied, host.appliedSteps())
		assert.NoFileExists(t, filepath.Join(dir, "state", "transition.json"))
	})
}

// A machine that was restarted in the middle comes up as any other does: the boot rule
// holds, although the last transition was interrupted.
func TestRebootInTheMiddle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		host := newFakeHost(testPolicy(dir))
		stopIsolating(t, host, dir)

		host = newFakeHost(testPolicy(dir))
		host.stop("desktop.target")
		host.now.Systemd.State = "starting"
		r := startHarness(t, host, dir, "boot-2")
		defer r.stop()
		synctest.Wait()
		last := r.View().Last
		assert.Equal(t, status.Interrupted, last.Result)
		assert.True(t, last.Restarted)
		host.change(func() { host.now.Systemd.State = "running" })
		synctest.Wait()
		v := r.settle()
		assert.Equal(t, observer.State("desktop"), v.Observation.State)
		assert.Equal(t, status.OriginBoot, v.Last.Origin)
		assert.Equal(t, []string{"apply start-desktop"}, host.appliedSteps())
	})
}

func TestForeignJournal(t *testing.T) {
	cases := map[string]string{
		"another format": `{"format":2}`,
		"an unknown kind": `{"format":1,"record":{"steps":[{}]},"steps":[{"id":"x","kind":"format-disk"}],` +
			`"before":[null]}`,
		"steps without notes": `{"format":1,"record":{"steps":[{}]},"steps":[{"id":"x","kind":"stop-unit"}],"before":[]}`,
		"no JSON":             `{`,
	}
	for name, content := range cases {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			p := testPolicy(dir)
			require.NoError(t, os.MkdirAll(p.Paths.State, 0o755))
			require.NoError(t, os.MkdirAll(p.Paths.Runtime, 0o755))
			require.NoError(t, os.WriteFile(filepath.Join(p.Paths.State, "transition.json"), []byte(content), 0o600))
			_, err := New(Config{Policy: policy.Document{Policy: p}, Monitor: monitor.New(0, nil), BootID: thisBoot})
			require.Error(t, err)
			assert.Contains(t, err.Error(), "journal")
		})
	}
}
