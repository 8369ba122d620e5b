//go:build e2e && soak

package e2e

import (
	"testing"

	"github.com/stretchr/testify/assert"
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
