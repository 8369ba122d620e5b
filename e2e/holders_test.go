//go:build e2e

package e2e

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// reaches tells what of the host may be written to, by the ways that lead there from
// its processes, and that these can be looked at.
const reaches = `for file in /proc/1/mem /proc/1/root/proc/1/mem /proc/1/root/etc/hostname /proc/1/cwd/etc/hostname \
	/proc/1/root/proc/sys/kernel/core_pattern /proc/self/oom_score_adj; do
	(exec 3<>"$file") 2>/dev/null && echo "writes $file"
done
readlink /proc/1/fd/0 /proc/$(pgrep -o -x dubniumd)/fd/0 >/dev/null && ls /proc/1/root/root >/dev/null && echo sees
`

// TestTheHoldersProbeSeesAllAndWritesNothing: from its sandbox, whose capabilities lead
// past what is mounted read-only in it.
func TestTheHoldersProbeSeesAllAndWritesNothing(t *testing.T) {
	w := onDesktop(t)
	w.part("in its sandbox", func(w *workstation) {
		w.PutBytes(w.ctx, []byte(reaches), "/run/reaches", 0o644)
		w.sh(`sed -e 's#^ExecStart=.*#ExecStart=/bin/sh /run/reaches\nStandardOutput=file:/run/reached#' -e s/^Type=.*/Type=oneshot/ \
			/usr/lib/systemd/system/dubnium-probe-holders.service >/run/systemd/system/reaches.service
			systemctl daemon-reload && systemctl start reaches.service`)
		require.Equal(t, "sees", w.sh("cat /run/reached"))
	})
	w.part("what policy needs", func(w *workstation) {
		seen := w.snapshot().Processes
		require.True(w.t, seen.Known(), seen.Reason)
		assert.Empty(w.t, seen.Unseen)
		assert.True(w.t, seen.Jobs.Complete, seen.Jobs.Reason)
		assert.Empty(w.t, seen.Jobs.Unread)
		require.NotEmpty(w.t, seen.Directories)
		for _, store := range seen.Directories {
			assert.Empty(w.t, store.Fault+store.Reason)
		}
	})
	w.part("somebody with millions of open files", func(w *workstation) {
		w.sh(`systemd-run -q --unit=many --uid=bob -p Type=notify -p NotifyAccess=all -p LimitNOFILE=20000 bash -c '
			for i in $(seq 19000); do exec {file}</dev/zero; done
			for i in $(seq 300); do sleep infinity & done
			systemd-notify --ready; wait'`)
		seen := w.snapshot().Processes
		require.True(w.t, seen.Known(), seen.Reason)
		require.Len(w.t, seen.Unseen, 1, "%+v", seen.Unseen)
		assert.Equal(w.t, "many.service", seen.Unseen[0].Unit)
		assert.EqualValues(w.t, 1001, seen.Unseen[0].UID)
		assert.NotEmpty(w.t, seen.Holders)
		assert.True(w.t, seen.Jobs.Complete, seen.Jobs.Reason)
		w.sh("systemctl stop many.service")
		assert.Empty(w.t, w.snapshot().Processes.Unseen)
	})
}
