//go:build e2e && soak

package e2e

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/e2e/bed"
)

// service writes a unit file; nothing of it runs yet.
func (w *workstation) service(name, text string) {
	w.t.Helper()
	w.PutBytes(w.ctx, []byte(text), "/etc/systemd/system/"+name, 0o644)
	w.sh("systemctl daemon-reload")
}

// during runs a script as the step on the way to compute begins, and returns what
// `modectl request` said and its exit code.
func (w *workstation) during(step, script string) (out string, code int) {
	w.t.Helper()
	w.audioKnown()
	watch := w.Watch(w.ctx, "type='signal',interface='org.dubnium.Mode1',member='TransitionStep'")
	request := w.Start(w.ctx, "exec modectl request compute")
	w.Await(w.ctx, watch, func(s bed.Signal) bool { return s.Args[3] == step && s.Args[4] == "doing" })
	w.sh(script)
	code, err := request.Wait(w.ctx)
	require.NoError(w.t, err)
	return request.Output().Both, code
}

// recovers: `modectl request desktop` is all that it takes.
func (w *workstation) recovers() {
	w.t.Helper()
	w.requireTruth()
	w.reach("desktop")
	w.requireDesktop()
}

// quickly shortens what a transition waits for a step.
func (w *workstation) quickly() {
	w.t.Helper()
	w.sh(`sed -i -e 's/^start_timeout = .*/start_timeout = "6s"/' -e 's/^\[timeouts\]$/&\nisolate = "10s"/' /etc/dubnium/policy.toml
		modectl policy check /etc/dubnium/policy.toml && systemctl reload dubniumd`)
}

// The way to compute is blocked by what only shows once it has begun. Each time the
// desktop is back, by the machine's own tools, and it is said that it was rolled back.
func TestWhatFailsOnTheWayToComputeIsTakenBack(t *testing.T) {
	cases := map[string]struct {
		unit, text string
		begin, end string
		says       string
	}{
		"a start job that hangs": {
			unit: "vllm.service.d/hangs.conf", text: "[Service]\nType=notify\nTimeoutStartSec=infinity\nExecStart=\nExecStart=/bin/sleep infinity\n",
			end: "rm /etc/systemd/system/vllm.service.d/hangs.conf; systemctl daemon-reload", says: "vllm",
		},
		"a start job that fails": {
			unit: "vllm.service.d/fails.conf", text: "[Service]\nExecStartPre=/bin/false\n",
			end: "rm /etc/systemd/system/vllm.service.d/fails.conf; systemctl daemon-reload", says: "vllm",
		},
		"a start job that systemd gives up": {
			unit: "vllm.service.d/late.conf", text: "[Service]\nType=notify\nTimeoutStartSec=2\nExecStart=\nExecStart=/bin/sleep infinity\n",
			end: "rm /etc/systemd/system/vllm.service.d/late.conf; systemctl daemon-reload", says: "vllm",
		},
		"a holder of the GPU that never lets go": {
			unit: "holder.service", text: "[Unit]\nIgnoreOnIsolate=yes\n[Service]\nType=exec\nExecStart=/bin/sh -c 'exec 3<>/dev/dri/renderD128; exec sleep infinity'\n",
			begin: `systemctl start holder.service
				until ls -l /proc/$(systemctl show -p MainPID --value holder.service)/fd | grep -q renderD128; do :; done`,
			end: "systemctl stop holder.service", says: "holder.service",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			w := onDesktop(t)
			w.quickly()
			w.service(c.unit, c.text)
			if c.begin != "" {
				w.sh(c.begin)
			}
			w.audioKnown()
			out, code := w.modectl("request compute")
			require.NotZero(t, code, out)
			assert.Contains(t, out, c.says)
			assert.Contains(t, []string{"rolled-back", "blocked"}, w.last().Result, "%+v", w.last())
			w.requireDesktop()
			w.sh(c.end)
			w.recovers()
		})
	}
}

