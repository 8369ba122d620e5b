package systemd1_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/busconn"
	"github.com/dubnium/dubnium/internal/busconn/bustest"
	"github.com/dubnium/dubnium/internal/busconn/systemd1"
	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/internal/testhost/hosttest"
	"github.com/dubnium/dubnium/internal/testhost/sim"
	"github.com/dubnium/dubnium/observer/unitgraph"
)

// workstation is the simulated machine with some hundred units more.
func workstation(t *testing.T, more ...testhost.Unit) *systemd1.Client {
	t.Helper()
	host := hosttest.Start(t, testhost.Options{Units: more})
	bus, err := busconn.Dial(host.Address())
	require.NoError(t, err)
	t.Cleanup(func() { bus.Close() })
	return systemd1.New(bus)
}

func TestGraphGivesTheImpactOfIsolatingCompute(t *testing.T) {
	more := []testhost.Unit{
		{Name: "spared.service", WantedBy: []string{"desktop.target"}, IgnoreOnIsolate: true},
		{
			Name: "dependent.service", WantedBy: []string{"desktop.target"}, IgnoreOnIsolate: true,
			Requires: []string{"filler0.service"},
		},
	}
	for i := range 300 {
		more = append(more, testhost.Unit{
			Name:     fmt.Sprintf("filler%d.service", i),
			WantedBy: []string{"desktop.target"},
		})
	}
	c := workstation(t, more...)
	begun := time.Now()
	graph, err := c.Graph(bounded(t), "compute.target")
	require.NoError(t, err)
	t.Logf("%d units read in %s", len(graph), time.Since(begun).Round(time.Millisecond))
	require.Greater(t, len(graph), 300)
	impact := unitgraph.ComputeIsolate(graph, "compute.target")
	require.Empty(t, impact.Refused)
	for unit, stops := range map[string]bool{
		"filler0.service": true, "filler299.service": true, "dependent.service": true, "desktop.target": true,
		"spared.service": false, "compute.target": false, "basic.target": false, "-.slice": false,
	} {
		assert.Equal(t, stops, impact.StopsUnit(unit), unit)
	}
	assert.Contains(t, impact.Starts, unitgraph.StartedUnit{Unit: "compute.target"})
}

// TestImpactCoversTheSimulatedManager: what the simulated systemd stops and refuses in random graphs is in the impact
// that is computed from its properties.
func TestImpactCoversTheSimulatedManager(t *testing.T) {
	stopped, isolated := 0, 0
	for seed := range uint64(12) {
		random := rand.New(rand.NewPCG(seed, 0))
		host := hosttest.Start(t, testhost.Options{Units: randomUnits(random)})
		bus := bustest.Connect(t, host.Address())
		graph, err := systemd1.New(bus).Graph(bounded(t), "compute.target")
		require.NoError(t, err)
		impact := unitgraph.ComputeIsolate(graph, "compute.target")
		var jobs []sim.Job
		host.Do(func(m *sim.Model) { // nothing of it is carried out meanwhile
			if _, err = m.Enqueue("compute.target", "start", "isolate"); err == nil {
				jobs = m.Jobs()
			}
		})
		if impact.Refused != "" {
			continue
		}
		require.NoError(t, err, "seed %d", seed)
		isolated++
		for _, j := range jobs {
			if j.Type == "stop" && !slices.Contains([]string{"inactive", "failed"}, graph[j.Unit].ActiveState) {
				stopped++
				assert.True(t, impact.StopsUnit(j.Unit), "seed %d: %s stops", seed, j.Unit)
			}
		}
	}
	t.Logf("%d isolates stopped %d units", isolated, stopped)
	require.Greater(t, isolated, 6)
	require.Greater(t, stopped, 60)
}

// randomUnits are a dozen services, many of which the desktop wants, with random dependencies on each other. None
// conflicts with another: the simulated systemd keeps jobs that need a dropped one, and unitgraph's own tests
// compare the impact with a full transaction.
func randomUnits(random *rand.Rand) []testhost.Unit {
	units := make([]testhost.Unit, 12)
	name := func() string { return fmt.Sprintf("random%d.service", random.IntN(len(units))) }
	for i := range units {
		u := &units[i]
		u.Name, u.IgnoreOnIsolate = fmt.Sprintf("random%d.service", i), random.IntN(4) == 0
		switch random.IntN(4) {
		case 0:
			u.WantedBy = []string{"compute.target"}
		case 1, 2:
			u.WantedBy = []string{"desktop.target"}
		}
		for _, relation := range []*[]string{&u.Wants, &u.Requires, &u.BindsTo, &u.PartOf} {
			if random.IntN(5) == 0 {
				*relation = append(*relation, name())
			}
		}
	}
	return units
}

