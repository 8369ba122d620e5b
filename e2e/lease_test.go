//go:build e2e

package e2e

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const issue = "/run/issue.d/dubnium.issue"

// TestComputeEndsADeafSessionAndEndsByItself: the hook runs as alice where her
// compositor and her bus are, before anything is taken from her, and whatever comes of
// it the session ends. Nobody confirms compute, so it ends too. What the consoles show
// is asked of agetty, which has no reason to look in our file but what `make install`
// installed.
func TestComputeEndsADeafSessionAndEndsByItself(t *testing.T) {
	w := onDesktop(t)
	w.asksBy(`{ id -un; systemctl is-active greetd.service; test -S "$XDG_RUNTIME_DIR/$WAYLAND_DISPLAY" && echo compositor
		systemctl --user is-active basic.target; env; } > /var/tmp/hook.out`)
	deaf := w.deaf()
	compositor := w.CompositorPID(w.ctx)
	w.audioKnown()
	w.sh("test ! -e " + issue)
	before := w.sh("stat -c %y /run/agetty.reload")
	out, code := w.modectl("request compute --confirm 20s")
	require.Zero(t, code, out)
	assert.Contains(t, out, "unless confirmed within 20s: modectl confirm ")
	shown := w.sh(`systemctl is-active compute.target; script -qec 'agetty --show-issue' /dev/null </dev/null`)
	assert.Contains(t, shown, "active")
	assert.Contains(t, shown, "This machine is in compute since ")
	assert.Contains(t, shown, "back: log in and run: modectl request desktop")
	assert.Contains(t, shown, "unless somebody runs: modectl confirm ")
	assert.NotEqual(t, before, w.sh("stat -c %y /run/agetty.reload"), "consoles that wait for a login show it anew")
	w.WaitProcessEnd(w.ctx, deaf)
	w.WaitProcessEnd(w.ctx, compositor)
	w.requireCompute()
	w.askedAsTheirPerson(w.sh("cat /var/tmp/hook.out"))

	w.becomes("desktop")
	w.WaitGone(w.ctx, issue)
	w.requireDesktop()
	assert.Equal(t, "success", w.last().Result)
	assert.Equal(t, "1", w.sh(`grep -c '"origin": "lease"' /run/mode-controller/last-transition.json`))
	assert.Equal(t, "desktop", w.sh("modectl desired"))
	assert.NotContains(t, w.sh("script -qec 'agetty --show-issue' /dev/null </dev/null"), "This machine is")
	assert.NotContains(t, w.sh("modectl status"), "console-not-written")
}
