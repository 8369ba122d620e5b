//go:build e2e && soak

package e2e

// The bed's own promises that cost a boot. Of `make e2e`, TestAfterARebootTheMachineEndsInDesktop rests on the first
// and the making of the image on the second.

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/dubnium/dubnium/e2e/bed"
)

func TestARebootComesBackWithWhatWasPushed(t *testing.T) {
	m := bed.Restore(t)
	ctx := t.Context()
	m.PutBytes(ctx, []byte("[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=graphical.target\n"),
		"/etc/systemd/system/pushed.service", 0o644)
	m.Run(ctx, "systemctl", "enable", "pushed.service")
	before := m.VM.BootID()
	p := m.Start(ctx, "sleep 1000")

	began := time.Now()
	m.Reboot(ctx)
	t.Logf("rebooted in %.1f s", time.Since(began).Seconds())
	assert.NotEqual(t, before, m.VM.BootID())
	_, err := p.Wait(ctx)
	assert.Error(t, err, "nothing of the earlier boot is left")

	long, cancel := context.WithTimeout(ctx, 6*time.Minute)
	defer cancel()
	m.WaitUnit(long, "pushed.service", "active")
	m.WaitDesktop(long)
	t.Logf("desktop after %.1f s", time.Since(began).Seconds())
}

func TestAColdBootReachesTheDesktop(t *testing.T) {
	m := bed.Boot(t)
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	m.WaitUnit(ctx, "graphical.target", "active")
	m.WaitDesktop(ctx)
}
