//go:build integration

package integration

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/internal/testhost"
)

// From a change of a unit on the host to StateChanged at a client: the signal,
// the look, the files under /run, and the signal.
func TestAChangeOfTheHostIsToldSoon(t *testing.T) {
	w := start(t, testhost.Options{}, nil)
	c := watch(t, w)
	const changes = 200
	took := make([]time.Duration, 0, changes)
	states := map[string]string{"active": "degraded-desktop", "inactive": "desktop"}
	for i := range changes {
		to := []string{"active", "inactive"}[i%2]
		began := time.Now()
		require.NoError(t, w.SetActive("audio-priority.service", to))
		c.await(t, "it is told", func(e status.Event) bool {
			return e.StateChanged != nil && string(e.StateChanged.New) == states[to]
		})
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	p50, p99 := took[changes/2], took[changes*99/100]
	t.Logf("p50 %s, p99 %s, slowest %s", p50, p99, took[changes-1])
	require.Less(t, p50, 250*time.Millisecond)
	require.Less(t, p99, 2*time.Second)
}
