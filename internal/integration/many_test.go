//go:build integration && soak

package integration

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/internal/embedded"
	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/observer/unitgraph"
	"github.com/dubnium/dubnium/policy"
)

// many is how many units are loaded beside the workstation's own. A busy container
// host has as many.
const many = 5000

// crowd is that many running services, each of which needs the one before it in a
// row of ten. Half of the rows are the desktop's, and stop with it.
func crowd() []testhost.Unit {
	units := make([]testhost.Unit, many)
	for i := range units {
		units[i] = testhost.Unit{Name: fmt.Sprintf("crowd-%04d.service", i)}
		if i%10 != 0 {
			before := units[i-1].Name
			units[i].Requires, units[i].After = []string{before}, []string{before}
		}
		if i/10%2 == 0 {
			units[i].WantedBy = []string{"desktop.target"}
		} else {
			units[i].WantedBy = []string{"multi-user.target"}
		}
	}
	return units
}

// took bounds what was done since began, and says how long it was. The bounds are
// what a person would bear on a machine that is busy with other tests; the figures
// are for whoever makes it faster, or slower.
func took(t *testing.T, what string, began time.Time, bound time.Duration) {
	t.Helper()
	d := time.Since(began)
	t.Logf("%s: %s", what, d.Round(time.Millisecond))
	require.Less(t, d, bound, what)
}

func TestAHostWithFiveThousandUnits(t *testing.T) {
	began := time.Now()
	w := start(t, testhost.Options{Units: crowd()}, nil)
	t.Logf("the simulated host and the daemon are up after %s", time.Since(began).Round(time.Millisecond))
	units := 0
	for name, state := range hostOf(w).Units {
		if state == "active" && len(name) == len("crowd-0000.service") && name[:6] == "crowd-" {
			units++
		}
	}
	require.Equal(t, many, units, "they run")
	require.Equal(t, "desktop\n", modectl(t, w, "current").stdout)

	require.NoError(t, w.StopDaemon())
	began = time.Now()
	require.NoError(t, w.StartDaemon(bounded(t)))
	took(t, "start, until ready", began, 5*time.Second)
	ready := resident(t, w)

	began = time.Now()
	out, stderr, code, err := embedded.Run(w.Program(bounded(t), "dubniumd", "impact", "--json", "compute.target"))
	require.NoError(t, err)
	require.Zero(t, code, stderr)
	took(t, "impact of isolating compute.target", began, 20*time.Second)
	var impact unitgraph.IsolateImpact
	require.NoError(t, json.Unmarshal([]byte(out), &impact))
	require.True(t, impact.StopsUnit("crowd-0000.service"))
	require.False(t, impact.StopsUnit("crowd-0010.service"), "multi-user.target goes on")
	require.Greater(t, len(impact.Stops), many/2)

	// Whatever the crowd does is nothing to the daemon; what it watches, it hears behind
	// all of that.
	c := watch(t, w)
	began = time.Now()
	for i := range many {
		require.NoError(t, w.SetActive(fmt.Sprintf("crowd-%04d.service", i), "failed"))
		require.NoError(t, w.SetActive(fmt.Sprintf("crowd-%04d.service", i), "active"))
	}
	require.NoError(t, w.SetActive("audio-priority.service", "active"))
	c.await(t, "a change behind ten thousand others", func(e status.Event) bool {
		return e.StateChanged != nil && e.StateChanged.New == "degraded-desktop"
	})
	took(t, "10,000 changes of others and one that matters", began, 20*time.Second)
	require.NoError(t, w.SetActive("audio-priority.service", "inactive"))
	c.await(
		t, "it is taken back", func(e status.Event) bool { return e.StateChanged != nil && e.StateChanged.New == "desktop" },
	)

	began = time.Now()
	out, stderr, code, err = w.Modectl(bounded(t), "request", "compute")
	require.NoError(t, err)
	require.Zero(t, code, "%s%s", out, stderr)
	took(t, "the way to compute", began, 25*time.Second)
	requireHost(t, w, policy.Compute)
	require.NotEqual(t, "active", hostOf(w).Units["crowd-0000.service"])
	require.Equal(t, "active", hostOf(w).Units["crowd-0010.service"])
	after := resident(t, w)
	t.Logf("%d KiB when ready, %d KiB after all of it", ready, after)
	require.Less(t, ready, 14<<10)
	require.Less(t, after, memory)
}
