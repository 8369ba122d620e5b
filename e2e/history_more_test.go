//go:build e2e && soak

package e2e

import (
	"strconv"
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
	// The policy ends in the section of the guards; one of them would not let it come to this.
	w.sh("echo min_free_mib = 0 >> /etc/dubnium/policy.toml && systemctl stop dubniumd && mount -t tmpfs -o size=128k,mode=0750 tmpfs " + state +
		" && systemctl start dubniumd")
	w.becomes("desktop")
	w.reach("studio-local")

	for name, c := range map[string]struct{ breaks, mends, says string }{
		"full":      {"dd if=/dev/zero of=" + state + "/filler bs=1k 2>/dev/null || true", "rm " + state + "/filler", "no space left on device"},
		"read-only": {"mount -o remount,ro " + state, "mount -o remount,rw " + state, "read-only file system"},
	} {
		t.Run(name, func(t *testing.T) {
			w := w.within(t)
			w.sh(c.breaks)
			// What room the last block of the history has is used up first.
			w.sh("for i in $(seq 20); do modectl request desktop; modectl status | grep -q history-not-written && exit 0; done; exit 1")
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
			assert.NotEmpty(t, w.sh("journalctl -u dubniumd MESSAGE_ID=25a11bbc95724ef99c268e387251845c -o cat"))

			w.sh(c.mends)
			w.reach("desktop")
			assert.NotContains(t, w.sh("modectl status"), "history-not-written")
			require.Equal(t, "1", w.sh(`grep '"event":"outcome"' `+state+`/events.jsonl | grep -c '"id":`+strconv.FormatUint(failed, 10)+`,'`), "nothing is forgotten")
			w.reach("studio-local")
		})
	}
}
