//go:build e2e

package e2e

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/dubnium/dubnium/e2e/bed"
)

// asksBy makes a script the hook by which sessions are asked to end.
func (w *workstation) asksBy(script string) {
	w.t.Helper()
	w.PutBytes(w.ctx, []byte("#!/bin/sh\n"+script+"\n"), "/usr/local/bin/end-hook", 0o755)
	w.govern("[sessions]\nend_hook = [\"/usr/local/bin/end-hook\"]\nend_timeout = \"5s\"\nterminate_timeout = \"3s\"")
	w.becomes("desktop")
}

// deaf starts a process in alice's session that lives through SIGTERM.
func (w *workstation) deaf() (pid int) {
	w.t.Helper()
	p := w.StartCommand(w.ctx, bed.Command{
		Argv: []string{"/bin/sh", "-c", `trap "" TERM HUP; exec sleep infinity`}, User: bed.User, InSession: true,
	})
	return p.PID
}

// TestADeafSessionIsAskedAsItsPersonAndEnded: the hook runs as alice where her
// compositor and her bus are, before anything is taken from her, and whatever comes of
// it the session ends.
func TestADeafSessionIsAskedAsItsPersonAndEnded(t *testing.T) {
	w := onDesktop(t)
	w.asksBy(`{ id -un; systemctl is-active greetd.service; test -S "$XDG_RUNTIME_DIR/$WAYLAND_DISPLAY" && echo compositor
		systemctl --user is-active basic.target; env; } > /var/tmp/hook.out`)
	deaf := w.deaf()
	compositor := w.CompositorPID(w.ctx)
	w.reach("compute")
	w.requireCompute()
	w.WaitProcessEnd(w.ctx, deaf)
	w.WaitProcessEnd(w.ctx, compositor)

	said := w.sh("cat /var/tmp/hook.out")
	assert.Regexp(t, `^alice\nactive\ncompositor\nactive\n`, said)
	for _, entry := range []string{
		"XDG_RUNTIME_DIR=/run/user/1000", "DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/1000/bus", "WAYLAND_DISPLAY=wayland-", "HOME=/home/alice", "USER=alice",
	} {
		assert.Contains(t, said, "\n"+entry)
	}
	assert.Equal(t, "alice", w.sh("stat -c %U /var/tmp/hook.out"))
	assert.Contains(t, w.sh("modectl last-transition"), "ask-sessions was done")
	assert.Equal(t, "inactive", w.active("dubnium-session-end@1000.service"))
	w.reach("desktop")
	w.requireDesktop()
}
