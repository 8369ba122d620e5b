package daemon

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

const game = "secretgame (pid 77, game.service)"

// hold puts a program of bob's on the display GPU, which outlives every session.
func (h *fakeHost) hold() {
	h.change(func() {
		h.now.Processes.Holders = append(h.now.Processes.Holders,
			observer.Holder{GPU: displayGPU, PID: 77, Command: "secretgame", UID: 1001, Unit: "game.service"})
	})
}

// requirePublic fails when anything that everybody may read tells of the game.
func (r *harness) requirePublic(t *testing.T) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(r.dir, "run", "*"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		assert.NotContains(t, string(data), "secretgame", file)
	}
}

func TestTheFilesThatEverybodyReadsTellOfNobodysProcesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		host := newFakeHost(testPolicy(dir))
		r := startHarness(t, host, dir, thisBoot)
		r.settle()
		host.fault = func(_ context.Context, when, what string) error {
			if when == "after" && what == "apply end-sessions" {
				host.hold()
			}
			return nil
		}
		// The gate waits in vain, and says for whom.
		record := r.request(policy.Compute)
		require.Equal(t, status.RolledBack, record.Result, record.Cause)
		require.Contains(t, record.Cause, game)
		require.True(
			t, slices.ContainsFunc(record.Steps, func(s status.Step) bool { return strings.Contains(s.Error, game) }),
		)
		host.fault = nil
		r.requirePublic(t)
		assert.Contains(t, word(t, r, "last-transition.json"), "a process of uid 1001")
		assert.NotContains(t, r.View().Public().Last.Cause, "secretgame")

		// A compute that somebody got into is no compute, and says why.
		host.change(func() { host.endSessions(); host.isolate("compute.target") })
		host.hold()
		require.Contains(t, r.settle().Observation.Reasons[0].Text, game)
		r.requirePublic(t)
		assert.Contains(t, word(t, r, "current.json"), "a process of uid 1001")
		for _, e := range r.seen.all() {
			if c := e.Public().StateChanged; c != nil && len(c.Reasons) > 0 {
				assert.NotContains(t, c.Reasons[0].Text, "secretgame")
			}
		}
		r.stop()

		// Root reads it whole, after a restart as before.
		r = startHarness(t, host.clone(), dir, thisBoot)
		defer r.stop()
		assert.Equal(t, record.Cause, r.View().Last.Cause)
		history, _, err := r.History(t.Context(), status.Filter{Limit: 1})
		require.NoError(t, err)
		assert.Contains(t, history[0].Cause, game)
		assert.NotContains(t, history[0].For(observer.Nobody).Cause, "secretgame")
	})
}

// A process that was not looked through may hold the display GPU. One that ends with
// the session is no longer there at the gate.
func TestTheGateWaitsForWhoWasNotLookedThrough(t *testing.T) {
	for name, stays := range map[string]bool{"it ends with the session": false, "it stays": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				host := newFakeHost(testPolicy(dir))
				host.change(func() {
					host.now.Processes.Unseen = []observer.Unseen{
						{Process: observer.Process{PID: 78, Command: "secretgame", UID: 1001, Session: "2"}},
					}
				})
				host.fault = func(_ context.Context, when, what string) error {
					if when == "after" && what == "apply end-sessions" && !stays {
						host.change(func() { host.now.Processes.Unseen = nil })
					}
					return nil
				}
				r := startHarness(t, host, dir, thisBoot)
				defer r.stop()
				r.settle()
				require.Equal(t, observer.Of(policy.Desktop), r.View().Observation.State)
				record := r.request(policy.Compute)
				if !stays {
					require.Equal(t, status.Success, record.Result, record.Cause)
					return
				}
				require.Equal(t, status.RolledBack, record.Result, record.Cause)
				require.Contains(t, record.Cause, "secretgame (pid 78, uid 1001) has too many open files")
				r.requirePublic(t)
				assert.Contains(t, word(t, r, "last-transition.json"), "a process of uid 1001 has too many open files")
			})
		})
	}
}
