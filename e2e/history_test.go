//go:build e2e

package e2e

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestTheDoctorIsContent: on a machine that is well nothing fails, for root and for
// somebody else; what is broken then is named.
func TestTheDoctorIsContent(t *testing.T) {
	w := onDesktop(t)
	w.audioKnown()
	out, code := w.modectl("doctor")
	require.Zero(t, code, out)
	for _, says := range []string{
		"dubniumd owns org.dubnium.Mode1 and answers", "dubnium-probe-audio@0.service is set up",
		"polkit answers and has all 8 actions", "/var/lib/mode-controller exists, and only root can change it",
		"the holders probe answers", "the audio server of uid 1000 is readable", "0 failures, 0 unseen",
	} {
		assert.Contains(t, out, says)
	}
	if !soaking {
		return
	}
	out, code = w.AsUser(w.ctx, "alice", "modectl doctor")
	assert.Zero(t, code, out)
	assert.Contains(t, out, "run modectl doctor as root", "she cannot look into the state directory")

	w.sh("chmod 777 /var/lib/mode-controller && systemctl mask -q --now dubnium-probe-inference.socket")
	out, code = w.modectl("doctor")
	assert.Equal(t, 51, code, out)
	assert.Contains(t, out, "dubnium-probe-inference.socket is masked")
	assert.Contains(t, out, "users other than root can change /var/lib/mode-controller")
	w.sh("systemctl stop dubniumd")
	out, code = w.modectl("doctor")
	assert.Equal(t, 41, code, out)
	assert.Contains(t, out, "systemctl start dubniumd")
}
