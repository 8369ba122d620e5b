//go:build e2e && soak

package e2e

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// leased waits until there is a lease, or none.
func (w *workstation) leased(there bool) {
	w.t.Helper()
	test := `modectl status --json | grep -q '"lease": null'`
	if there {
		test = "! { " + test + "; }"
	}
	w.WaitFor(w.ctx, "the lease", test)
}

// TestAWayBackThatIsBlockedIsTriedAgain: it says so, wishes nothing, and comes when
// it may.
func TestAWayBackThatIsBlockedIsTriedAgain(t *testing.T) {
	w := onDesktop(t)
	w.audioKnown()
	holder := w.Start(w.ctx, "exec modectl inhibit --mode desktop --who backup --why 'a snapshot' -- sleep infinity")
	w.WaitFor(w.ctx, "the inhibitor", "modectl inhibit --list | grep -q backup")
	out, code := w.modectl("request compute --for 5s")
	require.Zero(t, code, out)
	w.WaitFor(w.ctx, "the refusal", `modectl status --json | grep -q '"waits": "inhibited: check_no_inhibitor'`)
	w.requireCompute()
	assert.Equal(t, "compute", w.sh("modectl desired"), "who is refused wishes nothing")
	assert.Contains(t, w.sh("cat "+issue), "cannot yet")
	require.NoError(t, holder.Kill(w.ctx))
	w.becomes("desktop")
	w.requireDesktop()
	w.leased(false)
}

func TestAConfirmedModeStays(t *testing.T) {
	w := onDesktop(t)
	w.audioKnown()
	out, code := w.modectl("request compute --confirm 1m")
	require.Zero(t, code, out)
	out, code = w.AsUser(w.ctx, "bob", "modectl confirm --no-ask-password")
	assert.Equal(t, 40, code, "as request is: %s", out)
	out, code = w.modectl("confirm")
	assert.Zero(t, code, out)
	w.leased(false)
	assert.NotContains(t, w.sh("cat "+issue), "confirm")
	w.requireCompute()
}

// TestALeaseOutlivesItsDaemonAndNotTheBoot: a daemon that is killed in compute finds
// the lease again; a machine that boots is a desktop, and owes nobody anything.
func TestALeaseOutlivesItsDaemonAndNotTheBoot(t *testing.T) {
	w := onDesktop(t)
	w.audioKnown()
	out, code := w.modectl("request compute --for 20s")
	require.Zero(t, code, out)
	pid := w.sh("systemctl show -p MainPID --value dubniumd.service")
	w.sh("kill -KILL " + pid)
	w.WaitFor(w.ctx, "dubniumd to be back", `[ "$(systemctl show -p MainPID --value dubniumd)" != `+pid+` ] && modectl status >/dev/null`)
	w.becomes("desktop")
	w.requireDesktop()
	w.leased(false)

	w.audioKnown()
	out, code = w.modectl("request compute --for 1h")
	require.Zero(t, code, out)
	w.leased(true)
	w.Reboot(w.ctx)
	w.WaitFile(w.ctx, "/run/mode-controller/current")
	w.becomes("desktop")
	w.leased(false)
	w.sh("test ! -e " + issue)
}

// TestAnIdleVLLMEndsItsLease: as its own metrics have it.
func TestAnIdleVLLMEndsItsLease(t *testing.T) {
	w := onDesktop(t)
	w.audioKnown()
	load := func(says string) {
		w.sh(`vllm-standin --control /run/vllm-standin.sock --tell '{"running":[` + says + `]}'`)
	}
	out, code := w.modectl("request compute --until-idle 20s")
	require.Zero(t, code, out)
	load("1")
	w.WaitFor(w.ctx, "the request to be seen", `! modectl status --json | grep -q '"idle_since"'`)
	w.requireCompute()
	load("0")
	w.WaitFor(w.ctx, "idleness to be seen", `modectl status --json | grep -q '"idle_since"'`)
	w.becomes("desktop")
	w.requireDesktop()
	w.sh("grep -q 'vLLM has had no request for 20s' /run/mode-controller/last-transition.json")
}

// TestAConsoleThatWaitsShowsItAnew: a real agetty, whose screen the kernel tells.
func TestAConsoleThatWaitsShowsItAnew(t *testing.T) {
	w := onDesktop(t)
	w.audioKnown()
	w.sh("systemctl start getty@tty6.service")
	w.WaitFor(w.ctx, "a prompt", "grep -aq 'login:' /dev/vcs6")
	w.reach("compute")
	w.WaitFor(w.ctx, "the way back on the screen", "grep -aq 'This machine is in compute since' /dev/vcs6")
}

// TestWhatWasAskedIsAskedForAgain: where the policy has it so, and never at the cost
// of a session.
func TestWhatWasAskedIsAskedForAgain(t *testing.T) {
	w := onDesktop(t)
	w.govern("[reconcile]\nenabled = true\ndelay = \"3s\"")
	w.reach("compute")
	w.sh("systemctl stop vllm.service")
	w.WaitFor(w.ctx, "vLLM to be back", "systemctl -q is-active vllm.service")
	w.becomes("compute")
	w.WaitFor(w.ctx, "its record", `grep -q '"origin": "recovery"' /run/mode-controller/last-transition.json`)
	w.requireCompute()

	w.reach("desktop")
	w.requireDesktop()
	compositor := w.CompositorPID(w.ctx)
	w.audioKnown()
	w.sh("systemctl mask -q --runtime compute.target")
	out, code := w.modectl("request compute")
	require.Equal(t, 18, code, out)
	w.sh("systemctl unmask -q --runtime compute.target")
	w.WaitFor(w.ctx, "the reason", "modectl status | grep -q 'only a person may request that'")
	w.unharmed(compositor)
}
