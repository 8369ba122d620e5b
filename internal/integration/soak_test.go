//go:build integration && soak

package integration

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/internal/embedded"
	"github.com/dubnium/dubnium/internal/testhost"
)

// What these measure is a minute of the daemon's life, so that they take one.
const minute = time.Minute

var voluntary = regexp.MustCompile(`(?m)^voluntary_ctxt_switches:\s+(\d+)$`)

// slept counts how often the daemon's threads went to sleep, all together.
func slept(t *testing.T, w *embedded.Workstation) (switches int) {
	t.Helper()
	tasks, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(w.DaemonPID()), "task", "*", "status"))
	require.NoError(t, err)
	require.NotEmpty(t, tasks)
	for _, task := range tasks {
		content, err := os.ReadFile(task)
		require.NoError(t, err)
		found := voluntary.FindSubmatch(content)
		require.NotNil(t, found, "%s", content)
		n, err := strconv.Atoi(string(found[1]))
		require.NoError(t, err)
		switches += n
	}
	return switches
}

// On a desktop nothing wakes the daemon: no poll, no timer. (Under systemd its
// watchdog does, which does not run here.)
func TestAnIdleDaemonSleeps(t *testing.T) {
	w := start(t, testhost.Options{}, nil)
	<-time.After(10 * time.Second) // for what the start left to do
	before := slept(t, w)
	<-time.After(minute)
	switches, used := slept(t, w)-before, resident(t, w)
	t.Logf("%d voluntary context switches in a minute, %d KiB resident", switches, used)
	require.LessOrEqual(t, switches, 5)
	require.Less(t, used, 16<<10, "KiB: the limit of docs/decisions/0013-small-daemon.md")
}

// An unprivileged user sends 10,000 signals a second for a minute.
func TestAMinuteOfForgedSignalsLeavesMemoryFlat(t *testing.T) {
	w := start(t, testhost.Options{}, nil)
	c, f := watch(t, w), newForger(t, w)
	f.rage(t, w, c, 1) // what it takes to know a storm at all
	before := resident(t, w)
	sent, end := 0, time.Now().Add(minute)
	for time.Now().Before(end) {
		began := time.Now()
		f.rage(t, w, c, 1)
		c.quiet(t)
		sent += storm
		if rest := time.Second - time.Since(began); rest > 0 {
			<-time.After(rest)
		}
	}
	after := resident(t, w)
	t.Logf("%d signals in a minute: %d KiB before, %d KiB after", sent, before, after)
	require.Less(t, after, before+4<<10)

	require.NoError(t, w.SetActive("vllm.service", "active"))
	c.await(t, "a real change is seen", func(e status.Event) bool {
		return e.StateChanged != nil && e.StateChanged.New == "degraded-desktop"
	})
}
