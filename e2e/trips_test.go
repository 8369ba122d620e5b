//go:build e2e && soak

package e2e

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestRoundTripsInARow: none is lost.
func TestRoundTripsInARow(t *testing.T) {
	w := onDesktop(t)
	for range 10 {
		w.reach("compute")
		w.requireCompute()
		w.reach("desktop")
		w.requireDesktop()
	}
	assert.Empty(t, w.sh("systemctl --failed --no-legend --plain | grep -E 'dubnium|greetd|vllm' || true"))
}
