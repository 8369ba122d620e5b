//go:build e2e && soak

package e2e

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/e2e/bed"
)

func TestACompilerBlocksCompute(t *testing.T) {
	w := onDesktop(t)
	w.sh("cp /usr/bin/sleep /usr/local/bin/cc1plus")
	p := w.start("/usr/local/bin/cc1plus 1000")
	w.blocked("check_user_jobs_safe", 13, "cc1plus (pid ")
	out, code := w.AsUser(w.ctx, bed.Bob, "modectl guard check_user_jobs_safe")
	assert.Equal(t, 13, code, out)
	assert.Contains(t, out, "a process of uid 1000 runs")
	assert.NotContains(t, out, "cc1plus (pid ")
	require.NoError(t, p.Kill(w.ctx))
	w.verdict("check_user_jobs_safe", 0)
}

func TestEveryGuardPassesOnADesktopAtRest(t *testing.T) {
	w := onDesktop(t)
	w.audioKnown()
	for _, mode := range []string{"desktop", "studio-local", "compute"} {
		out, code := w.modectl("guards " + mode)
		assert.Zero(t, code, out)
	}
	v := w.verdict("check_persistence_paths_ready", 0)
	assert.Equal(t, "the directories of the policy are there", v.Reason)
}

func TestAMaskedTargetBlocksWithTheRemedy(t *testing.T) {
	w := onDesktop(t)
	w.sh("systemctl mask -q --runtime compute.target")
	compositor := w.CompositorPID(w.ctx)
	out, code := w.modectl("request compute")
	assert.Equal(t, 18, code, out)
	assert.Contains(t, out, "systemctl unmask compute.target")
	w.unharmed(compositor)
	assert.Equal(t, "compute", w.sh("modectl desired"), "the desired mode stays")
	w.sh("systemctl unmask -q --runtime compute.target")
	w.reach("compute")
	w.requireCompute()
}
