//go:build integration

package integration

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/internal/embedded"
	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/policy"
)

// holding runs modectl inhibit over a command that lasts until the returned
// function is called, and returns once it is held.
func holding(t *testing.T, w *embedded.Workstation, args ...string) (cmd *exec.Cmd, release func()) {
	t.Helper()
	fifo := filepath.Join(t.TempDir(), "until")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	args = append(
		append([]string{"inhibit", "--who", "backup", "--why", "a snapshot"}, args...), "--", "sh", "-c",
		"read word < "+fifo+" && exit 7",
	)
	cmd = w.ModectlCommand(bounded(t), args...)
	cmd.Stderr = t.Output()
	c := watch(t, w)
	require.NoError(t, cmd.Start())
	c.until(t, "the inhibitor is held", func(v status.View) bool { return len(v.Inhibitors) == 1 })
	writer, err := os.OpenFile(fifo, os.O_RDWR, 0) // for writing alone it would wait for a reader
	require.NoError(t, err)
	return cmd, func() {
		_, err := writer.WriteString("go\n")
		require.NoError(t, err)
		require.NoError(t, writer.Close())
	}
}

func TestAnInhibitorLastsAsLongAsItsCommand(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{}, nil)
	cmd, release := holding(t, w, "--mode", "compute")
	require.Contains(
		t, modectl(t, w, "inhibit", "--list").stdout, "backup (uid 0) blocks transitions to compute: a snapshot; since ",
	)
	require.Contains(t, modectl(t, w, "status").stdout, "backup (uid 0) blocks")
	a := modectl(t, w, "request", "compute")
	require.Equal(t, 13, a.code)
	require.Contains(t, a.stdout, "modectl inhibit --list")
	require.Equal(t, 13, modectl(t, w, "guards", "compute").code)
	requireHost(t, w, policy.Desktop)
	reach(t, w, policy.StudioLocal)

	release()
	require.ErrorContains(t, cmd.Wait(), "exit status 7", "the command's own")
	require.Equal(t, "no inhibitors\n", modectl(t, w, "inhibit", "--list").stdout)
	reach(t, w, policy.Compute)
}

func TestAHolderThatIsKilledHoldsNothing(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{}, nil)
	cmd, release := holding(t, w)
	c := watch(t, w)
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	c.until(t, "the inhibitor is gone", func(v status.View) bool { return len(v.Inhibitors) == 0 })
	require.Equal(t, "no inhibitors\n", modectl(t, w, "inhibit", "--list").stdout)
	reach(t, w, policy.Compute)
	release()
}

// The daemon forgets who held what; who still holds it says so again.
func TestAnInhibitorOutlivesTheDaemon(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{}, nil)
	_, release := holding(t, w)
	defer release()
	require.NoError(t, w.KillDaemon())
	require.NoError(t, w.StartDaemon(bounded(t)))
	watch(t, w).until(t, "it is held again", func(v status.View) bool { return len(v.Inhibitors) == 1 })
	require.Equal(t, 13, modectl(t, w, "request", "compute").code)
}

// awaitPrepare waits for the next announcement.
func (c *watcher) awaitPrepare(t *testing.T) status.Prepare {
	t.Helper()
	return *c.await(t, "an announcement", func(e status.Event) bool { return e.Prepare != nil }).Prepare
}

func TestAnAnnouncedTransitionIsPutOffAndCanceled(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{}, nil)
	c := watch(t, w)
	request := w.ModectlCommand(bounded(t), "request", "compute", "--grace", "1h", "--json")
	var said strings.Builder
	request.Stdout, request.Stderr = &said, t.Output()
	require.NoError(t, request.Start())
	require.True(t, c.awaitPrepare(t).Begin)
	require.Contains(t, modectl(t, w, "status").stdout, "announced, starts by")

	put := run(t, as(alice, w.ModectlCommand(bounded(t), "postpone", "5m")))
	require.Zero(t, put.code, put.stderr)
	require.Equal(t, 40, run(t, as(nobody, w.ModectlCommand(bounded(t), "postpone", "5m"))).code)

	require.Contains(t, modectl(t, w, "cancel").stdout, "is canceled")
	require.ErrorContains(t, request.Wait(), "exit status 43")
	var record struct{ Result, Cause string }
	require.NoError(t, json.Unmarshal([]byte(said.String()), &record))
	require.Equal(t, "canceled", record.Result)
	require.Equal(t, "canceled by uid 0 (root)", record.Cause)
	require.False(t, c.awaitPrepare(t).Begin)
	require.Equal(t, "desktop\n", modectl(t, w, "desired").stdout, "as it was before")
	requireHost(t, w, policy.Desktop)
	require.Equal(t, 30, modectl(t, w, "cancel").code, "there is nothing to cancel")
}

// A person who is warned and says no: what the delay is for.
func TestADelayGivesTimeToSayNo(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{}, func(p *policy.Policy) { p.Announce.MaxDelay = policy.Duration(time.Hour) })
	_, release := holding(t, w, "--how", "delay")
	c := watch(t, w)
	request := w.ModectlCommand(bounded(t), "request", "compute")
	request.Stderr = t.Output()
	require.NoError(t, request.Start())
	c.awaitPrepare(t)
	require.Contains(t, modectl(t, w, "status").stdout, "announced, starts by")
	requireHost(t, w, policy.Desktop)
	release()
	require.NoError(t, request.Wait())
	requireHost(t, w, policy.Compute)
}
