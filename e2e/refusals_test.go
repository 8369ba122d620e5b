//go:build e2e

package e2e

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// snapshot is everything that a refused request must leave as it was.
func (w *workstation) unchanged(during func()) {
	w.t.Helper()
	look := func() string {
		return w.sh(`cat /run/mode-controller/desired /run/mode-controller/current
			ls /var/lib/mode-controller | grep -v refusals; wc -l < /var/lib/mode-controller/events.jsonl
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
				assert.Regexp(
					t, "denied|interactive authentication|AccessDenied|InteractiveAuthorizationRequired", strings.ToLower(out)+out,
				)
			})
		})
	}
	out, code := w.AsUser(w.ctx, "alice", "modectl status && modectl current && modectl desired")
	assert.Zero(t, code, "everybody may look: %s", out)

	w.part("nobody but the daemon writes its files", func(w *workstation) {
		for _, user := range []string{"alice", "bob"} {
			out, _ := w.AsUser(w.ctx, user, `cd /run/mode-controller && for f in . * ; do [ -w "$f" ] && echo "can write $f"; done
				touch new 2>/dev/null && echo "can make files"; mv current x 2>/dev/null && echo "can rename"
				ls /var/lib/mode-controller 2>/dev/null && echo "can see the journal"; ls -la; true`)
			assert.NotContains(w.t, out, "can ", user)
		}
	})
	w.part("alice may have the overlay, at her desk", func(w *workstation) {
		out, code := w.AsUser(w.ctx, "alice", "modectl request studio-local --no-ask-password")
		assert.Equal(w.t, 40, code, "not from outside: %s", out)
		out, code = w.InSession(w.ctx, "alice", "modectl request studio-local --no-ask-password")
		assert.Zero(w.t, code, out)
		assert.Equal(w.t, "studio-local", w.current())
		assert.Contains(w.t, w.sh("cat /run/mode-controller/desired.json"), "alice")
	})
}
