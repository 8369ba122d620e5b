//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
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
		"dubniumd owns org.dubnium.Mode1 and answers", "dubnium-probe-audio@0.service is as it should be",
		"polkit answers and knows all 8 actions", "/var/lib/mode-controller is there, and only root can change it",
		"the holders probe answers", "the audio of uid 1000 can be seen", "0 failed, 0 not seen",
	} {
		assert.Contains(t, out, says)
	}
	out, code = w.AsUser(w.ctx, "alice", "modectl doctor")
	assert.Zero(t, code, out)
	assert.Contains(t, out, "run modectl doctor as root", "she cannot look into the state directory")

	w.sh("chmod 777 /var/lib/mode-controller && systemctl mask -q --now dubnium-probe-inference.socket")
	out, code = w.modectl("doctor")
	assert.Equal(t, 51, code, out)
	assert.Contains(t, out, "dubnium-probe-inference.socket is masked")
	assert.Contains(t, out, "others than root can change /var/lib/mode-controller")
	w.sh("systemctl stop dubniumd")
	out, code = w.modectl("doctor")
	assert.Equal(t, 41, code, out)
	assert.Contains(t, out, "systemctl start dubniumd")
}

// TestATransitionCanBeToldAfterwards: by modectl, by the file, and by the systemd
// journal, which has its fields and explains it.
func TestATransitionCanBeToldAfterwards(t *testing.T) {
	w := onDesktop(t)
	_, code := w.AsUser(w.ctx, "bob", "modectl request compute --no-ask-password")
	require.Equal(t, 40, code)
	w.reach("studio-local")
	id := w.last().ID
	story := w.sh(fmt.Sprintf("modectl show %d", id))
	assert.Contains(t, story, fmt.Sprintf("transition %d: desktop -> studio-local, success", id))
	assert.Contains(t, story, "by uid 0 (root), by right of bus credentials")
	assert.Regexp(t, `\+[0-9.]+ s  start-audio-priority was done after [0-9.]+m?s`, story)
	assert.Contains(t, story, "studio-local reached")
	assert.Equal(t, story, w.sh("modectl last-transition"))

	w.WaitFor(w.ctx, "the journal to have it", fmt.Sprintf("journalctl -u dubniumd DUBNIUM_TRANSITION=%d DUBNIUM_RESULT=success -o cat | grep -q .", id))
	kinds := map[string]string{}
	for line := range strings.Lines(w.sh(fmt.Sprintf("journalctl -u dubniumd DUBNIUM_TRANSITION=%d -o json", id))) {
		var fields map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &fields))
		assert.Equal(t, "studio-local", fields["DUBNIUM_MODE"], line)
		assert.Equal(t, "dubniumd", fields["SYSLOG_IDENTIFIER"])
		if kind, is := fields["MESSAGE_ID"].(string); is {
			kinds[kind] = fmt.Sprint(fields["MESSAGE"])
		}
	}
	assert.Contains(t, kinds["64957966c49d406c8fce00cf5146e1e6"], "request accepted")
	assert.Contains(t, kinds["356c2dbd92a9463c9bffd86810b54bc0"], "transition ended")
	assert.NotEmpty(t, w.sh("journalctl -u dubniumd DUBNIUM_STEP=start-audio-priority -o cat"))
	assert.Contains(t, w.sh("journalctl -u dubniumd MESSAGE_ID=fde6d51a03ac44769439546ed165fca7 -o cat"), "(bob)")
	w.sh("journalctl --update-catalog")
	assert.Contains(t, w.sh("journalctl -x -u dubniumd MESSAGE_ID=356c2dbd92a9463c9bffd86810b54bc0"), "Mode studio-local was reached")

	refused := w.sh(`grep '"event":"refused"' /var/lib/mode-controller/events.jsonl`)
	assert.Contains(t, refused, "(bob)")
	assert.Regexp(t, `"reason":"(AccessDenied|InteractiveAuthorizationRequired)"`, refused)
	assert.Equal(t, "640 root", w.sh("stat -c '%a %U' /var/lib/mode-controller/events.jsonl"))
}
