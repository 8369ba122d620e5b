//go:build e2e && soak

package e2e

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/observer/unitgraph"
)

// mustSurvive has the daemon's policy name this unit, and no other.
func (w *workstation) mustSurvive(unit string) {
	w.t.Helper()
	w.sh(`sed -i -e '/^must_survive/d' -e 's/^transitions = .*/&\nmust_survive = ["` + unit + `"]/' /etc/dubnium/policy.toml
		systemctl reload dubniumd.service && modectl policy show | grep must_survive | grep -q ` + unit)
}

// TestWhatMustSurviveBlocksCompute: a unit that isolate would stop, by either of its
// names, and one that goes down with it although isolate would spare it. What the
// refusal says would clear it does.
func TestWhatMustSurviveBlocksCompute(t *testing.T) {
	w := onDesktop(t)
	w.audioKnown()
	w.PutBytes(
		w.ctx, []byte("[Service]\nExecStart=/bin/sleep infinity\n[Install]\nAlias=night.service\n"),
		"/etc/systemd/system/backup.service", 0o644,
	)
	w.sh(`systemctl daemon-reload && systemctl enable -q backup.service && systemctl start backup.service
		systemd-run -q --unit=tied.service -p IgnoreOnIsolate=yes -p BindsTo=backup.service sleep infinity`)
	for unit, says := range map[string]string{
		"backup.service": "backup.service would stop (compute.target does not pull it in)",
		"night.service":  "backup.service would stop",
		"tied.service":   "tied.service would stop (it depends on backup.service)",
	} {
		w.mustSurvive(unit)
		w.blocked("check_target_reachable", 18, says)
		p := w.dryRun("compute", 18)
		out, code := w.modectl("request compute --plan " + p.Fingerprint)
		assert.Equal(t, 18, code, "a plan that was shown blocked is blocked: %s", out)
	}
	w.sh("systemctl add-wants compute.target backup.service")
	w.verdict("check_target_reachable", 0)
	p := w.dryRun("compute", 0)
	out, code := w.modectl("request compute --plan " + p.Fingerprint)
	require.Zero(t, code, out)
	w.requireCompute()
	assert.Equal(t, "active", w.active("backup.service"))
	assert.Equal(t, "active", w.active("tied.service"))
}

// stopping are the units that a plan stops.
func stopping(stopped []unitgraph.StoppedUnit) (units []string) {
	for _, c := range stopped {
		units = append(units, c.Unit)
	}
	return units
}

// TestAStalePlanIsRefused: when a unit more would stop, until it is gone again. The
// login that the unit is makes no difference by itself: who is not at the screen stays.
func TestAStalePlanIsRefused(t *testing.T) {
	w := onDesktop(t)
	w.audioKnown()
	p := w.dryRun("compute", 0)
	w.sh(
		"systemd-run -q --unit=login-of-bob -p PAMName=login -p User=bob -E XDG_SESSION_CLASS=user -E XDG_SESSION_TYPE=tty sleep infinity",
	)
	w.WaitFor(w.ctx, "bob to be there", "loginctl list-sessions --no-legend | grep -q bob")
	more := w.dryRun("compute", 0)
	assert.ElementsMatch(
		t, append(stopping(p.Stops), "login-of-bob.service"), stopping(more.Stops), "his session and his manager are spared",
	)
	assert.Equal(t, p.Sessions, more.Sessions)
	w.unchanged(func() {
		out, code := w.modectl("request compute --plan " + p.Fingerprint)
		assert.Equal(t, 44, code, out)
		assert.Contains(t, out, "modectl dry-run")
	})
	w.sh("systemctl stop login-of-bob.service")
	w.start("sleep infinity") // a program of alice's, on her desktop
	out, code := w.modectl("request compute --plan " + p.Fingerprint)
	require.Zero(t, code, out)
	w.requireCompute()
}

// TestADryRunTellsOnesOwnWindowsAndNobodyElsesPrograms: alice's modectl asks her
// compositor, and bob's asks none.
func TestADryRunTellsOnesOwnWindowsAndNobodyElsesPrograms(t *testing.T) {
	w := onDesktop(t)
	w.audioKnown()
	out, code := w.AsUser(w.ctx, "alice", "modectl dry-run compute")
	require.Zero(t, code, out)
	assert.Contains(t, out, "of alice (uid 1000)")
	assert.Regexp(t, "it has no window|workspace", out, "her compositor has answered")
	assert.NotContains(t, out, "unknown: cannot")
	out, code = w.AsUser(w.ctx, "bob", "modectl dry-run compute")
	assert.Equal(t, 17, code, "he may not end her session: %s", out)
	assert.NotRegexp(t, "it has no window|workspace|its windows", out)
	assert.Contains(t, out, "a process of uid 1000")
}

// TestAJobThatIsTheContraryKeepsTheSession: a unit that goes down with the display
// manager is about to start, behind one that takes long.
func TestAJobThatIsTheContraryKeepsTheSession(t *testing.T) {
	w := onDesktop(t)
	w.audioKnown()
	w.PutBytes(
		w.ctx, []byte("[Service]\nType=oneshot\nTimeoutStartSec=infinity\nExecStart=/bin/sleep infinity\n"),
		"/run/systemd/system/slow.service", 0o644,
	)
	w.PutBytes(w.ctx, []byte(
		"[Unit]\nBindsTo=greetd.service\nAfter=greetd.service slow.service\n[Service]\nExecStart=/bin/sleep infinity\n",
	),
		"/run/systemd/system/with-greeter.service", 0o644)
	w.sh("systemctl daemon-reload && systemctl start --no-block slow.service with-greeter.service")
	w.WaitFor(w.ctx, "the job to be queued", "systemctl list-jobs --no-legend | grep -q 'with-greeter.service *start'")
	w.blocked("check_graphical_session_terminable", 17, "a start job is queued for with-greeter.service")
	w.sh("systemctl stop with-greeter.service slow.service")
	w.verdict("check_graphical_session_terminable", 0)
	w.reach("compute")
	w.requireCompute()
}
