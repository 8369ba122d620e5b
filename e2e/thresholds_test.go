//go:build e2e && soak

package e2e

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAnUpgradeThatMustNotBeShutDownBlocksCompute(t *testing.T) {
	w := onDesktop(t)
	p := w.Start(w.ctx, "exec systemd-inhibit --what=shutdown --who=dpkg --why=upgrade --mode=block sleep 1000")
	w.blocked("check_user_jobs_safe", 13, "inhibits shutdown: upgrade")
	require.NoError(t, p.Kill(w.ctx))
	w.verdict("check_user_jobs_safe", 0)
}

func TestThresholdsAreThePolicys(t *testing.T) {
	w := onDesktop(t)
	w.sh(`printf '\n[guards.min_memory_mib]\ncompute = 1000000\n' >> /etc/dubnium/policy.toml && systemctl restart dubniumd`)
	w.becomes("desktop")
	w.audioKnown()
	w.blocked("check_memory_headroom", 14, "guards.min_memory_mib.compute")
	w.sh(`printf '\n[placement]\nai = "remote"\n' >> /etc/dubnium/policy.toml && systemctl restart dubniumd`)
	w.becomes("desktop")
	w.blocked("check_compute_capability_local", 19, "placement.ai")
}

// TestAModelStoreIsSeenWhereItIs: in a home directory, which the sandbox hides, and
// read-only.
func TestAModelStoreIsSeenWhereItIs(t *testing.T) {
	w := onDesktop(t)
	w.sh(`sed -i 's,^\[guards\]$,[guards]\nmodel_store = "/home/alice/models",' /etc/dubnium/policy.toml && systemctl restart dubniumd`)
	w.becomes("desktop")
	w.audioKnown()
	w.blocked("check_persistence_paths_ready", 18, "/home/alice/models cannot be used: it does not exist")
	w.sh("mkdir -p /home/alice/models")
	w.verdict("check_persistence_paths_ready", 0)
	w.sh("mount -t tmpfs -o ro none /home/alice/models")
	assert.Contains(t, w.verdict("check_persistence_paths_ready", 18).Reason, "mounted read-only")
	w.sh("umount /home/alice/models && mount -t tmpfs -o size=1m none /home/alice/models")
	assert.Contains(t, w.verdict("check_persistence_paths_ready", 18).Reason, "MiB free, less than")
	w.sh("umount /home/alice/models")
	w.verdict("check_persistence_paths_ready", 0)
}
