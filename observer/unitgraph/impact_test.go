package unitgraph

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func desktop(more ...string) Graph {
	return units(append([]string{
		"desktop.target active Wants=greetd.service", "compute.target inactive Conflicts=desktop.target Wants=vllm.service",
		"greetd.service active alias=display-manager.service", "session-2.scope active", "vllm.service inactive",
		"overlay.service active", "extra.service active transient",
	}, more...)...)
}

var toCompute = UnitOperations{
	Isolate: "compute.target", Starts: []string{"vllm.service"}, Stops: []string{"overlay.service"},
	SessionUnits: []string{"display-manager.service", "session-2.scope"},
}

func TestImpactOfIsolateAndSteps(t *testing.T) {
	b := ComputeImpact(desktop("tied.service active BindsTo=session-2.scope ignore",
		"queued.service activating job=start"), toCompute)
	require.Equal(t, []StoppedUnit{
		{Unit: "desktop.target", Cause: CauseConflict, By: "compute.target"},
		{Unit: "extra.service", Transient: true, Cause: CauseNotWanted, By: "compute.target"},
		{Unit: "greetd.service", Cause: CauseStep, By: "display-manager.service"},
		{Unit: "overlay.service", Cause: CauseStep, By: "overlay.service"},
		{Unit: "queued.service", Cause: CauseNotWanted, By: "compute.target"},
		{Unit: "tied.service", Cause: CausePropagated, By: "session-2.scope"},
	}, b.StoppedUnits(), "a scope is listed as a session")
	require.Equal(t, []StartedUnit{{Unit: "compute.target"}, {Unit: "vllm.service"}}, b.StartedUnits())
	require.Equal(t, []QueuedJob{{"queued.service", "start"}}, b.Jobs)
	require.Equal(t, "session-2.scope", b.ID("session-2.scope"))
	require.Equal(t, "greetd.service", b.ID("display-manager.service"))
	require.Equal(t, "nobody.service", b.ID("nobody.service"))
	require.Equal(t, []StoppedUnit{{Unit: "greetd.service", Cause: CauseStep, By: "display-manager.service"}},
		b.AffectedOf([]string{"display-manager.service", "vllm.service"}))
	require.False(t, b.Known(), "the reader of the units sets the time")
}

func TestImpactOnQueuedJobs(t *testing.T) {
	b := ComputeImpact(desktop(
		"waits.service inactive job=start BindsTo=greetd.service", "stops.service active job=stop BindsTo=greetd.service",
		"tied.service active job=reload Requires=overlay.service", "other.service inactive job=start",
		"ends.service active job=stop",
	), UnitOperations{
		Stops: toCompute.Stops, SessionUnits: toCompute.SessionUnits, Starts: []string{"ends.service", "other.service"},
	})
	require.Equal(t, []QueuedJob{{"waits.service", "start"}}, b.ConflictingJobs)
	require.Equal(t, []QueuedJob{{"tied.service", "reload"}, {"ends.service", "stop"}}, b.CanceledJobs)
	require.Len(t, b.Jobs, 5)
}

func TestImpactWithoutIsolate(t *testing.T) {
	b := ComputeImpact(desktop(
		"tied.service active Requires=overlay.service", "gone.service inactive Requires=overlay.service",
		"lonely.service active unneeded WantedBy=overlay.service",
	), UnitOperations{Stops: toCompute.Stops, Starts: []string{"greetd.service", "unknown.service"}})
	require.Nil(t, b.Isolation)
	require.Equal(t, []StoppedUnit{
		{Unit: "lonely.service", Cause: CauseUnneeded, By: "overlay.service"},
		{Unit: "overlay.service", Cause: CauseStep, By: "overlay.service"},
		{Unit: "tied.service", Cause: CausePropagated, By: "overlay.service"},
	}, b.StoppedUnits())
	both := ComputeImpact(desktop("tied.service active Requires=overlay.service"),
		UnitOperations{Stops: []string{"overlay.service", "tied.service"}})
	require.Equal(t, StoppedUnit{Unit: "tied.service", Cause: CauseStep, By: "tied.service"}, both.Stopped[1],
		"a step's own stop comes first")
	require.Empty(t, b.StartedUnits(), "what is up does not start, and what is not there cannot")
}

// TestImpactContainsTheIsolate: whatever the isolate of the plan stops or starts is in the impact, each unit
// once, whatever the graph; and no operations have no impact.
func TestImpactContainsTheIsolate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(label string, values ...string) string { return rapid.SampledFrom(values).Draw(t, label) }
		names := slices.Sorted(maps.Keys(desktop()))
		var more []string
		for i := range rapid.IntRange(0, 6).Draw(t, "more") {
			more = append(more, fmt.Sprintf("u%d.service %s %s=%s%s", i, draw("state", "active", "inactive", "activating"),
				draw("relation", "Requires", "Wants", "BindsTo", "Conflicts", "PartOf"), draw("other", names...),
				draw("flag", "", " ignore")))
		}
		g := desktop(more...)
		b, i := ComputeImpact(g, toCompute), ComputeIsolate(g, "compute.target")
		require.Equal(t, &i, b.Isolation)
		stopped := map[string]bool{}
		for _, c := range b.StoppedUnits() {
			require.False(t, stopped[c.Unit], "%s is there twice", c.Unit)
			require.False(t, g[c.Unit].down(), "%s is down", c.Unit)
			stopped[c.Unit] = true
			require.Equal(t, []StoppedUnit{c}, b.AffectedOf([]string{c.Unit}))
		}
		for _, c := range i.Stops {
			require.True(t, stopped[c.Unit] || c.Unit == "session-2.scope", c.Unit)
		}
		nothing := ComputeImpact(g, UnitOperations{})
		require.Empty(t, nothing.StoppedUnits())
		require.Empty(t, nothing.StartedUnits())
	})
}
