//go:build e2e

package e2e

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// unharmed: nobody has lost anything.
func (w *workstation) unharmed(compositor int) {
	w.t.Helper()
	assert.Equal(w.t, compositor, w.CompositorPID(w.ctx))
	assert.Equal(w.t, "active", w.sh("systemctl is-active greetd.service"))
	assert.Equal(w.t, "desktop", w.current())
}

// TestWhatSaysNoKeepsTheDesktop: people, by what is for everybody and by an inhibitor,
// and what they play.
func TestWhatSaysNoKeepsTheDesktop(t *testing.T) {
	w := onDesktop(t)
	w.audioKnown()
	compositor := w.CompositorPID(w.ctx)
	w.part("a warning can be answered", func(w *workstation) {
		const announced = `[ "$(busctl --json=short get-property org.dubnium.Mode1 /org/dubnium/Mode1 org.dubnium.Mode1 Transition | grep -c '"announced"')" = 1 ]`
		request := w.Start(w.ctx, "exec modectl request compute --grace 10m")
		w.WaitFor(w.ctx, "the announcement", announced)
		out, code := w.Sh(w.ctx, `runuser -u alice -- modectl postpone 5m && runuser -u alice -- modectl cancel --no-ask-password`)
		assert.Equal(w.t, 40, code, "alice may put it off, and did not ask for it: %s", out)
		w.sh("modectl cancel")
		code, err := request.Wait(w.ctx)
		require.NoError(w.t, err)
		assert.Equal(w.t, 43, code)
		w.unharmed(compositor)
		assert.Equal(w.t, "desktop", w.sh("modectl desired"))
	})
	w.part("an inhibitor", func(w *workstation) {
		holder := w.Start(w.ctx, "exec modectl inhibit --who backup --why 'a snapshot' -- sleep infinity")
		w.WaitFor(w.ctx, "the inhibitor", "modectl inhibit --list | grep -q backup")
		out, code := w.modectl("request compute")
		require.Equal(w.t, 13, code, out)
		assert.Contains(w.t, out, "backup (uid 0) blocks it: a snapshot")
		w.unharmed(compositor)
		require.NoError(w.t, holder.Kill(w.ctx))
		w.WaitFor(w.ctx, "the bus to tell of it", "modectl inhibit --list | grep -q 'no inhibitors'")
		w.verdict("check_no_inhibitor", 0)
	})
	w.part("music", func(w *workstation) {
		p := w.start("pw-cat -p " + w.silence())
		w.playing("playback of pw-cat")
		w.blocked("check_audio_idle", 10, "playback of pw-cat (uid 1000)")
		require.NoError(w.t, p.Kill(w.ctx))
		w.silent()
		w.verdict("check_audio_idle", 0)
	})
}
