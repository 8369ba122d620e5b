package unitgraph

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// run is what one order and one release do.
type run struct {
	refused       error
	stops, starts []string
}

func (r run) String() string {
	var words strings.Builder
	for _, id := range r.stops {
		words.WriteString(" -" + id)
	}
	for _, id := range r.starts {
		words.WriteString(" +" + id)
	}
	return words.String()
}

// exactly isolates t.target in g as the reference does, with units in the order of rank.
func exactly(g Graph, rule triggerRule, rank func(units int) []int) run {
	n := index(g)
	t := n.exact(rank(len(n.list)))
	t.rule = rule
	r := run{refused: t.isolate(n.names["t.target"])}
	if r.refused != nil {
		return r
	}
	for i := range t.stopping() {
		r.stops = append(r.stops, n.list[i].id)
	}
	for _, i := range t.starting() {
		r.starts = append(r.starts, n.list[i].id)
	}
	return r
}

// requireCovered: whatever the run stops or starts is in the impact, and what it refuses is refused.
func requireCovered(t require.TestingT, impact IsolateImpact, r run) {
	if impact.Refused != "" {
		return // nothing is isolated
	}
	require.NoError(t, r.refused)
	for _, id := range r.stops {
		require.True(t, impact.StopsUnit(id), "%s stops", id)
	}
	for _, id := range r.starts {
		require.Contains(t, impact.Starts, StartedUnit{id})
	}
}

func TestWorstCaseCoversEveryOrderAndRelease(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := genGraph(t)
		impact := ComputeIsolate(g, "t.target")
		for range 8 {
			seed, rule := rapid.Uint64().Draw(t, "order"), triggerRule(rapid.Bool().Draw(t, "release"))
			requireCovered(t, impact, exactly(g, rule, rand.New(rand.NewPCG(seed, 0)).Perm))
		}
	})
}

// TestWorstCaseOfRareGraphs has graphs in which several rules meet, which random ones rarely are, and a unit that
// some order stops or starts.
func TestWorstCaseOfRareGraphs(t *testing.T) {
	for name, c := range map[string]struct{ units, want string }{
		"a redundant stop is dropped without the jobs that need it": {
			"t.target active Requires=f.service; a.service active Requires=d.service; " +
				"d.service inactive Requires=t.target,g.service; f.service active Wants=a.service PartOf=a.service; " +
				"g.service active Conflicts=t.target Requires=gone.service", "-g.service",
		},
		"and where it is not redundant, with them": {
			"t.target active PartOf=a.service Wants=c.service; a.service active Requires=gone.service,b.service; " +
				"b.service inactive; c.service active Conflicts=b.service Requires=t.target Wants=a.service", "-c.service",
		},
		"a conflict counts as long as the job that has it stays": {
			"t.target active Requires=a.service; a.service active Requires=b.service; " +
				"b.service active Wants=d.service Requires=t.target; c.service active Wants=e.service; " +
				"d.service active Requires=c.service Conflicts=t.target,e.service; e.service inactive", "+e.service",
		},
		"a unit that cannot be started leaves a verify job": {
			"t.target active Wants=c.service; a.service active Requires=t.target; " +
				"b.service active Requisite=gone.service,a.service; c.service deactivating PartOf=a.service Wants=b.service",
			"+c.service",
		},
	} {
		t.Run(name, func(t *testing.T) {
			g, happens := units(strings.Split(c.units, "; ")...), 0
			impact := ComputeIsolate(g, "t.target")
			for o := range uint64(256) {
				r := exactly(g, o%2 == 0, rand.New(rand.NewPCG(o, 0)).Perm)
				requireCovered(t, impact, r)
				if slices.Contains(strings.Fields(r.String()), c.want) {
					happens++
				}
			}
			require.Positive(t, happens, "%s in no order", c.want)
		})
	}
}

// alarms counts what the model says, and what of that happens in no run of systemd.
type alarms struct{ all, wrong int }

func (a *alarms) add(wrong bool) {
	a.all++
	if wrong {
		a.wrong++
	}
}

// TestWorstCaseHasFewFalseAlarms bounds them on random graphs, which are more hostile than those of a machine.
func TestWorstCaseHasFewFalseAlarms(t *testing.T) {
	const graphs, orders = 400, 32
	var stops, starts, refusals alarms
	for i := range graphs {
		g := rapid.Custom(genGraph).Example(i)
		impact := ComputeIsolate(g, "t.target")
		stopped, started, refused := map[string]bool{}, map[string]bool{}, false
		for o := range orders {
			r := exactly(g, o%2 == 0, rand.New(rand.NewPCG(uint64(o), 0)).Perm)
			refused = refused || r.refused != nil
			for _, id := range r.stops {
				stopped[id] = true
			}
			for _, id := range r.starts {
				started[id] = true
			}
		}
		if impact.Refused != "" {
			refusals.add(!refused)
		}
		for _, c := range impact.Stops {
			stops.add(!stopped[c.Unit])
		}
		for _, s := range impact.Starts {
			starts.add(!started[s.Unit])
		}
	}
	t.Logf("all and wrong: stops %v, starts %v, refusals %v", stops, starts, refusals)
	assert.True(t, stops.all > graphs/2 && stops.wrong <= stops.all/100, "stops")
	assert.True(t, starts.all > graphs/4 && starts.wrong <= starts.all/20, "starts")
	assert.True(t, refusals.all > graphs/20 && refusals.wrong <= refusals.all/20, "refusals")
}
