package daemon

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// instant is the machine at one moment of a transition: what the host is and
// what the daemon has on disk. To die there and start again is to run a new
// engine over a copy of it.
type instant struct {
	host *fakeHost
	dir  string
	when string
}

// routes are the transitions that crashes are tried in; the last of each.
var routes = map[string][]policy.Mode{
	"desktop to studio-local": {"studio-local"},
	"studio-local to desktop": {"studio-local", "desktop"},
	"desktop to compute":      {"compute"},
	"studio-local to compute": {"studio-local", "compute"},
	"compute to desktop":      {"compute", "desktop"},
	"compute to studio-local": {"compute", "studio-local"},
}

// TestCrashAnywhere: the daemon dies before and after everything a hand does, on
// the way there and on the way back, and the next one starts in the same boot.
// The machine ends in the target, where it came from, or in a desktop that
// somebody is logged in to; the outcome is said; nothing is left in the journal;
// and the next request works.
func TestCrashAnywhere(t *testing.T) {
	for name, route := range routes {
		for _, failing := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				instants, origin := film(t, route, failing)
				require.Greater(t, len(instants), 3)
				for _, at := range instants {
					restartAt(t, at, origin, route[len(route)-1])
				}
				t.Logf("%d crashes", len(instants))
			})
		}
	}
}

// film runs a route and keeps every instant of its last transition; failing
// makes that transition's last action fail, so that the way back is filmed too.
func film(t *testing.T, route []policy.Mode, failing bool) (instants []instant, origin observer.State) {
	shelf := t.TempDir()
	onDesktop(t, func(t *testing.T, r *rig) {
		last := len(route) - 1
		for _, mode := range route[:last] {
			require.Equal(t, status.Success, r.request(mode).Result)
		}
		origin = r.View().Observation.State
		r.host.sick = failing
		r.host.fault = func(_ context.Context, when, what string) error {
			at := instant{host: r.host.clone(), dir: filepath.Join(shelf, t.Name(), when, what), when: when + " " + what}
			at.host.sick = failing
			require.NoError(t, copyFiles(at.dir, r.dir))
			instants = append(instants, at)
			if failing && what == "apply start-audio-priority" || failing && what == "apply stop-studio-local-policy" {
				return errBroken
			}
			return nil
		}
		r.request(route[last])
	})
	return instants, origin
}

// copyFiles copies what a crash would leave of the daemon's two directories. The
// engine's loop replaces files meanwhile: each is copied whole, old or new.
func copyFiles(to, from string) error {
	for _, dir := range []string{"run", "state"} {
		entries, err := os.ReadDir(filepath.Join(from, dir))
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Join(to, dir), 0o755); err != nil {
			return err
		}
		for _, e := range entries {
			data, err := os.ReadFile(filepath.Join(from, dir, e.Name()))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err := errors.Join(err, os.WriteFile(filepath.Join(to, dir, e.Name()), data, 0o644)); err != nil {
				return err
			}
		}
	}
	return nil
}

func restartAt(t *testing.T, at instant, origin observer.State, to policy.Mode) {
	synctest.Test(t, func(t *testing.T) {
		r := startRig(t, at.host, at.dir, thisBoot)
		defer r.stop()
		v := r.settle()
		require.NotNil(t, v.Last)
		assert.Equal(t, status.Interrupted, v.Last.Result, "%s: %s", at.when, v.Last.Cause)
		assert.Contains(t, []observer.State{
			origin, "degraded-" + origin, observer.Of(to), "desktop", "degraded-desktop",
		}, v.Last.Final, "%s: %s", at.when, v.Last.Cause)
		assert.NoFileExists(t, filepath.Join(at.dir, "state", "transition.json"), at.when)
		if _, err := policy.ParseMode(string(v.Observation.State)); err == nil {
			assert.Equal(t, v.Last.Final, v.Observation.State, "%s: what is claimed is what was found", at.when)
			r.host.requireAs(t, policy.Mode(v.Observation.State), at.when)
		}
		r.host.sick = false
		record := r.request(policy.Desktop)
		assert.True(t, record.Result.Reached(), "%s: %s %s", at.when, record.Result, record.Cause)
		r.host.requireAs(t, policy.Desktop, at.when)
	})
}

// TestRebootInTheMiddle: nothing is done to another boot's host for a journal of
// this one.
func TestRebootInTheMiddle(t *testing.T) {
	instants, _ := film(t, routes["desktop to compute"], false)
	for _, at := range instants {
		synctest.Test(t, func(t *testing.T) {
			host := newFakeHost(testPolicy(at.dir))
			r := startRig(t, host, at.dir, "boot-2")
			defer r.stop()
			v := r.settle()
			require.NotNil(t, v.Last, at.when)
			assert.Equal(t, status.Interrupted, v.Last.Result)
			assert.Contains(t, v.Last.Cause, "the machine restarted")
			assert.Empty(t, host.applied, at.when)
			assert.Equal(t, observer.State("desktop"), v.Observation.State, "the wish died with its boot")
		})
	}
}

// TestStopInTheMiddle: SIGTERM is no failure of a step. The daemon stops without
// taking anything back, and the next one recovers.
func TestStopInTheMiddle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		host := newFakeHost(testPolicy(dir))
		r := startRig(t, host, dir, thisBoot)
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
		assert.NotContains(t, host.applied, "undo end-sessions")
		assert.FileExists(t, filepath.Join(dir, "state", "transition.json"))

		host.fault = nil
		r = startRig(t, host, dir, thisBoot)
		defer r.stop()
		v := r.settle()
		assert.Equal(t, status.Interrupted, v.Last.Result)
		assert.Equal(t, observer.State("desktop"), v.Last.Final)
		assert.Equal(t, observer.FailedTransition, v.Observation.State)
	})
}

func TestAJournalFromElsewhereIsNotActedUpon(t *testing.T) {
	cases := map[string]string{
		"another format":      `{"format":2}`,
		"an unknown kind":     `{"format":1,"record":{"steps":[{}]},"steps":[{"id":"x","kind":"format-disk"}],"before":[null]}`,
		"steps without notes": `{"format":1,"record":{"steps":[{}]},"steps":[{"id":"x","kind":"stop-unit"}],"before":[]}`,
		"no JSON":             `{`,
	}
	for name, content := range cases {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			p := testPolicy(dir)
			require.NoError(t, os.MkdirAll(p.Paths.State, 0o755))
			require.NoError(t, os.MkdirAll(p.Paths.Runtime, 0o755))
			require.NoError(t, os.WriteFile(newJournal(p.Paths.State).path, []byte(content), 0o600))
			_, err := New(Config{Policy: policy.Document{Policy: p}, Eyes: NewEyes(0, nil), BootID: thisBoot})
			require.Error(t, err)
			assert.Contains(t, err.Error(), "journal")
		})
	}
}
