package unitgraph

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// units builds a graph from lines like "a.service active Requires=b.service
// ignore": a name, a state, and then relations and flags in any order.
func units(lines ...string) Graph {
	g := Graph{}
	for _, line := range lines {
		fields := strings.Fields(line)
		u := Unit{
			Names: []string{fields[0]}, LoadState: "loaded", ActiveState: fields[1], Relations: map[Relation][]string{},
			AllowIsolate: strings.HasSuffix(fields[0], ".target"), IgnoreOnIsolate: ignoredByType(fields[0]),
		}
		for _, f := range fields[2:] {
			u.configure(f)
		}
		g[fields[0]] = u
	}
	g.addInverse()
	return g
}

func (u *Unit) configure(field string) {
	key, value, _ := strings.Cut(field, "=")
	switch key {
	case "ignore":
		u.IgnoreOnIsolate = true
	case "transient":
		u.Transient = true
	case "perpetual":
		u.Perpetual = true
	case "unneeded":
		u.StopWhenUnneeded = true
	case "noisolate":
		u.AllowIsolate = false
	case "job":
		u.Job = value
	case "load":
		u.LoadState = value
	case "alias":
		u.Names = append(u.Names, value)
	default:
		u.Relations[Relation(key)] = append(u.Relations[Relation(key)], strings.Split(value, ",")...)
	}
}

// addInverse completes the inverse relations, and the objects of names that nobody
// defined, as the manager does.
func (g Graph) addInverse() {
	for _, id := range slices.Sorted(maps.Keys(g)) {
		for relation, others := range g[id].Relations {
			back, has := inverse[relation]
			for _, other := range others {
				if _, known := g[other]; !known {
					g[other] = Unit{
						Names: []string{other}, LoadState: "not-found", ActiveState: "inactive", Relations: map[Relation][]string{},
					}
				}
				if has {
					g[other].Relations[back] = append(g[other].Relations[back], id)
				}
			}
		}
	}
}

func ignoredByType(name string) bool {
	kind := name[strings.LastIndexByte(name, '.')+1:]
	return slices.Contains([]string{"scope", "slice", "mount", "device", "swap", "automount"}, kind)
}

// say writes an impact as a line: "-a -b +c".
func say(i IsolateImpact) string {
	if i.Refused != "" {
		return "refused"
	}
	var words []string
	for _, c := range i.Stops {
		words = append(words, "-"+c.Unit)
	}
	for _, s := range i.Starts {
		words = append(words, "+"+s.Unit)
	}
	return strings.Join(words, " ")
}

