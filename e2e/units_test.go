//go:build e2e

package e2e

import (
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestModesAreAskedForByUnits goes to compute and back with the units that an
// operator, a timer or another unit may start, from within their sandboxes.
func TestModesAreAskedForByUnits(t *testing.T) {
	w := onDesktop(t)
	w.audioKnown()
	started := w.sh("systemctl show -p InvocationID --value dubniumd.service")

	w.sh("systemctl start mode-controller@compute.service")
	w.requireCompute()
	w.sh("systemctl start mode-observe.service")
	w.journalHas(`-b -o cat -u mode-observe.service`, `"observed_state": "compute"`)
	w.sh("systemctl start mode-controller@desktop.service")
	w.requireDesktop()

	for _, unit := range []string{"mode-controller@nonsense.service", "mode-controller@--help.service"} {
		_, code := w.Sh(w.ctx, "systemctl start "+unit)
		assert.NotZero(t, code, unit)
		assert.Equal(t, "30", w.sh("systemctl show -p ExecMainStatus --value "+unit), "misuse: %s is no mode", unit)
	}

	assert.Equal(
		t, started, w.sh("systemctl show -p InvocationID --value dubniumd.service"), "it is the same daemon still",
	)
	peak, most := w.bytes("dubniumd.service", "MemoryPeak"), w.bytes("dubniumd.service", "MemoryMax")
	t.Logf("dubniumd took up to %d KiB of memory", peak>>10)
	assert.Less(t, peak, most/4, "the limit is for what goes wrong")
}

// bytes is a property of a unit that is an amount of memory.
func (w *workstation) bytes(unit, property string) uint64 {
	w.t.Helper()
	n, err := strconv.ParseUint(w.sh("systemctl show -p "+property+" --value "+unit), 10, 64)
	require.NoError(w.t, err)
	return n
}

// writable lists the directories that whoever runs it may write to, shared memory
// aside. Each service has a /tmp of its own, which shows that it has looked.
const writable = `find / -maxdepth 3 \( -path /proc -o -path /sys -o -path '/tmp/*' -o -path '/var/tmp/*' \
	-o -path /dev/shm -o -path /dev/mqueue -o -path /dev/hugepages -o -path /dev/pts \) -prune \
	-o -type d -writable -print 2>/dev/null | sort
`

// TestAServiceWritesOnlyWhereItHasTo has a script look around in the place of each
// service. Which options together make a directory read-only is up to systemd:
// ProtectSystem=strict alone does not do it for /run.
func TestAServiceWritesOnlyWhereItHasTo(t *testing.T) {
	w := onDesktop(t)
	w.sh("systemctl stop dubniumd.service 'dubnium-probe-*'")
	w.PutBytes(w.ctx, []byte(writable), "/run/writable.sh", 0o644)
	services := map[string]string{
		"dubniumd.service":                 "/run/issue.d /run/mode-controller /tmp /var/lib/mode-controller /var/tmp",
		"dubnium-probe-audio@1000.service": "/tmp /var/tmp",
		"dubnium-probe-gpu.service":        "/run/dubnium /tmp /var/tmp",
		"dubnium-probe-holders.service":    "/tmp /var/tmp",
		"dubnium-probe-inference.service":  "/tmp /var/tmp",
		"audio-priority.service":           "/tmp /var/tmp",
		"dubnium-quantum@1000.service":     "/run/dubnium-quantum-1000 /tmp /var/tmp",
		"mode-controller@compute.service":  "/tmp /var/tmp",
		"mode-observe.service":             "/tmp /var/tmp",
		"studio-local-policy.service":      "/tmp /var/tmp",
	}
	for service := range services {
		w.PutBytes(w.ctx, []byte("[Service]\nType=oneshot\nRemainAfterExit=yes\nRestart=no\nWatchdogSec=0\nExecStopPost=\n"+
			"ExecStart=\nExecStart=/bin/sh /run/writable.sh\nStandardOutput=truncate:/run/"+service+".seen\n"),
			"/run/systemd/system/"+service+".d/look.conf", 0o644)
	}
	w.sh("systemctl daemon-reload")
	for service, want := range services {
		w.sh("systemctl start " + service)
		assert.Equal(t, want, strings.Join(strings.Fields(w.sh("cat /run/"+service+".seen")), " "), service)
	}
}
