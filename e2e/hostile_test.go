//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// build puts a program of e2e/cmd into the machine.
func (w *workstation) build(name string) {
	w.t.Helper()
	program := filepath.Join(w.t.TempDir(), name)
	build := exec.CommandContext(w.ctx, "go", "build", "-o", program, "github.com/dubnium/dubnium/e2e/cmd/"+name)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(w.t, err, "%s", out)
	w.Put(w.ctx, program, "/usr/local/bin/"+name, 0o755)
}

// The real bus, its real policy and the real sandbox: whatever legal message a user who
// is not even logged in sends to any connection of the daemon, it goes on.
func TestNobodyEndsTheDaemonWithAMessage(t *testing.T) {
	w := onDesktop(t)
	w.build("fuzzbus")
	standing := func() string {
		return w.sh(`systemctl show -P MainPID -P NRestarts -P ActiveState dubniumd; cat /run/mode-controller/desired`)
	}
	before := standing()
	out, code := w.AsUser(w.ctx, "bob", "fuzzbus --messages 1500")
	require.Zero(t, code, out)
	t.Log(out)
	assert.Contains(t, out, "3 connections")
	assert.Contains(t, out, "org.freedesktop.DBus.Error.InvalidArgs:")
	assert.Equal(t, before, standing())
	w.becomes("desktop")
	out, code = w.modectl("current --refresh")
	assert.Equal(t, []any{"desktop\n", 0}, []any{out, code})
}