// TestIsolateImpact: what systemd 257 does to hostile units.
func TestIsolateImpact(t *testing.T) {
	cases := map[string]struct{ units, want string }{
		"what the target does not want stops": {
			"t.target inactive Wants=a.service; a.service active; b.service active", "-b.service +t.target",
		},
		"what it wants starts": {"t.target inactive Wants=a.service; a.service inactive", "+a.service +t.target"},
		"and what that requires, to the end": {
			"t.target active Wants=a.service; a.service inactive BindsTo=b.service; " +
				"b.service inactive Upholds=c.service; c.service failed", "+a.service +b.service +c.service",
		},
		"IgnoreOnIsolate spares": {"t.target active; a.service active ignore; b.scope active", ""},
		"but not from a requirement that stops": {
			"t.target active; a.service active ignore Requires=b.service; b.service active", "-a.service -b.service",
		},
		"nor from BindsTo, Requisite and PartOf": {
			"t.target active; x.service active; " +
				"a.scope active BindsTo=x.service; b.service active ignore Requisite=x.service; " +
				"c.service active ignore PartOf=x.service",
			"-a.scope -b.service -c.service -x.service",
		},
		"a wish does not bind": {
			"t.target active; a.service active ignore Wants=b.service; b.service active", "-b.service",
		},
		"a wanted unit goes with what it is part of": {
			"t.target active Wants=a.service; a.service active PartOf=b.service; b.service active", "-a.service -b.service",
		},
		"a required one that would have to stop refuses the whole": {
			"t.target active Requires=a.service; a.service active PartOf=b.service; b.service active", "refused",
		},
		"and one that would have to start as well": {
			"t.target active Requires=a.service; a.service inactive PartOf=b.service; b.service active", "refused",
		},
		"Conflicts stops even what ignores": {"t.target active Conflicts=a.scope; a.scope active", "-a.scope"},
		"of two wanted units in conflict the one that starts wins": {
			"t.target active Wants=a.service,b.service; a.service active Conflicts=b.service; b.service inactive", "",
		},
		"and where both run, the one that the other names stops": {
			"t.target active Wants=a.service,b.service; a.service active Conflicts=b.service; b.service active", "-b.service",
		},
		"a conflict with what the target wants wins": {
			"t.target active Wants=a.service Conflicts=a.service; a.service active", "-a.service",
		},
		"the target conflicts with what it requires": {
			"t.target inactive Requires=a.service Conflicts=a.service; a.service active", "refused",
		},
		"two wanted units in conflict: one start is dropped": {
			"t.target active Wants=a.service,b.service; " +
				"a.service inactive Conflicts=b.service; b.service active", "-b.service +a.service",
		},
		"a wanted unit that cannot load is done without": {
			"t.target active Wants=a.service,b.service; a.service inactive load=masked; b.service active", "",
		},
		"one whose requirement cannot load drops out, and stops": {
			"t.target active Wants=a.service; a.service active Requires=gone.service", "-a.service",
		},
		"what it pulled in by then may stay": {
			"t.target active Wants=a.service; " +
				"a.service inactive Requires=gone.service,b.service; b.service inactive", "+b.service",
		},
		"a target whose requirement cannot load is refused": {"t.target active Requires=gone.service", "refused"},
		"a service of a socket that stays stays": {
			"t.target active Wants=a.socket; a.socket active Triggers=a.service; a.service active", "",
		},
		"a service of a socket that goes may go": {
			"t.target active; a.socket active Triggers=a.service; a.service active", "-a.service -a.socket",
		},
		"a timer that ignores keeps its service": {
			"t.target active; a.timer active ignore Triggers=a.service; a.service active", "",
		},
		"a trigger that starts may keep its service, by systemd's release": {
			"t.target active Wants=a.socket; a.socket inactive Triggers=a.service; a.service active", "-a.service +a.socket",
		},
		"and so may one that a conflict far away stops": {
			"t.target active Conflicts=gone.service; b.service inactive Requires=gone.service; " +
				"a.socket inactive Requisite=b.service Triggers=a.service; a.service active", "-a.service",
		},
		"an inactive trigger that is not mentioned keeps nothing": {
			"t.target active; a.socket inactive Triggers=a.service; a.service active", "-a.service",
		},
		"a unit with a queued job stops being one": {
			"t.target active; a.service activating job=start; b.service inactive job=start", "-a.service",
		},
		"what is stopping already stops": {"t.target active; a.service deactivating job=stop", "-a.service"},
		"a wanted unit that is stopping starts": {
			"t.target active Wants=a.service; a.service deactivating job=stop", "+a.service",
		},
		"a perpetual unit cannot stop": {"t.target active Conflicts=-.slice; -.slice active perpetual", ""},
		"a requirement of a perpetual unit stops": {
			"t.target active; -.mount active perpetual Requires=b.service; b.service active", "-b.service",
		},
		"StopWhenUnneeded goes with the last that needs it": {
			"t.target active; n.service active ignore unneeded; " +
				"a.service active Wants=n.service; b.service active Requires=n.service", "-a.service -b.service -n.service",
		},
		"and not before": {
			"t.target active; n.service active ignore unneeded; " +
				"a.service active Wants=n.service; b.service active ignore Requires=n.service", "-a.service",
		},
		"it takes its parts along": {
			"t.target active; n.service active ignore unneeded; " +
				"a.service active Wants=n.service; b.service active ignore PartOf=n.service", "-a.service -b.service -n.service",
		},
		"PropagatesStopTo does not fire": {
			"t.target active; a.service active PropagatesStopTo=b.scope; b.scope active", "-a.service",
		},
		"another mode's target goes": {"t.target inactive Conflicts=d.target; d.target active", "-d.target +t.target"},
		"ConflictedBy alone gives way": {
			"t.target active Requires=a.service; " +
				"b.service active ignore Conflicts=a.service; a.service inactive", "-b.service +a.service",
		},
		"a target without AllowIsolate": {"t.target active noisolate", "refused"},
		"a target that is masked":       {"t.target inactive load=masked", "refused"},
		"a loop of requirements is no trap": {
			"t.target active; " +
				"a.service active Requires=b.service; b.service active Requires=a.service", "-a.service -b.service",
		},
		"a unit that requires itself neither": {"t.target active Requires=t.target Wants=t.target", ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, c.want, say(ComputeIsolate(units(strings.Split(c.units, "; ")...), "t.target")))
		})
	}
}

func TestIsolateImpactSaysWhy(t *testing.T) {
	i := ComputeIsolate(units(
		"t.target active alias=mode.target Conflicts=c.service",
		"a.service active ignore transient Requires=b.service", "b.service active", "c.service active",
	), "mode.target")
	assert.Equal(t, "t.target", i.Target)
	assert.Equal(t, []StoppedUnit{
		{Unit: "a.service", Transient: true, Cause: CausePropagated, By: "b.service"},
		{Unit: "b.service", Cause: CauseNotWanted, By: "t.target"},
		{Unit: "c.service", Cause: CauseConflict, By: "t.target"},
	}, i.Stops)
	assert.True(t, i.StopsUnit("c.service"))
	assert.False(t, i.StopsUnit("t.target"))
}

