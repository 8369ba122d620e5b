//go:build e2e

package e2e

import (
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

// askedAsTheirPerson is what the hook of asksBy said of where it ran.
func (w *workstation) askedAsTheirPerson(said string) {
	w.t.Helper()
	assert.Regexp(w.t, `^alice\nactive\ncompositor\nactive\n`, said)
	for _, entry := range []string{
		"XDG_RUNTIME_DIR=/run/user/1000", "DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/1000/bus", "WAYLAND_DISPLAY=wayland-", "HOME=/home/alice", "USER=alice",
	} {
		assert.Contains(w.t, said, "\n"+entry)
	}
	assert.Equal(w.t, "alice", w.sh("stat -c %U /var/tmp/hook.out"))
	assert.Contains(w.t, w.sh("modectl last-transition"), "ask-sessions done")
	assert.Equal(w.t, "inactive", w.active("dubnium-session-end@1000.service"))
}
