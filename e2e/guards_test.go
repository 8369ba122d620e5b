//go:build e2e

package e2e

import (
	"encoding/json"
	"strings"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/guards"
)

// blocked requests compute, which the guard has to refuse with its code and a text,
// while the machine's own tools see nothing happen.
func (w *workstation) blocked(guard string, code int, says string) {
	w.t.Helper()
	look := func() string {
		return w.sh(`systemctl list-units --no-legend --plain --state=active desktop.target compute.target greetd.service vllm.service
			loginctl list-sessions --no-legend | wc -l`)
	}
	before, compositor := look(), w.CompositorPID(w.ctx)
	assert.Equal(w.t, code, int(w.verdict(guard, code).Code))
	out, got := w.modectl("guards compute")
	assert.Equal(w.t, code, got, out)
	out, got = w.modectl("request compute")
	assert.Equal(w.t, code, got, out)
	assert.Contains(w.t, out, says)
	assert.Contains(w.t, out, "remedy: ")
	assert.Equal(w.t, "blocked", w.last().Result)
	assert.Equal(w.t, before, look())
	assert.Equal(w.t, compositor, w.CompositorPID(w.ctx))
	assert.Equal(w.t, "desktop", w.current())
}

// verdict waits until a guard has this code, since what it sees may have just
// begun, and returns what it says.
func (w *workstation) verdict(guard string, code int) (v guards.Verdict) {
	w.t.Helper()
	for {
		out, got := w.Sh(w.ctx, "modectl guard "+guard)
		if got == code {
			require.NoError(w.t, json.Unmarshal([]byte(out), &v), out)
			require.Equal(w.t, 1, strings.Count(strings.TrimSpace(out)+"\n", "\n"), "it is one line")
			return v
		}
		require.NoError(w.t, w.ctx.Err(), "%s ended with %d: %s", guard, got, out)
	}
}