// What the target pulls in may be loaded after the others were read, which do not name it then.
func TestIsolateImpactOfUnitsLoadedLate(t *testing.T) {
	part := units("late.target inactive PartOf=a.service", "a.service active")
	delete(part["a.service"].Relations, ConsistsOf)
	require.Contains(t, ComputeIsolate(part, "late.target").Refused, "conflicting jobs for late.target")

	trigger := units("t.target inactive Wants=late.timer", "late.timer activating Triggers=a.service",
		"a.service active", "b.service active")
	delete(trigger["a.service"].Relations, TriggeredBy)
	impact := ComputeIsolate(trigger, "t.target")
	require.False(t, impact.StopsUnit("a.service"), "its trigger is about to start")
	require.True(t, impact.StopsUnit("b.service"))
}

func TestIsolateImpactOfAnUnknownTarget(t *testing.T) {
	assert.NotEmpty(t, ComputeIsolate(nil, "t.target").Refused)
}

// genGraph draws up to a dozen units with every kind of relation, state and flag.
func genGraph(t *rapid.T) Graph {
	draw := func(label, values string) string { return rapid.SampledFrom(strings.Split(values, ",")).Draw(t, label) }
	n := rapid.IntRange(1, 12).Draw(t, "units")
	names := []string{"t.target", "gone.service"}
	lines := []string{"t.target " + draw("target", "active,inactive")}
	for i := range n {
		name := fmt.Sprintf("u%d.%s", i, draw("kind", "service,service,socket,timer,target,scope"))
		names = append(names, name)
		lines = append(lines, name+" "+draw("state", "active,active,inactive,failed,activating,deactivating"))
	}
	for i := range lines {
		for range rapid.IntRange(0, 3).Draw(t, "relations") {
			relation := draw("relation", "Requires,Wants,BindsTo,PartOf,Requisite,Upholds,Conflicts,Triggers")
			lines[i] += " " + relation + "=" + rapid.SampledFrom(names).Draw(t, "other")
		}
		if i > 0 {
			lines[i] += " " + draw("flag", ",,,ignore,job=start,job=stop,load=masked,unneeded,perpetual")
		}
	}
	t.Logf("%s", strings.Join(lines, "\n"))
	return units(lines...)
}

// TestIsolateImpactProperty: what holds for every graph.
func TestIsolateImpactProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := genGraph(t)
		i := ComputeIsolate(g, "t.target")
		require.Equal(t, i, ComputeIsolate(g, "t.target"), "the same each time")
		if i.Refused != "" {
			require.Empty(t, i.Stops)
			require.Empty(t, i.Starts)
			return
		}
		stopped := map[string]bool{}
		for _, c := range i.Stops {
			stopped[c.Unit] = true
		}
		for _, s := range i.Starts {
			require.False(t, g[s.Unit].up(), "%s is up and starts", s.Unit)
			require.Equal(t, "loaded", g[s.Unit].LoadState, s.Unit)
		}
		for id := range stopped {
			require.False(t, g[id].down() || g[id].Perpetual, "%s cannot stop", id)
			requireClosed(t, g, stopped, id)
		}
		requireSwept(t, g, i)
	})
}

// requireClosed: what depends on a unit that stops, stops.
func requireClosed(t *rapid.T, g Graph, stopped map[string]bool, id string) {
	for _, relation := range []Relation{RequiredBy, RequisiteOf, BoundBy, ConsistsOf} {
		for _, other := range g[id].Relations[relation] {
			if u := g[other]; !u.down() && !u.Perpetual {
				require.True(t, stopped[other], "%s stays without %s", other, id)
			}
		}
	}
}

// requireSwept: whatever runs, is not spared, and has no relation at all, stops; the target does only with a unit
// that nothing needs any longer.
func requireSwept(t *rapid.T, g Graph, i IsolateImpact) {
	unneeded := false
	for id, u := range g {
		unneeded = unneeded || u.StopWhenUnneeded
		if id != "t.target" && !u.down() && !u.IgnoreOnIsolate && !u.Perpetual && len(u.Relations) == 0 {
			require.True(t, i.StopsUnit(id), "%s stays", id)
		}
	}
	require.True(t, unneeded || !i.StopsUnit("t.target"), "the target itself stops")
}

// A manager with hundreds of units is no reason to wait.
func BenchmarkIsolateImpact(b *testing.B) {
	lines := []string{"t.target active Wants=u0.service"}
	for i := range 600 {
		lines = append(lines, fmt.Sprintf("u%d.service active Requires=u%d.service,basic.target Conflicts=shutdown.target",
			i, (i*7+1)%600))
	}
	g := units(append(lines, "basic.target active", "shutdown.target inactive")...)
	for b.Loop() {
		ComputeIsolate(g, "t.target")
	}
}
