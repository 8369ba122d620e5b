//go:build e2e

package e2e

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// snapshot is everything that a refused request must leave as it was.
func (w *workstation) unchanged(during func()) {
	w.t.Helper()
	look := func() string {
		return w.sh(`cat /run/mode-controller/desired /run/mode-controller/current
			ls /var/lib/mode-controller; grep -vc '"event":"refused"' /var/lib/mode-controller/events.jsonl
			systemctl list-units --no-legend --plain --state=active desktop.target compute.target greetd.service vllm.service studio-local-policy.service`)
	}
	before, compositor := look(), w.CompositorPID(w.ctx)
	during()
	assert.Equal(w.t, before, look())
	assert.Equal(w.t, compositor, w.CompositorPID(w.ctx))
}

func TestARequestWithoutAuthorizationIsRefusedAndChangesNothing(t *testing.T) {
	w := onDesktop(t)
	for name, run := range map[string]func(script string) (string, int){
		"alice, from outside a session": func(s string) (string, int) { return w.AsUser(w.ctx, "alice", s) },
		"alice, at her desk":            func(s string) (string, int) { return w.InSession(w.ctx, "alice", s) },
		"bob":                           func(s string) (string, int) { return w.AsUser(w.ctx, "bob", s) },
	} {
		t.Run(name, func(t *testing.T) {
			w.unchanged(func() {
				out, code := run("modectl request compute --no-ask-password")
				assert.Equal(t, 40, code, out)
				out, code = run(`busctl call org.dubnium.Mode1 /org/dubnium/Mode1 org.dubnium.Mode1 RequestMode 'sta{sv}' compute 0 0`)
				assert.NotZero(t, code)
				assert.Regexp(t, "denied|interactive authentication|AccessDenied|InteractiveAuthorizationRequired", strings.ToLower(out)+out)
			})
		})
	}
	out, code := w.AsUser(w.ctx, "alice", "modectl status && modectl current && modectl desired")
	assert.Zero(t, code, "everybody may look: %s", out)
}

func TestAliceMayHaveTheOverlayAtHerDesk(t *testing.T) {
	w := onDesktop(t)
	out, code := w.AsUser(w.ctx, "alice", "modectl request studio-local --no-ask-password")
	assert.Equal(t, 40, code, "not from outside: %s", out)
	out, code = w.InSession(w.ctx, "alice", "modectl request studio-local --no-ask-password")
	assert.Zero(t, code, out)
	assert.Equal(t, "studio-local", w.current())
	assert.Contains(t, w.sh("cat /run/mode-controller/desired.json"), "alice")
}

func TestNobodyButTheDaemonWritesItsFiles(t *testing.T) {
	w := onDesktop(t)
	for _, user := range []string{"alice", "bob"} {
		out, _ := w.AsUser(w.ctx, user, `cd /run/mode-controller && for f in . * ; do [ -w "$f" ] && echo "can write $f"; done
			touch new 2>/dev/null && echo "can make files"; mv current x 2>/dev/null && echo "can rename"
			ls /var/lib/mode-controller 2>/dev/null && echo "can see the journal"; ls -la; true`)
		assert.NotContains(t, out, "can ", user)
	}
}

func TestAMaskedTargetBlocksWithTheRemedy(t *testing.T) {
	w := onDesktop(t)
	w.sh("systemctl mask -q --runtime compute.target")
	compositor := w.CompositorPID(w.ctx)
	out, code := w.modectl("request compute")
	assert.Equal(t, 18, code, out)
	assert.Contains(t, out, "systemctl unmask compute.target")
	assert.Equal(t, "desktop", w.current(), "a refusal does not rename the host")
	assert.Equal(t, "compute", w.sh("modectl desired"), "the wish stays")
	assert.Equal(t, compositor, w.CompositorPID(w.ctx))
	w.sh("systemctl unmask -q --runtime compute.target")
	w.reach("compute")
	w.requireCompute()
}

func TestTwoRequestsAtOnce(t *testing.T) {
	w := onDesktop(t)
	watch := w.Watch(w.ctx, "type='signal',interface='org.dubnium.Mode1',member='TransitionStarted'")
	first := w.Start(w.ctx, "modectl request compute --json")
	w.Await(w.ctx, watch, next)
	out, code := w.modectl("request desktop")
	assert.Equal(t, 42, code, out)
	assert.Equal(t, "compute", w.sh("modectl desired"), "who is refused wishes nothing")
	out, code = w.modectl("request compute")
	assert.Zero(t, code, "the same wish joins: %s", out)
	exit, err := first.Wait(w.ctx)
	require.NoError(t, err)
	assert.Zero(t, exit, first.Output().Both)
	w.requireCompute()
	assert.Equal(t, "1", w.sh(`grep -c '"to":"compute"' /var/lib/mode-controller/events.jsonl`))
}

func TestWrongInput(t *testing.T) {
	w := onDesktop(t)
	cases := map[string]struct {
		command string
		code    int
		says    string
	}{
		"an unknown mode":      {"modectl request gaming", 30, "the modes are desktop, studio-local, compute"},
		"no mode":              {"modectl request", 30, "mode"},
		"an unknown flag":      {"modectl request compute --fast", 30, "--fast"},
		"an unknown command":   {"modectl teleport", 30, "teleport"},
		"an unknown option":    {"busctl call org.dubnium.Mode1 /org/dubnium/Mode1 org.dubnium.Mode1 RequestMode 'sta{sv}' desktop 0 1 colour s red", 1, "colour"},
		"unknown flag bits":    {"busctl call org.dubnium.Mode1 /org/dubnium/Mode1 org.dubnium.Mode1 RequestMode 'sta{sv}' desktop 4 0", 1, "flag"},
		"no bus":               {"DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nowhere modectl status", 41, "bus"},
		"a broken policy":      {"printf 'colour = 1' > /tmp/p.toml; /usr/libexec/dubnium/dubniumd --policy /tmp/p.toml", 1, "/tmp/p.toml:1:1: unknown key colour"},
		"a daemon that is off": {"systemctl stop dubniumd; modectl status; code=$?; systemctl start dubniumd; exit $code", 41, "systemctl start dubniumd"},
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
