//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/daemon/status"
)

func TestAMachineThatBootedToItsGraphicalTargetEndsInDesktop(t *testing.T) {
	w := onDesktop(t)
	w.sh("systemctl stop dubniumd.service desktop.target && rm -r /run/mode-controller/*")
	pid := w.CompositorPID(w.ctx)
	w.sh("systemctl start dubniumd.service")
	w.becomes("desktop")
	assert.Equal(t, "active", w.active("desktop.target"))
	assert.Equal(t, true, w.signal("graphical_session_active"))
	assert.Equal(t, pid, w.CompositorPID(w.ctx), "nobody was disturbed")
	assert.Equal(t, "boot", w.sh(`busctl get-property org.dubnium.Mode1 /org/dubnium/Mode1 org.dubnium.Mode1 DesiredOrigin | tr -d '"' | cut -d' ' -f2`))

	w.part("a greeter that waits is desktop", func(w *workstation) {
		w.sh("loginctl terminate-user alice")
		w.WaitFor(w.ctx, "a greeter", "grep -D skip -qx CLASS=greeter /run/systemd/sessions/*")
		assert.Equal(w.t, false, w.signal("graphical_session_active"))
		assert.Equal(w.t, true, w.signal("greeter_active"))
		assert.Equal(w.t, "desktop", w.current())
	})
}

// TestComputeEndsTheSessionAndDesktopBringsItBack: the main job, from the plan that is
// shown to the desktop that is there again.
func TestComputeEndsTheSessionAndDesktopBringsItBack(t *testing.T) {
	w := onDesktop(t)
	w.audioKnown()
	compositor := w.CompositorPID(w.ctx)
	require.Contains(t, w.displayHolders(), w.VM.Flavour.Compositor)
	w.sh("systemd-run -q --unit=extra.service sleep infinity")
	var plan status.Preview
	w.part("the plan is shown without a trace", func(w *workstation) { plan = w.shownWithoutATrace("compute") })
	w.part("it is carried out", func(w *workstation) {
		out, code := w.modectl("request compute --reason training --plan " + plan.Fingerprint)
		require.Zero(w.t, code, out)
		w.WaitProcessEnd(w.ctx, compositor)
		w.requireCompute()
		assert.Equal(w.t, "compute", w.current())
		assert.Equal(w.t, "compute", w.sh("cat /run/mode-controller/desired"))
		assert.Equal(w.t, "success", w.last().Result)
		assert.NotEqual(w.t, "active", w.active("extra.service"), "as the plan said")
		assert.Equal(w.t, "800 800", w.weights()["ai.slice"])
	})
	w.part("the audio probe goes with the person", func(w *workstation) {
		w.WaitUnit(w.ctx, "dubnium-probe-audio@1000.socket", "inactive")
		w.WaitUnit(w.ctx, "dubnium-probe-audio@1000.service", "inactive")
	})
	w.part("requests in flight keep compute", func(w *workstation) {
		load := func(n int) string {
			return fmt.Sprintf(`vllm-standin --control /run/vllm-standin.sock --tell '{"running":[%d]}'`, n)
		}
		w.sh(load(1))
		out, code := w.modectl("request desktop")
		assert.Equal(w.t, 52, code, "they do not end: %s", out)
		w.requireCompute()
		w.sh(load(0))
	})
	w.part("of two requests at once one runs", func(w *workstation) {
		watch := w.Watch(w.ctx, "type='signal',interface='org.dubnium.Mode1',member='TransitionStarted'")
		first := w.Start(w.ctx, "modectl request desktop --json")
		w.Await(w.ctx, watch, next)
		out, code := w.modectl("request compute")
		assert.Equal(w.t, 42, code, out)
		assert.Equal(w.t, "desktop", w.sh("modectl desired"), "who is refused wishes nothing")
		out, code = w.modectl("request desktop")
		assert.Zero(w.t, code, "the same request joins: %s", out)
		exit, err := first.Wait(w.ctx)
		require.NoError(w.t, err)
		assert.Zero(w.t, exit, first.Output().Both)
	})
	w.requireDesktop()
	w.becomes("desktop") // once the audio stack of the person who is back runs
	w.WaitUnit(w.ctx, "dubnium-probe-audio@1000.socket", "active")
	w.evidence("audio_stack_running", "true", "answers")
	assert.Equal(t, 3, strings.Count(w.sh(`grep -E '"to":"(compute|desktop)".*"origin":"operator"' /var/lib/mode-controller/events.jsonl`), "\n")+1)
	history := w.sh("modectl history")
	assert.Contains(t, history, "training")
}
