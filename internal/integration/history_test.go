//go:build integration

package integration

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/embedded"
	"github.com/dubnium/dubnium/internal/testhost"
)

// eventsOf are the history's lines of one kind.
func eventsOf(t *testing.T, w *embedded.Workstation, kind string) []object {
	t.Helper()
	return linesOf(t, w, "events.jsonl", kind)
}

func linesOf(t *testing.T, w *embedded.Workstation, file, kind string) (lines []object) {
	t.Helper()
	for _, line := range jsonLines(t, readFile(t, filepath.Join(w.Policy.Paths.State, file))) {
		if line.(object)["event"] == kind {
			lines = append(lines, line.(object))
		}
	}
	return lines
}

// TestEveryRequestIsOnRecord: who was refused and why, who was let and by what
// right; and it is there after the daemon was killed in the middle of a line.
func TestEveryRequestIsOnRecord(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{}, nil)
	w.SetAuthorize(answers(testhost.PolkitAnswer{}))
	require.Equal(t, 40, run(t, as(nobody, w.ModectlCommand(bounded(t), "request", "compute", "--reason", "let me"))).code)
	w.SetAuthorize(nil)
	require.Zero(t, run(t, as(nobody, w.ModectlCommand(bounded(t), "request", "studio-local"))).code)

	refused := linesOf(t, w, "refusals.jsonl", "refused")
	if os.Geteuid() == 0 { // else everybody is the one who runs the tests
		require.Len(t, refused, 1)
		assert.Equal(t, []any{"compute", "AccessDenied", "let me", float64(nobody)},
			[]any{refused[0]["mode"], refused[0]["reason"], refused[0]["why"], refused[0]["uid"]})
		accepted := eventsOf(t, w, "request")
		require.Len(t, accepted, 1)
		assert.Equal(t, "polkit org.dubnium.mode1.request-studio-local", accepted[0]["authorization"])
	}
	story := modectl(t, w, "show", "1")
	require.Zero(t, story.code)
	assert.Contains(t, story.stdout, "start-audio-priority done in")
	assert.Equal(t, story.stdout, modectl(t, w, "last-transition").stdout)

	require.NoError(t, w.KillDaemon())
	f, err := os.OpenFile(filepath.Join(w.Policy.Paths.State, "events.jsonl"), os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteString(`{"event":"refused","ti`)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.NoError(t, w.StartDaemon(bounded(t)))
	assert.Equal(t, 22.0, eventsOf(t, w, "cut")[0]["bytes"])
	assert.Len(t, eventsOf(t, w, "start"), 2)
	assert.Equal(t, story.stdout, modectl(t, w, "show", "1").stdout, "as before")
	require.Equal(t, "2", fmt.Sprint(decode[object](t, modectl(t, w, "request", "desktop", "--json").stdout)["id"]))
}

// TestTheHistoryIsFollowed: whoever follows is told of each end.
func TestTheHistoryIsFollowed(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{}, nil)
	require.Zero(t, modectl(t, w, "request", "studio-local").code)
	follower := w.ModectlCommand(bounded(t), "history", "--follow")
	out, err := follower.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, follower.Start())
	lines := bufio.NewScanner(out)
	next := func() string {
		require.True(t, lines.Scan(), lines.Err())
		return lines.Text()
	}
	assert.Contains(t, next(), "desktop -> studio-local  success")
	require.Zero(t, modectl(t, w, "request", "desktop").code)
	assert.Contains(t, next(), "studio-local -> desktop  success")
	require.NoError(t, w.StopDaemon())
	require.Error(t, follower.Wait())
	assert.Equal(t, 41, follower.ProcessState.ExitCode(), "there is nobody to follow")
}
