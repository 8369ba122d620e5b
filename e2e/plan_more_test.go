//go:build e2e && soak

package e2e

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/e2e/bed"
	"github.com/dubnium/dubnium/observer"
)

// mustSurvive has the daemon's policy name these units, and no others.
func (w *workstation) mustSurvive(units string) {
	w.t.Helper()
	w.sh(`sed -i -e '/^must_survive/d' -e 's/^transitions = .*/&\nmust_survive = [` + units + `]/' /etc/dubnium/policy.toml && systemctl reload dubniumd`)
	w.WaitFor(w.ctx, "the policy to be in force", `[ "$(modectl policy show --json | tr -d ' \n' | grep -o '"key":"must_survive","value":"[^}]*' | grep -c `+
		map[bool]string{true: "service", false: "never"}[units != ""]+`)" = `+map[bool]string{true: "1", false: "0"}[units != ""]+` ]`)
}

// TestWhatMustSurviveBlocksCompute: a unit that isolate would stop, one that goes
// down with such a unit although isolate would spare it, and one by its other name.
func TestWhatMustSurviveBlocksCompute(t *testing.T) {
	w := onDesktop(t)
	w.audioKnown()
	w.sh(`cat >/etc/systemd/system/backup.service <<'EOF'
[Unit]
[Service]
ExecStart=/bin/sleep infinity
[Install]
Alias=night.service
