//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/e2e/bed"
)

func TestAMachineThatBootedToItsGraphicalTargetEndsInDesktop(t *testing.T) {
	w := restore(t)
	require.Equal(t, "inactive", w.active("desktop.target"))
	pid := w.CompositorPID(w.ctx)
	w.sh("systemctl start dubniumd.service")
	w.becomes("desktop")
	assert.Equal(t, "active", w.active("desktop.target"))
	assert.Equal(t, true, w.signal("graphical_session_active"))
	assert.Equal(t, pid, w.CompositorPID(w.ctx), "nobody was disturbed")
	assert.Equal(t, "boot", w.sh(`busctl get-property org.dubnium.Mode1 /org/dubnium/Mode1 org.dubnium.Mode1 DesiredOrigin | tr -d '"' | cut -d' ' -f2`))
}

func TestAGreeterThatWaitsIsDesktop(t *testing.T) {
	w := onDesktop(t)
	w.sh("loginctl terminate-user alice")
	w.WaitFor(w.ctx, "a greeter", "grep -D skip -qx CLASS=greeter /run/systemd/sessions/*")
	assert.Equal(t, false, w.signal("graphical_session_active"))
	assert.Equal(t, true, w.signal("greeter_active"))
	assert.Equal(t, "desktop", w.current())
}

func TestComputeEndsTheSessionAndDesktopBringsItBack(t *testing.T) {
	w := onDesktop(t)
	compositor := w.CompositorPID(w.ctx)
	require.Contains(t, w.displayHolders(), w.VM.Flavour.Compositor)
	out, code := w.modectl("request compute --reason training")
	require.Zero(t, code, out)
	w.WaitProcessEnd(w.ctx, compositor)
	w.requireCompute()
	assert.Equal(t, "compute", w.current())
	assert.Equal(t, "compute", w.sh("cat /run/mode-controller/desired"))
	assert.Equal(t, "success", w.last().Result)

	t.Run("the audio probe goes with the person", func(t *testing.T) {
		w := w.within(t)
		w.WaitUnit(w.ctx, "dubnium-probe-audio@1000.socket", "inactive")
		w.WaitUnit(w.ctx, "dubnium-probe-audio@1000.service", "inactive")
	})
	t.Run("requests in flight keep compute", func(t *testing.T) {
		w := w.within(t)
		load := func(n int) string {
			return fmt.Sprintf(`vllm-standin --control /run/vllm-standin.sock --tell '{"running":[%d]}'`, n)
		}
		w.sh(load(1))
		out, code := w.modectl("request desktop")
		assert.Equal(t, 52, code, "they do not end: %s", out)
		w.requireCompute()
		w.sh(load(0))
	})

	w.reach("desktop")
	w.requireDesktop()
	w.becomes("desktop") // once the audio stack of the person who is back runs
	w.WaitUnit(w.ctx, "dubnium-probe-audio@1000.socket", "active")
	w.evidence("audio_stack_running", "true", "answers")
	assert.Equal(t, 3, strings.Count(w.sh(`grep -E '"to":"(compute|desktop)".*"origin":"operator"' /var/lib/mode-controller/events.jsonl`), "\n")+1)
	history := w.sh("modectl history")
	assert.Contains(t, history, "training")
}

func TestStudioLocalLeavesTheCompositorAlone(t *testing.T) {
	w := onDesktop(t)
	compositor := w.CompositorPID(w.ctx)
	w.reach("studio-local")
	assert.Equal(t, "studio-local", w.current())
	assert.Equal(t, compositor, w.CompositorPID(w.ctx))
	helper := w.sh("systemctl show -p MainPID --value audio-priority.service")
	assert.Contains(t, w.sh("readlink /proc/"+helper+"/fd/*"), "/dev/cpu_dma_latency", "the latency is held")

	w.reach("desktop")
	assert.Equal(t, "desktop", w.current())
	assert.Equal(t, compositor, w.CompositorPID(w.ctx))
	assert.Equal(t, "inactive", w.active("audio-priority.service"))
	assert.Equal(t, "inactive", w.active("studio-local-policy.service"))
}

func TestTheControllerUnitsAskAsAnOperatorWould(t *testing.T) {
	w := onDesktop(t)
	w.sh("systemctl start mode-controller@studio-local.service")
	assert.Equal(t, "studio-local", w.current())
	w.sh("systemctl start mode-observe.service")
	w.sh("systemctl start mode-controller@desktop.service")
	assert.Equal(t, "desktop", w.current())
	if soaking {
		w.sh("systemctl start mode-controller@compute.service")
		w.requireCompute()
		w.sh("systemctl start mode-controller@desktop.service")
		w.requireDesktop()
	}
}

// follows checks that a change of the host reaches whoever listens to the daemon.
func (w *workstation) follows() {
	w.t.Helper()
	watch := w.Watch(w.ctx, "type='signal',interface='org.dubnium.Mode1',member='StateChanged'")
	becomes := func(state string) func(bed.Signal) bool {
		return func(s bed.Signal) bool { return s.Args[1] == state }
	}
	started := time.Now()
	w.sh("systemctl start vllm.service")
	w.Await(w.ctx, watch, becomes("degraded-desktop"))
	w.t.Logf("degraded-desktop after %s", time.Since(started))
	w.sh("systemctl stop vllm.service")
	w.Await(w.ctx, watch, becomes("desktop"))
}

// What the daemon listens to may begin anew under it.
func TestTheStateIsFollowedAcrossRestartsOfTheHostsServices(t *testing.T) {
	w := onDesktop(t)
	restarts := []string{"daemon-reexec"}
	if soaking {
		restarts = append(restarts, "daemon-reload", "restart systemd-logind.service")
	}
	for _, restart := range restarts {
		t.Run(restart, func(t *testing.T) {
			w := w.within(t)
			w.sh("systemctl " + restart)
			w.follows()
			// (wlroots does not survive that logind forgets which devices it gave it.)
			w.WaitFor(w.ctx, "the state to be the machine's", `
				there=false; grep -D skip -ls '^CLASS=user$' /run/systemd/sessions/* | xargs -r grep -qs '^TYPE=wayland' && there=true
				modectl current --json --refresh | grep -q "\"graphical_session_active\": $there"`)
			w.becomes("desktop")
		})
	}
}
