//go:build integration

package integration

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/embedded"
	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/internal/testhost/sim"
	"github.com/dubnium/dubnium/policy"
)

// reload has the daemon read its policy with a change, and returns what it told
// systemd about it.
func reload(t *testing.T, w *embedded.Workstation, change func(*policy.Policy)) string {
	t.Helper()
	p := w.Policy
	change(&p)
	text, err := p.TOML()
	require.NoError(t, err)
	told, err := w.Reload(bounded(t), text)
	require.NoError(t, err)
	require.Regexp(t, `^RELOADING=1\nMONOTONIC_USEC=[0-9]+\n`, told)
	return told
}

// shown is the policy that the daemon says is in force.
func shown(t *testing.T, w *embedded.Workstation) policy.Policy {
	t.Helper()
	a := modectl(t, w, "policy", "show")
	require.Zero(t, a.code)
	p, err := policy.Parse("policy show", []byte(a.stdout))
	require.NoError(t, err)
	return p
}

// What a reload changes reaches the guards (trust), the plans, the eyes (a unit of
// another name) and whoever asks.
func TestAReloadChangesWhatTheDaemonDoes(t *testing.T) {
	t.Parallel()
	w := start(
		t, testhost.Options{Units: []testhost.Unit{{Name: "quiet.service"}}},
		func(p *policy.Policy) { p.Transitions = policy.TrustObserve },
	)
	require.Equal(t, 18, modectl(t, w, "request", "studio-local").code)
	told := reload(
		t, w, func(p *policy.Policy) { p.Transitions, p.Units.AudioPriority = policy.TrustAll, "quiet.service" },
	)
	require.Contains(t, told, "is in force")
	p := shown(t, w)
	require.Equal(t, policy.TrustAll, p.Transitions)
	require.Zero(t, modectl(t, w, "request", "studio-local").code)
	u, err := w.Unit("quiet.service")
	require.NoError(t, err)
	require.Equal(t, "active", u.ActiveState)
	// The eyes follow the unit by its signals, not only by the looks of requests.
	c := watch(t, w)
	require.NoError(t, w.Crash("quiet.service", "exit-code"))
	for c.properties(t).View.Observation.State != "degraded-studio-local" {
		c.next(bounded(t), t, "the crash is seen")
	}
}

// A file that is refused changes nothing, not even for the probe that reads where
// vLLM listens.
func TestABadPolicyIsRefusedAndTheOldOneStays(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{}, nil)
	reach(t, w, policy.Compute)
	before := shown(t, w)
	told, err := w.Reload(bounded(t), "colour = 1\n[vllm]\nhealth_url = \"http://example.org/\"\n")
	require.NoError(t, err)
	require.Contains(t, told, "STATUS=new policy rejected, previous policy still in force: ")
	require.Contains(t, told, "policy.toml:1:1: unknown key colour (and 1 more)")
	require.Equal(t, before, shown(t, w))
	require.Contains(t, modectl(t, w, "status").stdout,
		"policy-refused: new policy rejected, previous policy still in force: ")
	require.Equal(t, "compute\n", modectl(t, w, "current", "--refresh").stdout)

	told = reload(t, w, func(p *policy.Policy) { p.Transitions, p.Paths.State = policy.TrustObserve, "/elsewhere" })
	require.Contains(t, told, "paths.state: cannot change from ")
	require.Contains(t, told, "while dubniumd runs: restart it")
	require.Equal(t, before, shown(t, w))
	require.Contains(t, modectl(t, w, "status").stdout, "policy-refused: ")
	reload(t, w, func(*policy.Policy) {})
	require.NotContains(t, modectl(t, w, "status").stdout, "policy-refused")
	require.Zero(t, modectl(t, w, "request", "desktop").code)
	requireHonest(t, w)
}

func TestAReloadOfTheEmptyPolicyIsJudgedLikeAnyOther(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{}, nil)
	told, err := w.Reload(bounded(t), "# nothing\n")
	require.NoError(t, err)
	require.Contains(t, told, "paths.issue: cannot change", "its directories are others")
	require.Equal(t, w.Policy, shown(t, w))
}

func TestAReloadDuringATransitionWaitsForItsEnd(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{}, nil)
	require.NoError(t, w.Hang("greetd.service"))
	asked := background(t, w.ModectlCommand(bounded(t), "request", "compute"))
	require.NoError(t, w.Wait(bounded(t), "greetd is asked to stop", func(m *sim.Model) bool {
		u, err := m.Unit("greetd.service")
		return err == nil && u.ActiveState == "deactivating"
	}))
	told := reload(t, w, func(p *policy.Policy) { p.Transitions, p.VLLM.Enabled = policy.TrustObserve, false })
	require.Contains(t, told, "STATUS=a new policy waits for the running transition to end")
	require.Equal(t, policy.TrustAll, shown(t, w).Transitions)
	require.NoError(t, w.Heal("greetd.service"))
	require.Zero(t, soon(t, "an answer", asked).code)
	_, err := w.AwaitTold(bounded(t), "is in force")
	require.NoError(t, err)
	p := shown(t, w)
	require.Equal(t, policy.TrustObserve, p.Transitions)
	inForce, err := os.ReadFile(filepath.Join(w.Policy.Paths.Runtime, "policy.toml"))
	require.NoError(t, err)
	written, err := policy.Parse("in force", inForce)
	require.NoError(t, err)
	require.Equal(t, p, written)
	require.Equal(t, 18, modectl(t, w, "request", "desktop").code, "the trust of the new policy")
	requireHost(t, w, policy.Compute)
}
