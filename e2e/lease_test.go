//go:build e2e

package e2e

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const issue = "/run/issue.d/dubnium.issue"

// TestALeaseEndsByItselfAndTheConsolesTellOfIt: compute that nobody confirms. What
// the consoles show is asked of agetty, which has no reason to look in our file but
// what `make install` installed.
func TestALeaseEndsByItselfAndTheConsolesTellOfIt(t *testing.T) {
	w := onDesktop(t)
	w.audioKnown()
	w.sh("test ! -e " + issue)
	before := w.sh("stat -c %y /run/agetty.reload")
	out, code := w.modectl("request compute --confirm 10s")
	require.Zero(t, code, out)
	assert.Contains(t, out, "unless it is confirmed within 10s: modectl confirm ")
	shown := w.sh(`systemctl is-active compute.target; script -qec 'agetty --show-issue' /dev/null </dev/null`)
	assert.Contains(t, shown, "active")
	assert.Contains(t, shown, "This machine is in compute since ")
	assert.Contains(t, shown, "back: log in and run: modectl request desktop")
	assert.Contains(t, shown, "unless somebody runs: modectl confirm ")
	assert.NotEqual(t, before, w.sh("stat -c %y /run/agetty.reload"), "consoles that wait for a login show it anew")

	w.becomes("desktop")
	w.WaitGone(w.ctx, issue)
	w.requireDesktop()
	assert.Equal(t, "success", w.last().Result)
	assert.Equal(t, "1", w.sh(`grep -c '"origin": "lease"' /run/mode-controller/last-transition.json`))
	assert.Equal(t, "desktop", w.sh("modectl desired"))
	assert.NotContains(t, w.sh("script -qec 'agetty --show-issue' /dev/null </dev/null"), "This machine is")
	assert.NotContains(t, w.sh("modectl status"), "console-not-written")
}
