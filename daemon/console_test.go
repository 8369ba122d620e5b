package daemon

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/policy"
)

// shown is what the consoles show, empty for nothing.
func (r *harness) shown() string {
	r.t.Helper()
	data, err := os.ReadFile(filepath.Join(r.dir, "issue.d", "dubnium.issue"))
	if os.IsNotExist(err) {
		return ""
	}
	require.NoError(r.t, err)
	return string(data)
}

func TestConsolesShowWayBack(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		reload := filepath.Join(r.dir, "agetty.reload")
		require.NoError(t, os.WriteFile(reload, nil, 0o600))
		old := time.Unix(1, 0)
		touched := func() bool {
			info, err := os.Stat(reload)
			require.NoError(t, err)
			was := !info.ModTime().Equal(old)
			require.NoError(t, os.Chtimes(reload, old, old))
			return was
		}
		touched()
		assert.Empty(t, r.shown())
		r.leased(policy.StudioLocal, status.Terms{For: time.Hour})
		assert.Empty(t, r.shown(), "somebody sits at the screen")
		assert.False(t, touched())

		r.leased(policy.Compute, status.Terms{For: 4 * time.Hour, Confirm: 5 * time.Minute})
		v := r.View()
		assert.Equal(t, "This machine is in compute since "+consoleTime(v.ObservedSince)+
			"; back: log in and run: modectl request studio-local\n"+
			"It goes back to studio-local at "+consoleTime(v.Lease.ConfirmBy)+", unless somebody runs: modectl confirm 2\n"+
			"It goes back to studio-local at "+consoleTime(v.Lease.Until)+", by itself.\n", r.shown())
		assert.True(t, touched())
		_, err := r.Observe(t.Context())
		require.NoError(t, err)
		synctest.Wait()
		assert.False(t, touched(), "what has not changed is not shown anew")

		require.NoError(t, r.Confirm(t.Context(), 2, status.Confirmation{By: "test"}))
		assert.NotContains(t, r.shown(), "confirm")
		assert.True(t, touched())
		require.Equal(t, status.Success, r.request(policy.Desktop).Result)
		synctest.Wait()
		assert.Empty(t, r.shown())
		assert.True(t, touched())
	})
}

func consoleTime(t time.Time) string { return t.Format("2006-01-02 15:04:05 MST") }

// With the event that compute is reached, the view and the consoles have when it ends.
func TestEndWithLease(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		var shown string
		var published *status.Lease
		r.seen.also = func(e status.Event) {
			if e.Finished != nil {
				shown, published = r.shown(), r.View().Lease
			}
		}
		r.leased(policy.Compute, status.Terms{Confirm: 5 * time.Minute})
		assert.Contains(t, shown, "unless somebody runs: modectl confirm ")
		require.NotNil(t, published)
		assert.Equal(t, r.View().Lease.ConfirmBy, published.ConfirmBy)
		assert.False(t, published.ConfirmBy.IsZero())
	})
}

// A place that cannot be written is a warning, and no end of the daemon or of a
// transition; it is written when that is possible again.
func TestConsolesUnwritable(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		dir := filepath.Join(r.dir, "issue.d")
		require.NoError(t, os.WriteFile(dir, nil, 0o644))
		require.Equal(t, status.Success, r.request(policy.Compute).Result)
		synctest.Wait()
		warnings := r.View().Warnings
		require.Len(t, warnings, 1)
		assert.Equal(t, status.WarnConsole, warnings[0].Code)
		assert.Contains(t, warnings[0].Text, dir)
		require.NoError(t, os.Remove(dir))
		v := r.advance(time.Minute + time.Second)
		assert.Empty(t, v.Warnings)
		assert.Contains(t, r.shown(), "This machine is in compute")
	})
}

// The line that a daemon left holds until the next daemon has read the host.
func TestConsolesAfterRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		host := newFakeHost(testPolicy(dir))
		r := startHarness(t, host, dir, thisBoot)
		r.settle()
		require.Equal(t, status.Success, r.request(policy.Compute).Result)
		synctest.Wait()
		require.NotEmpty(t, r.shown())
		r.stop()
		host.change(func() {
			host.stop("compute.target")
			host.isolate("desktop.target")
			host.start("display-manager.service")
		})
		r = startHarness(t, host, dir, thisBoot)
		defer r.stop()
		r.settle()
		synctest.Wait()
		assert.Empty(t, r.shown())
	})
}
