//go:build e2e && soak

package e2e

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestAnAudioServerThatDiesDegradesTheDesktopAndItsReturnMendsIt(t *testing.T) {
	w := onDesktop(t)
	w.userctl("stop pipewire-pulse.socket pipewire-pulse.service")
	w.becomes("degraded-desktop")
	assert.Equal(t, false, w.signal("audio_stack_running"))
	w.userctl("start pipewire-pulse.socket")
	w.becomes("desktop")

	w.sh("pkill -KILL -u alice -x pipewire-pulse") // systemd starts it again
	w.evidence("audio_stack_running", "true", "answers")
	w.becomes("desktop")

	w.sh("systemctl kill --signal=KILL dubnium-probe-audio@1000.service")
	w.evidence("audio_stack_running", "true", "answers")
	w.becomes("desktop")
}
