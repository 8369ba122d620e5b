//go:build integration

package integration

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/internal/embedded"
	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/policy"
)

func issueFile(w *embedded.Workstation) string {
	return filepath.Join(w.Policy.Paths.Issue, "dubnium.issue")
}

// ended waits until the lease is over and the host where it leads to.
func (c *watcher) ended(t *testing.T) {
	t.Helper()
	c.until(t, "the way back", func(v status.View) bool { return v.Lease == nil && v.Running == nil && v.Converged() })
}

func TestAModeThatNobodyConfirmsGoesBackByItself(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{}, nil)
	c := watch(t, w)
	a := modectl(t, w, "request", "compute", "--confirm", "3s")
	require.Zero(t, a.code, a.stderr)
	require.Contains(t, a.stdout, "ends        unless confirmed within 3s: modectl confirm 1\n")
	requireHost(t, w, policy.Compute)
	require.Contains(t, readFile(t, issueFile(w)), "unless somebody runs: modectl confirm 1")

	c.ended(t)
	requireHost(t, w, policy.Desktop)
	require.Equal(t, "desktop\n", modectl(t, w, "desired").stdout)
	record := lastRecord(t, w)
	require.Equal(t, "lease", record["origin"])
	require.Equal(t, "dubniumd", record["by"])
	require.Equal(t, "policy", record["authorization"])
	require.Contains(t, record["why"], "nobody confirmed it within 3s")
	assert.NoFileExists(t, issueFile(w))
	assert.NoFileExists(t, filepath.Join(w.Policy.Paths.Runtime, "lease.json"))
	requireNothingLeft(t, w)
}

func TestAConfirmedModeStaysAndItsLeaseEndsIt(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{}, nil)
	require.Zero(t, modectl(t, w, "request", "compute", "--confirm", "1h", "--for", "2h").code)
	status := decode[object](t, modectl(t, w, "status", "--json").stdout)
	lease, ok := status["lease"].(object)
	require.True(t, ok)
	require.Equal(t, "desktop", lease["back_to"])
	require.Contains(t, modectl(t, w, "status").stdout, "unless confirmed by ")

	w.SetAuthorize(answers(testhost.PolkitAnswer{}))
	require.Equal(t, 40, run(t, as(nobody, w.ModectlCommand(bounded(t), "confirm"))).code, "as request-compute is")
	require.Equal(t, 30, modectl(t, w, "confirm", "99").code)
	require.Equal(t, "transition 1 is confirmed\n", modectl(t, w, "confirm").stdout)
	require.Equal(t, 30, modectl(t, w, "confirm").code, "once")
	lease = decode[object](t, modectl(t, w, "status", "--json").stdout)["lease"].(object)
	require.Equal(t, 0.0, lease["confirm"])

	// Both the daemon and what it was told may go and come.
	require.NoError(t, w.KillDaemon())
	require.NoError(t, w.StartDaemon(bounded(t)))
	after := decode[object](t, modectl(t, w, "status", "--json").stdout)["lease"].(object)
	require.WithinDuration(t, at(t, lease["until"]), at(t, after["until"]), time.Second)
	c := watch(t, w)
	require.Zero(t, modectl(t, w, "request", "compute", "--for", "2s").code, "other terms take their place")
	c.ended(t)
	requireHost(t, w, policy.Desktop)
}

func at(t *testing.T, text any) time.Time {
	t.Helper()
	moment, err := time.Parse(time.RFC3339Nano, text.(string))
	require.NoError(t, err)
	return moment
}

// A way back that the guards refuse is told and tried again, and nothing is wished
// meanwhile.
func TestAWayBackThatIsRefusedIsTold(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{}, nil)
	require.Zero(t, modectl(t, w, "request", "compute", "--for", "2s").code)
	c := watch(t, w)
	_, release := holding(t, w, "--mode", "desktop")
	c.until(
		t, "the refusal", func(v status.View) bool { return v.Lease != nil && v.Lease.LastFailure != "" && v.Running == nil },
	)
	require.Equal(t, "compute\n", modectl(t, w, "desired").stdout)
	requireHost(t, w, policy.Compute)
	said := modectl(t, w, "status").stdout
	require.Contains(t, said, "the way back failed 1 times: inhibited: check_no_inhibitor")
	require.Contains(t, said, "blocked by  check_no_inhibitor")
	require.Contains(t, readFile(t, issueFile(w)), "cannot yet")
	release()
	require.Zero(t, modectl(t, w, "request", "desktop").code, "a person need not wait")
	require.Nil(t, decode[object](t, modectl(t, w, "status", "--json").stdout)["lease"])
}

func TestWhatWasAskedIsAskedForAgainWhereThePolicySaysSo(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{}, func(p *policy.Policy) {
		p.Reconcile.Enabled, p.Reconcile.Delay = true, policy.Duration(time.Second)
	})
	reach(t, w, policy.Compute)
	c := watch(t, w)
	require.NoError(t, w.StopUnit("vllm.service", "replace"))
	c.until(t, "the repair", func(v status.View) bool {
		return v.Running == nil && v.Last != nil && v.Last.Origin == status.OriginRecovery && v.Converged()
	})
	requireHost(t, w, policy.Compute)
	require.Equal(t, "operator", decode[object](t, modectl(t, w, "desired", "--json").stdout)["origin"])

	// The way to compute would end alice's session: a person asks for that.
	reach(t, w, policy.Desktop)
	require.NoError(t, w.Mask("vllm.service"))
	require.Equal(t, 18, modectl(t, w, "request", "compute").code)
	require.NoError(t, w.Unmask("vllm.service"))
	c.until(t, "the reason", func(v status.View) bool { return v.Reconcile.Refusal != "" && !v.Reconcile.Armed })
	require.Contains(
		t, modectl(t, w, "status").stdout, "not automatic: the way to compute ends sessions or the login screen",
	)
	requireHost(t, w, policy.Desktop)
}

// Consoles that cannot be written are a warning: everything else goes on.
func TestAPlaceForConsolesThatCannotBeWrittenIsAWarning(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{}, func(p *policy.Policy) {
		p.Paths.Issue = filepath.Join(p.Paths.State, "in-the-way", "issue.d")
	})
	require.NoError(t, os.WriteFile(filepath.Dir(w.Policy.Paths.Issue), nil, 0o644))
	reach(t, w, policy.Compute)
	require.Contains(t, modectl(t, w, "status").stdout, "console-not-written: the consoles do not show how to leave compute")
	reach(t, w, policy.Desktop)
}
