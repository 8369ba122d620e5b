//go:build e2e

package e2e

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/e2e/bed"
)

// override replaces how vllm.service starts.
func (w *workstation) override(exec string) {
	w.t.Helper()
	w.PutBytes(w.ctx, []byte("[Service]\nExecStart=\nExecStart="+exec+"\n"), "/etc/systemd/system/vllm.service.d/test.conf", 0o644)
	w.sh("systemctl daemon-reload")
}

// TestComputeWithoutVLLMIsNotCompute: vLLM that never gets healthy, that ends at
// once, and that cannot even be started.
func TestComputeWithoutVLLMIsNotCompute(t *testing.T) {
	w := onDesktop(t)
	faults := map[string]string{"never healthy": "/usr/local/bin/vllm-standin --listen 127.0.0.1:8000 --never-healthy"}
	if soaking {
		faults["ends at once"], faults["is not installed"] = "/bin/false", "/usr/local/bin/no-such-vllm"
	}
	for name, exec := range faults {
		t.Run(name, func(t *testing.T) {
			w := w.within(t)
			w.override(exec)
			watch := w.Watch(w.ctx, "type='signal',interface='org.dubnium.Mode1'")
			out, code := w.modectl("request compute")
			assert.Equal(t, 53, code, out)
			assert.Contains(t, out, "vllm")
			w.requireDesktop()
			assert.Equal(t, "rolled-back", w.last().Result)
			w.becomes("desktop") // once the audio stack of the person who is back runs
			states := []any{}
			w.Await(w.ctx, watch, func(s bed.Signal) bool {
				if s.Member == "StateChanged" {
					states = append(states, s.Args[1])
				}
				return s.Member == "StateChanged" && s.Args[1] == "desktop"
			})
			assert.NotContains(t, states, "compute")
		})
	}
}

// TestKilledInTheMiddle: dubniumd is killed as a step begins. What claims a mode
// afterwards is true by the machine's own tools, and a request recovers it.
func TestKilledInTheMiddle(t *testing.T) {
	w := onDesktop(t)
	// It takes long enough for its step to be the one that is cut off.
	w.override("/usr/local/bin/vllm-standin --listen 127.0.0.1:8000 --healthy-after 5s")
	type point struct{ from, to, step string }
	points := []point{{"desktop", "compute", "await-vllm-healthy"}}
	if soaking {
		points = append(points, point{"desktop", "compute", "stop-display-manager"}, point{"desktop", "compute", "end-sessions"},
			point{"desktop", "compute", "isolate-compute"}, point{"compute", "desktop", "isolate-desktop"})
	}
	for _, at := range points {
		t.Run(at.to+" in "+at.step, func(t *testing.T) {
			w := w.within(t)
			if at.from != "desktop" {
				w.reach(at.from)
			}
			pid := w.sh("systemctl show -p MainPID --value dubniumd.service")
			watch := w.Watch(w.ctx, "type='signal',interface='org.dubnium.Mode1',member='TransitionStep'")
			request := w.Start(w.ctx, "modectl request "+at.to)
			w.Await(w.ctx, watch, func(s bed.Signal) bool { return s.Args[3] == at.step && s.Args[4] == "doing" })
			w.sh("kill -KILL " + pid)
			exit, err := request.Wait(w.ctx)
			require.NoError(t, err)
			assert.NotZero(t, exit, "nobody is told that it worked: %s", request.Output().Both)
			w.WaitFor(w.ctx, "dubniumd to be back and done",
				`[ "$(systemctl show -p MainPID --value dubniumd)" != `+pid+` ] && modectl status >/dev/null && [ ! -e /var/lib/mode-controller/transition.json ]`)
			last := w.last()
			t.Logf("%s, ended in %s: %s", last.Result, last.Final, last.Cause)
			assert.Contains(t, []string{"interrupted", "rollback-failed"}, last.Result)
			w.requireTruth()
			w.reach("desktop")
			w.requireDesktop()
		})
	}
}

// requireTruth holds whatever the daemon claims against the machine's own tools.
func (w *workstation) requireTruth() {
	w.t.Helper()
	switch state := w.sh("modectl current --refresh"); state {
	case "compute":
		w.requireCompute()
	case "desktop":
		require.Equal(w.t, "active", w.active("desktop.target"))
		require.Equal(w.t, "inactive", w.active("compute.target"))
		require.NotEqual(w.t, "active", w.active("vllm.service"))
		require.Equal(w.t, "active", w.active("greetd.service"))
	default:
		require.False(w.t, strings.HasPrefix(state, "studio"), state)
		w.t.Logf("the state is %s", state)
	}
}

func TestTheUnitsAreSound(t *testing.T) {
	w := restore(t)
	out, code := w.Sh(w.ctx, `cd /usr/lib/systemd/system && systemd-analyze verify --man=no dubniumd.service dubnium-probe-*.socket \
		desktop.target compute.target audio-priority.service dubnium-quantum@1000.service dubnium-session-end@1000.service studio-local-policy.service mode-observe.service mode-controller@desktop.service`)
	assert.Zero(t, code, out)
	assert.Empty(t, strings.TrimSpace(out))
	exposure := w.sh(`systemd-analyze security --no-pager dubniumd.service | sed -n 's/.*exposure level for dubniumd.service: \([0-9.]*\).*/\1/p'`)
	t.Logf("exposure of dubniumd.service: %s", exposure)
	assert.Regexp(t, `^[01]\.`, exposure)
}
