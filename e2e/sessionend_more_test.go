//go:build e2e && soak

package e2e

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/e2e/bed"
)

// TestNoHookLeavesASessionStanding: one that hangs and will not be ended politely, one
// that fails, and one that is not there.
func TestNoHookLeavesASessionStanding(t *testing.T) {
	for name, c := range map[string]struct{ script, says string }{
		"that hangs":        {`trap "" TERM; touch /var/tmp/hook.began; exec sleep 987654`, "it took longer than 5s"},
		"that fails":        {"exit 7", "job failed (exit-code)"},
		"that is not there": {"", "job failed (exit-code)"},
	} {
		t.Run(name, func(t *testing.T) {
			w := onDesktop(t)
			w.asksBy(c.script)
			if c.script == "" {
				w.sh("rm /usr/local/bin/end-hook")
			}
			w.audioKnown()
			out, code := w.modectl("request compute")
			require.Zero(t, code, out)
			w.requireCompute()
			assert.Contains(t, out, "step ask-sessions, failed")
			assert.Contains(t, out, c.says)
			if name == "that hangs" {
				w.sh("test -e /var/tmp/hook.began")
			}
			assert.Contains(t, []string{"inactive", "failed"}, w.active("dubnium-session-end@1000.service"))
			assert.Empty(t, w.sh("pgrep -xf 'sleep 987654' || true"), "nothing of it runs on")
			w.reach("desktop")
			w.requireDesktop()
		})
	}
}

// TestACompositorThatLogindLeavesIsEnded: under the user manager of somebody who
// lingers.
func TestACompositorThatLogindLeavesIsEnded(t *testing.T) {
	w := onDesktop(t)
	w.govern("[sessions]\nmanager_timeout = \"3s\"")
	w.becomes("desktop")
	w.sh("loginctl enable-linger alice")
	w.underTheUserManager()
	w.audioKnown()
	out, code := w.modectl("request compute")
	require.Zero(t, code, out)
	w.requireCompute()
	assert.Contains(t, out, "user@1000.service/wayland-wm.service) held ")
	assert.Contains(t, out, "and user@1000.service was stopped")
	assert.NotEqual(t, "active", w.active("user@1000.service"))
	w.reach("desktop")
	w.requireDesktop()
	assert.Equal(t, "active", w.active("user@1000.service"))
}

// orphans makes vLLM leave a worker behind that has the GPU and lives through SIGTERM.
func (w *workstation) orphans(worker string) {
	w.t.Helper()
	w.PutBytes(
		w.ctx, []byte("#!/bin/sh\ntrap '' TERM\nexec 3<>/dev/dri/renderD128\nwhile :; do sleep 3600; done\n"),
		"/usr/local/bin/gpu-worker", 0o755,
	)
	w.PutBytes(w.ctx, []byte("[Service]\nKillMode=process\nExecStart=\nExecStart=/bin/sh -c '"+worker+
		" exec /usr/local/bin/vllm-standin --listen 127.0.0.1:8000 --hold /dev/dri/renderD128'\n"), "/etc/systemd/system/vllm.service.d/test.conf", 0o644)
	w.sh("systemctl daemon-reload")
}

