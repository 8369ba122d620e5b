//go:build e2e && soak

package e2e

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/dubnium/dubnium/e2e/bed"
)

func TestAfterARebootTheMachineEndsInDesktop(t *testing.T) {
	w := restore(t)
	w.Reboot(w.ctx)
	w.WaitFile(w.ctx, "/run/mode-controller/current")
	w.becomes("desktop")
	w.requireDesktop()
	assert.Equal(t, "desktop", w.sh("modectl desired"))
	w.sh("systemctl set-default -q desktop.target")
	w.Reboot(w.ctx)
	w.WaitFile(w.ctx, "/run/mode-controller/current")
	w.becomes("desktop")
	w.requireDesktop()
}

func TestStudioLocalToComputeIsOneTransition(t *testing.T) {
	w := onDesktop(t)
	w.reach("studio-local")
	w.underTheUserManager() // compute waits until it has let go, too
	w.reach("compute")
	w.requireCompute()
	assert.Equal(t, "studio-local", w.last().From)
	assert.Equal(t, "inactive", w.active("audio-priority.service"))
	w.reach("studio-local")
	w.WaitCompositor(w.ctx)
	assert.Equal(t, "studio-local", w.current())
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
	for _, restart := range []string{"daemon-reexec", "daemon-reload", "restart systemd-logind.service"} {
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
