//go:build e2e && soak

package e2e

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTheQuantumIsForcedAgainWhenItsUnitIsKilled(t *testing.T) {
	w := onStudioDesktop(t)
	w.quantum("256") // her own
	w.reach("studio-local")
	before := w.sh("systemctl show -p InvocationID --value dubnium-quantum@1000.service")
	w.sh("kill -KILL $(systemctl show -p MainPID --value dubnium-quantum@1000.service)")
	w.WaitFor(w.ctx, "it to be back", `[ "$(systemctl show -p InvocationID --value dubnium-quantum@1000.service)" != `+before+` ] &&
		systemctl is-active -q dubnium-quantum@1000.service`)
	require.Contains(t, w.quantum(""), "value:'128'")
	w.reach("desktop")
	assert.Contains(t, w.quantum(""), "value:'256'")
	assert.Empty(t, w.sh(latencyHolders))
}

func TestWeightsAreTakenBackByAnotherDaemonAndByCompute(t *testing.T) {
	w := onStudioDesktop(t)
	before := w.weights()
	w.reach("studio-local")
	w.sh("systemctl restart dubniumd")
	w.reach("desktop")
	w.weighAs(before)
	w.requireStates(loud)

	w.reach("studio-local")
	w.reach("compute")
	require.Equal(t, "800 800", w.weights()["ai.slice"])
	require.Equal(t, "active", w.active("nix-gc.timer"), "what was quiesced is back, once the sessions have gone")
	w.reach("desktop")
	w.requireDesktop()
	w.weighAs(before)
}

func TestWeightsAfterAFailureAreWhatTheyWere(t *testing.T) {
	w := onStudioDesktop(t)
	before := w.weights()
	w.service("audio-priority.service.d/fails.conf", "[Service]\nExecStart=\nExecStart=/bin/false\n")
	out, code := w.modectl("request studio-local")
	require.Equal(t, 53, code, out)
	w.weighAs(before)
	w.requireStates(loud)
}
