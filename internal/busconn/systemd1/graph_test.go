package systemd1_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/busconn"
	"github.com/dubnium/dubnium/internal/busconn/bustest"
	"github.com/dubnium/dubnium/internal/busconn/systemd1"
	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/internal/testhost/hosttest"
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

func TestTheGraphSaysWhatIsolatingComputeStops(t *testing.T) {
	more := []testhost.Unit{
		{Name: "spared.service", WantedBy: []string{"desktop.target"}, IgnoreOnIsolate: true},
		{Name: "dragged.service", WantedBy: []string{"desktop.target"}, IgnoreOnIsolate: true, Requires: []string{"filler0.service"}},
	}
	for i := range 300 {
		more = append(more, testhost.Unit{Name: fmt.Sprintf("filler%d.service", i), WantedBy: []string{"desktop.target"}})
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
		"filler0.service": true, "filler299.service": true, "dragged.service": true, "desktop.target": true,
		"spared.service": false, "compute.target": false, "basic.target": false, "-.slice": false,
	} {
		assert.Equal(t, stops, impact.StopsUnit(unit), unit)
	}
	assert.Contains(t, impact.Starts, unitgraph.StartedUnit{Unit: "compute.target"})
}

func TestTheGraphOfATargetThatIsNotThereIsRefused(t *testing.T) {
	c := workstation(t)
	graph, err := c.Graph(bounded(t), "nothing.target")
	require.NoError(t, err)
	assert.NotEmpty(t, unitgraph.ComputeIsolate(graph, "nothing.target").Refused)
}

func TestAGraphThatCannotBeReadIsAnError(t *testing.T) {
	_, c := newFake(t) // it knows no ListUnits
	_, err := c.Graph(bounded(t), "compute.target")
	require.ErrorContains(t, err, "cannot list units")
}

// A unit comes or goes while the answer to Subscribe is waited for: it is heard on the
// goroutine that reads the answer.
func TestAUnitThatGoesMeanwhileDoesNotKeepTheAnswerAway(t *testing.T) {
	f, _ := newFake(t)
	f.set(func() {
		f.onSubscribe = func() {
			require.NoError(t, f.conn.Emit(systemd1.Path, manager+".UnitRemoved", "a.service", path("a.service")))
		}
	})
	bus := bustest.Connect(t, f.address)
	_, err := systemd1.NewGraphs(bus).Read(bounded(t), "compute.target")
	require.ErrorContains(t, err, "cannot list units", "the fake knows no ListUnits")
	require.Equal(t, 1, f.subscriptions())
}

// What is kept is never told once it is another: the two readers agree after every
// kind of change.
func TestWhatIsKeptOfTheGraphIsWhatThereIs(t *testing.T) {
	host := hosttest.Start(t, testhost.Options{Units: []testhost.Unit{
		{Name: "worker.service", WantedBy: []string{"desktop.target"}},
		{Name: "spared.service", WantedBy: []string{"desktop.target"}, IgnoreOnIsolate: true, Requires: []string{"worker.service"}},
	}})
	bus, err := busconn.Dial(host.Address())
	require.NoError(t, err)
	t.Cleanup(func() { bus.Close() })
	kept, fresh := systemd1.NewGraphs(bus), systemd1.New(bus)
	same := func(what string) unitgraph.Graph {
		t.Helper()
		want, err := fresh.Graph(bounded(t), "compute.target")
		require.NoError(t, err)
		got, err := kept.Read(bounded(t), "compute.target")
		require.NoError(t, err)
		require.Equal(t, want, got, what)
		return got
	}
	same("the first reading")
	same("with nothing new")
	require.NoError(t, host.SetActive("worker.service", "failed"))
	require.Equal(t, "failed", same("a unit that failed")["worker.service"].ActiveState)
	require.NoError(t, host.StartUnit("vllm.service", "replace"))
	same("a unit that runs")
	require.Greater(t, kept.Kept(), 10, "most is not asked for again")
	require.NoError(t, host.EditUnit("spared.service", func(u *testhost.Unit) { u.IgnoreOnIsolate = false }))
	require.False(t, same("after a reload")["spared.service"].IgnoreOnIsolate)
	require.NoError(t, host.RestartSystemd())
	same("after the manager has executed itself anew")
	kept.Forget()
	require.Zero(t, kept.Kept())
	same("once nothing is kept any more")
}

// Readers at the same time share what is kept. The race detector tells when one writes
// to it: three names are decoded into room for four.
func TestReadersOfWhatIsKeptOnlyRead(t *testing.T) {
	host := hosttest.Start(t, testhost.Options{Units: []testhost.Unit{
		{Name: "worker.service", Aliases: []string{"work.service", "works.service"}, WantedBy: []string{"desktop.target"}},
	}})
	bus := bustest.Connect(t, host.Address())
	kept := systemd1.NewGraphs(bus)
	want, err := kept.Read(bounded(t), "compute.target")
	require.NoError(t, err)
	require.Len(t, want["worker.service"].Names, 3)
	require.NoError(t, busconn.Parallel(4, func(int) error {
		got, err := kept.Read(bounded(t), "compute.target")
		assert.Equal(t, want, got)
		return err
	}))
}
