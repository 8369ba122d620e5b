package unitgraph

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func desk(more ...string) Graph {
	return units(append([]string{
		"desktop.target active Wants=greetd.service", "compute.target inactive Conflicts=desktop.target Wants=vllm.service",
		"greetd.service active alias=display-manager.service", "session-2.scope active", "vllm.service inactive",
		"overlay.service active", "extra.service active transient",
	}, more...)...)
}

var errand = UnitOperations{
	Isolate: "compute.target", Starts: []string{"vllm.service"}, Stops: []string{"overlay.service"},
	SessionUnits: []string{"display-manager.service", "session-2.scope"},
}

func TestABlastRadiusHasWhatIsolateAndTheStepsStop(t *testing.T) {
	b := ComputeImpact(desk("tied.service active BindsTo=session-2.scope ignore", "queued.service activating job=start"), errand)
	require.Equal(t, []StoppedUnit{
		{Unit: "desktop.target", Cause: CauseConflict, By: "compute.target"},
		{Unit: "extra.service", Transient: true, Cause: CauseNotWanted, By: "compute.target"},
		{Unit: "greetd.service", Cause: CauseStep, By: "display-manager.service"},
		{Unit: "overlay.service", Cause: CauseStep, By: "overlay.service"},
		{Unit: "queued.service", Cause: CauseNotWanted, By: "compute.target"},
		{Unit: "tied.service", Cause: CausePropagated, By: "session-2.scope"},
	}, b.StoppedUnits(), "a scope is told as a session")
	require.Equal(t, []Starter{{Unit: "compute.target"}, {Unit: "vllm.service"}}, b.Starters())
	require.Equal(t, []QueuedJob{{"queued.service", "start"}}, b.Jobs)
	require.Equal(t, []string{"session-2.scope", "greetd.service"}, []string{b.ID("session-2.scope"), b.ID("display-manager.service")})
	require.Equal(t, "nobody.service", b.ID("nobody.service"))
	require.Equal(t, []StoppedUnit{{Unit: "greetd.service", Cause: CauseStep, By: "display-manager.service"}}, b.AffectedOf([]string{"display-manager.service", "vllm.service"}))
	require.False(t, b.Known(), "whoever read the units says when")
}

func TestABlastRadiusHasTheJobsThatItReverses(t *testing.T) {
	b := ComputeImpact(desk(
		"waits.service inactive job=start BindsTo=greetd.service", "stops.service active job=stop BindsTo=greetd.service",
		"tied.service active job=reload Requires=overlay.service", "other.service inactive job=start",
		"ends.service active job=stop"), UnitOperations{Stops: errand.Stops, SessionUnits: errand.SessionUnits, Starts: []string{"ends.service", "other.service"}})
	require.Equal(t, []QueuedJob{{"waits.service", "start"}}, b.ConflictingJobs)
	require.Equal(t, []QueuedJob{{"tied.service", "reload"}, {"ends.service", "stop"}}, b.CanceledJobs)
	require.Len(t, b.Jobs, 5)
}

func TestWhereNothingIsIsolatedOnlyTheStepsReach(t *testing.T) {
	b := ComputeImpact(desk("tied.service active Requires=overlay.service", "gone.service inactive Requires=overlay.service",
		"lonely.service active unneeded WantedBy=overlay.service"), UnitOperations{Stops: errand.Stops, Starts: []string{"greetd.service", "unknown.service"}})
	require.Nil(t, b.Isolation)
	require.Equal(t, []StoppedUnit{
		{Unit: "lonely.service", Cause: CauseUnneeded, By: "overlay.service"},
		{Unit: "overlay.service", Cause: CauseStep, By: "overlay.service"},
		{Unit: "tied.service", Cause: CausePropagated, By: "overlay.service"},
	}, b.StoppedUnits())
	both := ComputeImpact(desk("tied.service active Requires=overlay.service"), UnitOperations{Stops: []string{"overlay.service", "tied.service"}})
	require.Equal(t, StoppedUnit{Unit: "tied.service", Cause: CauseStep, By: "tied.service"}, both.Stopped[1], "a step's own stop comes first")
	require.Empty(t, b.Starters(), "what is up does not start, and what is not there cannot")
}

// TestABlastRadiusLosesNothing: whatever the isolate of the plan stops or starts is
// in it, each unit once, whatever the graph; and an errand of nothing does nothing.
func TestABlastRadiusLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := desk()
		states := []string{"active", "inactive", "activating"}
		relations := []Relation{Requires, Wants, BindsTo, Conflicts, "PartOf"}
		names := slices.Sorted(maps.Keys(g))
		for i := range rapid.IntRange(0, 6).Draw(t, "more") {
			name := fmt.Sprintf("u%d.service", i)
			u := Unit{Names: []string{name}, LoadState: "loaded", ActiveState: rapid.SampledFrom(states).Draw(t, "state"), Relations: map[Relation][]string{}}
			u.IgnoreOnIsolate = rapid.Bool().Draw(t, "ignore")
			u.Relations[rapid.SampledFrom(relations).Draw(t, "relation")] = []string{rapid.SampledFrom(names).Draw(t, "other")}
			g[name] = u
		}
		g.mirror()
		b, i := ComputeImpact(g, errand), ComputeIsolate(g, "compute.target")
		require.Equal(t, &i, b.Isolation)
		casualties := map[string]bool{}
		for _, c := range b.StoppedUnits() {
			require.False(t, casualties[c.Unit], "%s is there twice", c.Unit)
			require.False(t, g[c.Unit].down(), "%s is down", c.Unit)
			casualties[c.Unit] = true
			require.Equal(t, []StoppedUnit{c}, b.AffectedOf([]string{c.Unit}))
		}
		for _, c := range i.Stops {
			require.True(t, casualties[c.Unit] || c.Unit == "session-2.scope", c.Unit)
		}
		nothing := ComputeImpact(g, UnitOperations{})
		require.Empty(t, nothing.StoppedUnits())
		require.Empty(t, nothing.Starters())
	})
}
