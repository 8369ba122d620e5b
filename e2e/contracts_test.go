//go:build e2e

package e2e

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// govern adds sections to the policy and has the daemon read it.
func (w *workstation) govern(sections string) {
	w.t.Helper()
	w.sh("cat >> /etc/dubnium/policy.toml <<'EOF'\n" + sections + "\nEOF\nmodectl policy check /etc/dubnium/policy.toml && systemctl reload dubniumd.service")
}

// install writes a service that only waits.
func (w *workstation) install(unit string) {
	w.t.Helper()
	w.sh("printf '[Service]\\nType=exec\\nExecStart=/usr/bin/sleep infinity\\n' > /etc/systemd/system/" + unit + " && systemctl daemon-reload")
}

func TestAForbiddenUnitDegradesAndARequestStopsIt(t *testing.T) {
	w := onDesktop(t)
	w.install("batch.service")
	w.govern("[modes.desktop]\nforbidden = [\"batch.service\"]\nstop_forbidden = true")
	w.becomes("desktop")

	w.sh("systemctl start batch.service")
	w.becomes("degraded-desktop")
	out, _ := w.modectl("status")
	assert.Contains(t, out, "forbidden-unit-active: batch.service runs, which desktop forbids")
	out, _ = w.modectl("explain desktop")
	assert.Contains(t, out, "unit:batch.service is true and would have to be false")
	assert.Contains(t, out, "what the policy forbids of these is stopped")

	compositor := w.CompositorPID(w.ctx)
	out, code := w.modectl("request desktop")
	require.Zero(t, code, out)
	assert.Equal(t, "inactive", w.active("batch.service"))
	assert.Equal(t, "desktop", w.current())
	assert.Equal(t, compositor, w.CompositorPID(w.ctx), "nobody was disturbed")
}
