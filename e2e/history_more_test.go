//go:build e2e && soak

package e2e

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestADiskThatTakesNothing: the state directory is full, then read-only. That is
// said, nothing is done that the journal could not announce, and all is written
// down once that is possible.
func TestADiskThatTakesNothing(t *testing.T) {
	w := onDesktop(t)
	const state = "/var/lib/mode-controller"
	// One of the guards would not let it come to this.
	w.sh("sed -i 's/^.guards.$/&\\nmin_free_mib = 0/' /etc/dubnium/policy.toml && modectl policy check /etc/dubnium/policy.toml && systemctl stop dubniumd && mount -t tmpfs -o size=128k,mode=0750 tmpfs " + state +
		" && systemctl start dubniumd")
	w.becomes("desktop")
	w.reach("studio-local")

	for name, c := range map[string]struct{ breaks, mends, says string }{
		"full": {
			"dd if=/dev/zero of=" + state + "/filler bs=1k 2>/dev/null || true", "rm " + state + "/filler",
			"no space left on device",
		},
		"read-only": {"mount -o remount,ro " + state, "mount -o remount,rw " + state, "read-only file system"},
	} {
		t.Run(name, func(t *testing.T) {
			w := w.within(t)
			w.sh(c.breaks)
			// What room the last block of the history has is used up first.
			w.sh(
				"for i in $(seq 20); do modectl request desktop; modectl status | grep -q history-not-written && exit 0; done; exit 1",
			)
			out, code := w.modectl("request desktop")
			assert.Equal(t, 51, code, out)
			assert.Contains(t, out, "transition.json")
			assert.Contains(t, out, c.says)
			assert.Equal(t, "active", w.active("studio-local-policy.service"), "nothing was done")
			assert.Equal(t, "active", w.active("audio-priority.service"))
			failed := w.last().ID
			assert.Contains(t, w.sh("modectl history --limit 1"), "failed", "it is in memory")
			out, code = w.modectl("doctor")
			assert.Contains(t, out, "dubniumd warns: history-not-written")
			assert.NotEqual(t, 41, code, "the daemon lives")
			w.journalHas("-o cat -u dubniumd MESSAGE_ID=25a11bbc95724ef99c268e387251845c", "")

			w.sh(c.mends)
			w.reach("desktop")
			assert.NotContains(t, w.sh("modectl status"), "history-not-written")
			require.Equal(t, "1", w.sh(`grep '"event":"outcome"' `+state+`/events.jsonl | grep -c '"id":`+strconv.FormatUint(failed, 10)+`,'`), "nothing is forgotten")
			w.reach("studio-local")
		})
	}
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
	assert.Contains(t, story, "by uid 0 (root), authorized as root")
	assert.Regexp(t, `\+[0-9.]+ s  start-audio-priority done in [0-9.]+ s`, story)
	assert.Contains(t, story, "studio-local reached")
	assert.Equal(t, story, w.sh("modectl last-transition"))

	w.journalHas(fmt.Sprintf("-o cat -u dubniumd DUBNIUM_TRANSITION=%d DUBNIUM_RESULT=success", id), "")
	kinds := map[string]string{}
	for line := range strings.Lines(w.journal(fmt.Sprintf("-u dubniumd DUBNIUM_TRANSITION=%d -o json", id))) {
		var fields map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &fields))
		assert.Equal(t, "studio-local", fields["DUBNIUM_MODE"], line)
		assert.Equal(t, "dubniumd", fields["SYSLOG_IDENTIFIER"])
		if kind, ok := fields["MESSAGE_ID"].(string); ok {
			kinds[kind] = fmt.Sprint(fields["MESSAGE"])
		}
	}
	assert.Contains(t, kinds["64957966c49d406c8fce00cf5146e1e6"], "request accepted")
	assert.Contains(t, kinds["356c2dbd92a9463c9bffd86810b54bc0"], "transition ended")
	w.journalHas("-o cat -u dubniumd DUBNIUM_STEP=start-audio-priority", "")
	w.journalHas("-o cat -u dubniumd MESSAGE_ID=fde6d51a03ac44769439546ed165fca7", "(bob)")
	w.sh("journalctl --update-catalog")
	w.journalHas("-x -u dubniumd MESSAGE_ID=356c2dbd92a9463c9bffd86810b54bc0", "Mode studio-local was reached")

	refused := w.sh(`grep '"event":"refused"' /var/lib/mode-controller/refusals.jsonl`)
	assert.Contains(t, refused, "(bob)")
	assert.Regexp(t, `"reason":"(AccessDenied|InteractiveAuthorizationRequired)"`, refused)
	assert.Equal(t, "640 root", w.sh("stat -c '%a %U' /var/lib/mode-controller/events.jsonl"))
}
