//go:build e2e

package e2e

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

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
