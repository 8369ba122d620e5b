//go:build e2e && soak

package e2e

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestWrongInput(t *testing.T) {
	w := onDesktop(t)
	cases := map[string]struct {
		command string
		code    int
		says    string
	}{
		"an unknown mode":    {"modectl request gaming", 30, "the modes are desktop, studio-local, compute"},
		"no mode":            {"modectl request", 30, "mode"},
		"an unknown flag":    {"modectl request compute --fast", 30, "--fast"},
		"an unknown command": {"modectl teleport", 30, "teleport"},
		"an unknown option": {
			"busctl call org.dubnium.Mode1 /org/dubnium/Mode1 org.dubnium.Mode1 RequestMode 'sta{sv}' desktop 0 1 colour s red",
			1, "colour",
		},
		"unknown flag bits": {
			"busctl call org.dubnium.Mode1 /org/dubnium/Mode1 org.dubnium.Mode1 RequestMode 'sta{sv}' desktop 4 0", 1, "flag",
		},
		"no bus": {"DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nowhere modectl status", 41, "bus"},
		"a broken policy": {
			"printf 'colour = 1' > /tmp/p.toml; /usr/libexec/dubnium/dubniumd --policy /tmp/p.toml", 1,
			"/tmp/p.toml:1:1: unknown key colour",
		},
		"a daemon that is off": {
			"systemctl stop dubniumd; modectl status; code=$?; systemctl start dubniumd; exit $code", 41,
			"systemctl start dubniumd",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			out, code := w.Sh(w.ctx, c.command)
			assert.Equal(t, c.code, code, out)
			assert.Contains(t, out, c.says)
			assert.LessOrEqual(t, strings.Count(strings.TrimSpace(out), "\n"), 1, "a clear line: %s", out)
		})
	}
}
