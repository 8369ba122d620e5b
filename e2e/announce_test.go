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

// TestPeopleAreWarnedAndCanSayNo: by what is for everybody, and by an inhibitor.
func TestPeopleAreWarnedAndCanSayNo(t *testing.T) {
	w := onDesktop(t)
	w.audioKnown()
	compositor := w.CompositorPID(w.ctx)
	const announced = `[ "$(busctl --json=short get-property org.dubnium.Mode1 /org/dubnium/Mode1 org.dubnium.Mode1 Transition | grep -c '"announced"')" = 1 ]`

	request := w.Start(w.ctx, "exec modectl request compute --grace 10m")
	w.WaitFor(w.ctx, "the announcement", announced)
	out, code := w.Sh(w.ctx, `runuser -u alice -- modectl postpone 5m && runuser -u alice -- modectl cancel --no-ask-password`)
	assert.Equal(t, 40, code, "alice may put it off, and did not ask for it: %s", out)
	w.sh("modectl cancel")
	code, err := request.Wait(w.ctx)
	require.NoError(t, err)
	assert.Equal(t, 43, code)
	w.unharmed(compositor)
	assert.Equal(t, "desktop", w.sh("modectl desired"))

	holder := w.Start(w.ctx, "exec modectl inhibit --who backup --why 'a snapshot' -- sleep infinity")
	w.WaitFor(w.ctx, "the inhibitor", "modectl inhibit --list | grep -q backup")
	out, code = w.modectl("request compute")
	require.Equal(t, 13, code, out)
	assert.Contains(t, out, "backup (uid 0) blocks it: a snapshot")
	w.unharmed(compositor)
	require.NoError(t, holder.Kill(w.ctx))
	w.WaitFor(w.ctx, "the bus to tell of it", "modectl inhibit --list | grep -q nobody")
	w.verdict("check_no_inhibitor", 0)
}