// TestAUnitThatRefusesToStopIsTold: compute is there all the same, by every fact that
// makes it up; to end vLLM for somebody else's unit would help nobody.
func TestAUnitThatRefusesToStopIsTold(t *testing.T) {
	w := onDesktop(t)
	w.quickly()
	w.service("stubborn.service", "[Unit]\nDefaultDependencies=no\n[Service]\nType=exec\nTimeoutStopSec=infinity\n"+
		"ExecStart=/bin/sh -c 'trap \"\" TERM; while :; do sleep 1000; done'\n")
	w.sh("systemctl start stubborn.service")
	w.audioKnown()
	out, code := w.modectl("request compute")
	require.Zero(t, code, out)
	assert.Contains(t, out, "running jobs: stubborn.service (stop)")
	w.requireCompute()
	assert.Equal(t, "deactivating", w.active("stubborn.service"))
	w.sh("systemctl kill -s KILL stubborn.service")
	w.recovers()
}

// What others do while a transition runs: whatever is claimed afterwards is true, and a
// request for the desktop mends it.
func TestWhatOthersDoInTheMiddleIsNotHidden(t *testing.T) {
	for name, c := range map[string]struct{ step, script string }{
		"another target is isolated by hand":     {"await-vllm-healthy", "systemctl isolate --no-block desktop.target"},
		"a rescue by hand":                       {"isolate-compute", "systemctl isolate --no-block multi-user.target"},
		"the manager is executed again":          {"isolate-compute", "systemctl daemon-reexec"},
		"the manager reads its units again":      {"end-sessions", "systemctl daemon-reload"},
		"the display manager is started again":   {"check-gpu-display-released", "systemctl start --no-block greetd.service"},
		"somebody stops the model while it goes": {"await-vllm-healthy", "systemctl stop --no-block vllm.service"},
		"somebody stops the daemon":              {"await-vllm-healthy", "systemctl restart --no-block dubniumd.service"},
	} {
		t.Run(name, func(t *testing.T) {
			w := onDesktop(t)
			w.quickly()
			w.standin("--healthy-after 2s")
			out, code := w.during(c.step, c.script)
			t.Logf("%d: %s", code, out)
			w.WaitFor(w.ctx, "it to be over", `modectl status >/dev/null && [ ! -e /var/lib/mode-controller/transition.json ] && [ -z "$(systemctl list-jobs --no-legend)" ]`)
			last := w.last()
			t.Logf("%s, ended in %s: %s", last.Result, last.Final, last.Cause)
			if code == 0 {
				assert.Equal(t, "success", last.Result)
			}
			w.recovers()
		})
	}
}

// A unit that somebody has written to start the display manager again and again keeps
// compute away, or compute is there without it; never both.
func TestADisplayManagerThatComesBack(t *testing.T) {
	w := onDesktop(t)
	w.quickly()
	w.service("again.service", "[Unit]\nIgnoreOnIsolate=yes\nDefaultDependencies=no\nStartLimitIntervalSec=0\n"+
		"[Service]\nType=exec\nRestart=always\nRestartSec=200ms\nExecStart=/usr/bin/systemctl start greetd.service\n")
	w.sh("systemctl start --no-block again.service")
	w.audioKnown()
	out, code := w.modectl("request compute")
	t.Logf("%d: %s", code, out)
	last := w.last()
	t.Logf("%s, ended in %s: %s", last.Result, last.Final, last.Cause)
	if code == 0 {
		w.sh("systemctl stop again.service")
	}
	w.requireTruth()
	w.sh("systemctl stop again.service")
	w.recovers()
}

// A machine that is restarted in the middle comes up in its default mode, and says
// what was interrupted.
func TestARebootInTheMiddle(t *testing.T) {
	w := onDesktop(t)
	w.standin("--healthy-after 60s")
	w.audioKnown()
	watch := w.Watch(w.ctx, "type='signal',interface='org.dubnium.Mode1',member='TransitionStep'")
	w.Start(w.ctx, "exec modectl request compute")
	w.Await(w.ctx, watch, func(s bed.Signal) bool { return s.Args[3] == "await-vllm-healthy" && s.Args[4] == "doing" })
	w.Reboot(w.ctx)
	w.WaitFile(w.ctx, "/run/mode-controller/current")
	w.becomes("desktop")
	w.requireDesktop()
	assert.Contains(t, w.sh("modectl history"), "interrupted")
	assert.Equal(t, "desktop", w.sh("modectl desired"))
	w.recovers()
}
