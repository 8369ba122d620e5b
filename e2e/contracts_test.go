//go:build e2e && soak

package e2e

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAForbiddenUnitDegradesAndARequestStopsIt(t *testing.T) {
	w := onDesktop(t)
	w.install("batch.service")
	w.govern("[modes.desktop]\nforbidden = [\"batch.service\"]\nstop_forbidden = true")
	w.becomes("desktop")

	w.sh("systemctl start batch.service")
	w.becomes("degraded-desktop")
	out, _ := w.modectl("status")
	assert.Contains(t, out, "forbidden-unit-active: batch.service runs, which desktop forbids")
	out, _ = w.modectl("explain desktop")
	assert.Contains(t, out, "batch.service must not be running")
	assert.Contains(t, out, "what the policy forbids of these is stopped")

	compositor := w.CompositorPID(w.ctx)
	out, code := w.modectl("request desktop")
	require.Zero(t, code, out)
	assert.Equal(t, "inactive", w.active("batch.service"))
	assert.Equal(t, "desktop", w.current())
	assert.Equal(t, compositor, w.CompositorPID(w.ctx), "nobody was disturbed")
}

// TestARequiredUnitIsStarted: where it is missing, and again once isolating has
// stopped it.
func TestARequiredUnitIsStarted(t *testing.T) {
	w := onDesktop(t)
	w.install("batch.service")
	w.govern("[modes.desktop]\nrequired = [\"batch.service\"]\n[modes.compute]\nrequired = [\"batch.service\"]")
	w.becomes("degraded-desktop")
	w.reach("desktop")
	assert.Equal(t, "active", w.active("batch.service"))
	w.becomes("desktop")

	first := w.sh("systemctl show -p MainPID --value batch.service")
	w.reach("compute")
	w.requireCompute()
	assert.Equal(t, "active", w.active("batch.service"))
	assert.NotEqual(
		t, first, w.sh("systemctl show -p MainPID --value batch.service"),
		"compute.target does not want it: isolating stopped it",
	)

	w.sh("systemctl kill -s KILL batch.service")
	w.becomes("degraded-compute")
	out, _ := w.modectl("status")
	assert.Contains(t, out, "required-unit-not-active: batch.service does not run, which compute requires")
	w.reach("compute")
	assert.Equal(t, "compute", w.current())

	w.sh("systemctl stop batch.service && rm /etc/systemd/system/batch.service && systemctl daemon-reload")
	w.becomes("degraded-compute")
	out, code := w.modectl("request desktop")
	assert.Equal(t, 50, code, "the way to desktop is open, and ends degraded: %s", out)
	w.requireDesktop()
}

// TestComputeRunsInThePolicysProfile: although compute.target wants vllm.service.
func TestComputeRunsInThePolicysProfile(t *testing.T) {
	w := onDesktop(t)
	w.sh(
		"sed '/^.Install/,$d' /etc/systemd/system/vllm.service > /etc/systemd/system/vllm-fast.service && systemctl daemon-reload",
	)
	w.govern("[vllm.profiles.fast]\nunit = \"vllm-fast.service\"\n[modes.compute]\nvllm_profile = \"fast\"")
	w.reach("compute")
	assert.Equal(t, "active", w.active("vllm-fast.service"))
	assert.Equal(t, "inactive", w.active("vllm.service"))
	assert.Equal(t, "fast", w.signal("ai_profile"))
	assert.Equal(t, "compute", w.current())

	w.sh("systemctl stop vllm-fast.service && systemctl start vllm.service")
	w.WaitFor(w.ctx, "the other profile to be told", "modectl status | grep -q vllm-other-profile")
	w.becomes("degraded-compute")
	w.reach("compute")
	assert.Equal(t, "active", w.active("vllm-fast.service"))
	assert.Equal(t, "inactive", w.active("vllm.service"))
	w.reach("desktop")
	assert.Equal(t, "inactive", w.active("vllm-fast.service"))
	w.requireDesktop()
}

// TestAStudioThatIsPlacedElsewhereHasOneWayOut: a reload while it is on.
func TestAStudioThatIsPlacedElsewhereHasOneWayOut(t *testing.T) {
	w := onDesktop(t)
	w.reach("studio-local")
	w.govern("[placement]\nstudio = \"remote\"")
	w.becomes("degraded-studio-local")
	out, _ := w.modectl("status")
	assert.Contains(t, out, "studio-externalized")
	for _, mode := range []string{"studio-local", "compute"} {
		out, code := w.modectl("request " + mode)
		assert.Equal(t, 19, code, out)
	}
	assert.Equal(t, "active", w.active("studio-local-policy.service"))
	w.reach("desktop")
	assert.Equal(t, "desktop", w.current())
	assert.Equal(t, "inactive", w.active("studio-local-policy.service"))
	assert.JSONEq(t, `{"studio":"remote","ai":"local"}`, w.sh("cat /run/mode-controller/capability-placement.json"))
}

// TestAGPUThatIsOnlyPlannedBreaksNothing: it is told, and compute without it is
// degraded, or whole where policy says so.
func TestAGPUThatIsOnlyPlannedBreaksNothing(t *testing.T) {
	w := onDesktop(t)
	there := w.sh(`grep -A1 '"present"' /run/mode-controller/hardware-topology.json | tail -n 1 | tr -d ' ",'`)
	w.sh("test -d /sys/bus/pci/devices/" + there)
	const planned = "0000:fe:00.0"
	w.govern("[gpu]\nai = [\"" + there + "\", \"" + planned + "\"]\nplanned = [\"" + planned + "\"]")
	w.becomes("desktop")
	w.WaitFor(w.ctx, "the topology to be told", `grep -A1 '"missing"' /run/mode-controller/hardware-topology.json | grep -q `+planned)
	assert.Contains(t, w.sh(`busctl get-property org.dubnium.Mode1 /org/dubnium/Mode1 org.dubnium.Mode1 Topology`), planned)
	assert.Contains(t, w.sh("modectl status"), "missing GPU "+planned)

	w.audioKnown()
	out, code := w.modectl("request compute")
	require.Equal(t, 50, code, out)
	w.requireCompute()
	assert.Contains(t, out, planned)
	w.sh(`sed -i 's,^planned = ,min_ai = 1\n&,' /etc/dubnium/policy.toml && systemctl reload dubniumd.service`)
	w.becomes("compute")
}