func TestGraphOfAnUnknownTargetIsRefused(t *testing.T) {
	c := workstation(t)
	graph, err := c.Graph(bounded(t), "nothing.target")
	require.NoError(t, err)
	assert.NotEmpty(t, unitgraph.ComputeIsolate(graph, "nothing.target").Refused)
}

func TestGraphThatCannotBeReadIsAnError(t *testing.T) {
	_, c := newFake(t) // it knows no ListUnits
	_, err := c.Graph(bounded(t), "compute.target")
	require.ErrorContains(t, err, "cannot list units")
}

// A unit is loaded or unloaded while the reply to Subscribe is awaited: the signal is handled on the goroutine
// that reads the reply.
func TestCachedGraphHandlesSignalsWhileItSubscribes(t *testing.T) {
	f, _ := newFake(t)
	f.set(func() {
		f.onSubscribe = func() {
			require.NoError(t, f.conn.Emit(systemd1.Path, manager+".UnitRemoved", "a.service", path("a.service")))
		}
	})
	bus := bustest.Connect(t, f.address)
	_, err := systemd1.NewCachedGraph(bus).Read(bounded(t), "compute.target")
	require.ErrorContains(t, err, "cannot list units", "the fake knows no ListUnits")
	require.Equal(t, 1, f.subscriptions())
}

// TestCachedGraphIsCurrent: the reader with the cache and the one without agree after every kind of change.
func TestCachedGraphIsCurrent(t *testing.T) {
	host := hosttest.Start(t, testhost.Options{Units: []testhost.Unit{
		{Name: "worker.service", WantedBy: []string{"desktop.target"}},
		{
			Name: "spared.service", WantedBy: []string{"desktop.target"}, IgnoreOnIsolate: true,
			Requires: []string{"worker.service"},
		},
	}})
	bus, err := busconn.Dial(host.Address())
	require.NoError(t, err)
	t.Cleanup(func() { bus.Close() })
	cached, fresh := systemd1.NewCachedGraph(bus), systemd1.New(bus)
	same := func(what string) unitgraph.Graph {
		t.Helper()
		want, err := fresh.Graph(bounded(t), "compute.target")
		require.NoError(t, err)
		got, err := cached.Read(bounded(t), "compute.target")
		require.NoError(t, err)
		require.Equal(t, want, got, what)
		return got
	}
	same("the first reading")
	same("without a change")
	require.NoError(t, host.SetActive("worker.service", "failed"))
	require.Equal(t, "failed", same("a unit that failed")["worker.service"].ActiveState)
	require.NoError(t, host.StartUnit("vllm.service", "replace"))
	same("a unit that runs")
	require.Greater(t, cached.Cached(), 10, "most is not read again")
	require.NoError(t, host.EditUnit("spared.service", func(u *testhost.Unit) { u.IgnoreOnIsolate = false }))
	require.False(t, same("after a reload")["spared.service"].IgnoreOnIsolate)
	require.NoError(t, host.RestartSystemd())
	same("after the manager has re-executed itself")
	cached.Expire()
	require.Zero(t, cached.Cached())
	same("after the cache has expired")
}

// Concurrent readers share the cache. The race detector reports one that writes to it: three names are decoded
// into a slice with room for four.
func TestCachedGraphIsOnlyReadByItsReaders(t *testing.T) {
	host := hosttest.Start(t, testhost.Options{Units: []testhost.Unit{
		{
			Name: "worker.service", Aliases: []string{"work.service", "works.service"},
			WantedBy: []string{"desktop.target"},
		},
	}})
	bus := bustest.Connect(t, host.Address())
	cached := systemd1.NewCachedGraph(bus)
	want, err := cached.Read(bounded(t), "compute.target")
	require.NoError(t, err)
	require.Len(t, want["worker.service"].Names, 3)
	require.NoError(t, busconn.Parallel(4, func(int) error {
		got, err := cached.Read(bounded(t), "compute.target")
		assert.Equal(t, want, got)
		return err
	}))
}