// TestAWorkerThatOutlivesVLLM: in its unit's control group, or in another unit that the
// policy names, it is found, named and ended; elsewhere the transition goes back.
func TestAWorkerThatOutlivesVLLM(t *testing.T) {
	t.Run("in its control group", func(t *testing.T) {
		w := onDesktop(t)
		w.orphans("/usr/local/bin/gpu-worker &")
		w.reach("compute")
		w.WaitFor(w.ctx, "the worker", "pgrep -x gpu-worker")
		w.sh("systemctl stop vllm.service && systemctl start vllm.service") // this is what it does by itself
		assert.Equal(t, "2", w.sh("pgrep -xc gpu-worker"), "one was left, and one is new")
		w.WaitFor(w.ctx, "vLLM to be healthy", "modectl current --refresh | grep -qx compute")
		out, code := w.modectl("request desktop")
		require.Zero(t, code, out)
		assert.Regexp(t, `step stop-vllm: .*\(pid \d+, vllm\.service\) outlived vllm\.service with 0000:.*, and vllm\.service was killed`, out)
		assert.Empty(t, w.sh("pgrep -x gpu-worker || true"))
		w.requireDesktop()
	})
	t.Run("in a unit that the policy names", func(t *testing.T) {
		w := onDesktop(t)
		w.govern("[vllm.profiles.default]\nunit = \"vllm.service\"\nworker_units = [\"ray.service\"]")
		w.orphans("")
		w.reach("compute")
		w.sh("systemd-run -q --unit ray.service /usr/local/bin/gpu-worker")
		w.WaitFor(w.ctx, "the worker", "pgrep -x gpu-worker")
		out, code := w.modectl("request desktop")
		require.Zero(t, code, out)
		assert.Contains(t, out, "and ray.service was killed")
		assert.Empty(t, w.sh("pgrep -x gpu-worker || true"))
		w.requireDesktop()
	})
	t.Run("in a unit that is nobody's to end", func(t *testing.T) {
		w := onDesktop(t)
		w.sh(`sed -i 's,^\[timeouts\]$,[timeouts]\nunit = "10s"\ngpu_release = "10s",' /etc/dubnium/policy.toml && systemctl reload dubniumd.service`)
		// It is vLLM's when the plan looks, and leaves its unit while that is stopped.
		w.orphans("/usr/local/bin/gpu-worker &")
		w.PutBytes(w.ctx, []byte(`#!/bin/sh
			mkdir -p /sys/fs/cgroup/system.slice/elsewhere.service
			for pid in $(pgrep -x gpu-worker) $(pgrep -P $(pgrep -x gpu-worker)); do
				echo $pid > /sys/fs/cgroup/system.slice/elsewhere.service/cgroup.procs
			done
		`), "/usr/local/bin/leave", 0o755)
		w.PutBytes(
			w.ctx, []byte("[Service]\nExecStop=/usr/local/bin/leave\n"), "/etc/systemd/system/vllm.service.d/leave.conf", 0o644,
		)
		w.sh("systemctl daemon-reload")
		w.reach("compute")
		w.WaitFor(w.ctx, "the worker", "pgrep -x gpu-worker")
		out, code := w.modectl("request desktop")
		assert.Equal(t, 54, code, "vLLM runs again, beside a stranger on its GPU: %s", out)
		assert.Contains(t, out, "elsewhere.service) has 0000:")
		assert.Contains(t, out, "name it in worker_units of its profile")
		w.sh("pgrep -x gpu-worker")
		assert.Equal(t, "active", w.active("vllm.service"))
		assert.NotEqual(t, "compute", w.sh("modectl current --refresh"))

		w.sh(`echo 1 > /sys/fs/cgroup/system.slice/elsewhere.service/cgroup.kill
			rm -r /etc/systemd/system/vllm.service.d && systemctl daemon-reload && systemctl restart vllm.service`)
		w.reach("desktop")
		w.requireDesktop()
	})
}

// TestVLLMAsInstancesOfATemplate: one that nobody named is seen, told and stopped.
func TestVLLMAsInstancesOfATemplate(t *testing.T) {
	w := onDesktop(t)
	w.sh(`sed '/^.Install/,$d' /etc/systemd/system/vllm.service > /etc/systemd/system/vllm@.service
		mkdir -p /etc/systemd/system/vllm@stray.service.d
		printf '[Service]\nExecStart=\nExecStart=/usr/local/bin/vllm-standin --listen 127.0.0.1:8001\n' > /etc/systemd/system/vllm@stray.service.d/port.conf
		systemctl disable -q vllm.service && systemctl daemon-reload`)
	w.govern("[vllm.profiles.fast]\nunit = \"vllm@fast.service\"\n[modes.compute]\nvllm_profile = \"fast\"")
	w.reach("compute")
	assert.Equal(t, "active", w.active("vllm@fast.service"))
	assert.Equal(t, "inactive", w.active("vllm.service"))
	assert.Equal(t, "fast", w.signal("ai_profile"))

	w.sh("systemctl start vllm@stray.service")
	w.becomes("degraded-compute")
	out, _ := w.modectl("status")
	assert.Contains(t, out, "vllm-other-profile")
	served := w.sh("systemctl show -p MainPID --value vllm@fast.service")
	w.reach("compute")
	assert.Equal(t, "inactive", w.active("vllm@stray.service"))
	assert.Equal(t, served, w.sh("systemctl show -p MainPID --value vllm@fast.service"), "it was not disturbed")
	w.becomes("compute")
	w.reach("desktop")
	assert.Equal(t, "inactive", w.active("vllm@fast.service"))
	w.requireDesktop()
}

// TestTheSessionOfSomebodyElseIsAskedToo: each person by a hook of their own.
func TestTheSessionOfSomebodyElseIsAskedToo(t *testing.T) {
	w := onDesktop(t)
	w.asksBy(`id -un > /var/tmp/hook.$(id -un)`)
	bobs := logins()["a second desktop"]
	w.sh(bobs.open)
	w.WaitFor(w.ctx, "bob's session", "grep -D skip -ls '^USER="+bed.Bob+"$' /run/systemd/sessions/* | grep -q .")
	out, code := w.AsUser(w.ctx, bed.User, "modectl request --no-ask-password compute")
	assert.NotZero(t, code, "alice may not end bob's: %s", out)
	w.sh("test ! -e /var/tmp/hook.alice && test ! -e /var/tmp/hook.bob")
	w.reach("compute") // root may
	assert.Equal(t, "alice bob", w.sh("cat /var/tmp/hook.alice /var/tmp/hook.bob | paste -sd' '"))
}
