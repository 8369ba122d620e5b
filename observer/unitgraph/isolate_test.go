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

// mirrors are the relations that systemd shows from the other side too.
var mirrors = map[Relation]Relation{
	Requires: RequiredBy, Requisite: RequisiteOf, Wants: WantedBy, BindsTo: BoundBy,
	Upholds: UpheldBy, Conflicts: ConflictedBy, PartOf: ConsistsOf, Triggers: TriggeredBy,
}

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
	g.mirror()
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

// mirror completes the inverse relations, and the objects of names that nobody
// defined, as the manager does.
func (g Graph) mirror() {
	for _, id := range slices.Sorted(maps.Keys(g)) {
		for relation, others := range g[id].Relations {
			inverse, has := mirrors[relation]
			for _, other := range others {
				if _, known := g[other]; !known {
					g[other] = Unit{Names: []string{other}, LoadState: "not-found", ActiveState: "inactive", Relations: map[Relation][]string{}}
				}
				if has {
					g[other].Relations[inverse] = append(g[other].Relations[inverse], id)
				}
			}
		}
	}
}

func ignoredByType(name string) bool {
	kind := name[strings.LastIndexByte(name, '.')+1:]
	return slices.Contains([]string{"scope", "slice", "mount", "device", "swap", "automount"}, kind)
}

// say writes an impact as a line: "-a -b? +c".
func say(i IsolateImpact) string {
	if i.Refused != "" {
		return "refused"
	}
	var words []string
	mark := map[bool]string{true: "?"}
	for _, c := range i.Stops {
		words = append(words, "-"+c.Unit+mark[c.Possible])
	}
	for _, s := range i.Starts {
		words = append(words, "+"+s.Unit+mark[s.Possible])
	}
	if i.RefusalPossible != "" {
		words = append(words, "refused?")
	}
	return strings.Join(words, " ")
}

// TestIsolateImpact: what systemd 257 does to hostile units.
func TestIsolateImpact(t *testing.T) {
	cases := map[string]struct {
		units []string
		want  string
	}{
		"what the target does not want stops": {[]string{"t.target inactive Wants=a.service", "a.service active", "b.service active"}, "-b.service +t.target"},
		"what it wants starts":                {[]string{"t.target inactive Wants=a.service", "a.service inactive"}, "+a.service +t.target"},
		"and what that requires, to the end":  {[]string{"t.target active Wants=a.service", "a.service inactive BindsTo=b.service", "b.service inactive Upholds=c.service", "c.service failed"}, "+a.service +b.service +c.service"},
		"IgnoreOnIsolate spares":              {[]string{"t.target active", "a.service active ignore", "b.scope active"}, ""},
		"but not from a requirement that stops": {
			[]string{"t.target active", "a.service active ignore Requires=b.service", "b.service active"}, "-a.service -b.service",
		},
		"nor from BindsTo, Requisite and PartOf": {
			[]string{"t.target active", "x.service active", "a.scope active BindsTo=x.service", "b.service active ignore Requisite=x.service", "c.service active ignore PartOf=x.service"},
			"-a.scope -b.service -c.service -x.service",
		},
		"a wish does not bind": {[]string{"t.target active", "a.service active ignore Wants=b.service", "b.service active"}, "-b.service"},
		"a wanted unit goes with what it is part of": {
			[]string{"t.target active Wants=a.service", "a.service active PartOf=b.service", "b.service active"}, "-a.service -b.service",
		},
		"a required one that would have to stop refuses the whole": {
			[]string{"t.target active Requires=a.service", "a.service active PartOf=b.service", "b.service active"}, "refused",
		},
		"and one that would have to start as well": {
			[]string{"t.target active Requires=a.service", "a.service inactive PartOf=b.service", "b.service active"}, "refused",
		},
		"Conflicts stops even what ignores": {[]string{"t.target active Conflicts=a.scope", "a.scope active"}, "-a.scope"},
		"a conflict with what the target wants wins": {
			[]string{"t.target active Wants=a.service Conflicts=a.service", "a.service active"}, "-a.service",
		},
		"the target conflicts with what it requires": {
			[]string{"t.target inactive Requires=a.service Conflicts=a.service", "a.service active"}, "refused",
		},
		"two wanted units in conflict: one start is dropped": {
			[]string{"t.target active Wants=a.service,b.service", "a.service inactive Conflicts=b.service", "b.service active"}, "-b.service +a.service",
		},
		"a wanted unit that cannot load is done without": {
			[]string{"t.target active Wants=a.service,b.service", "a.service inactive load=masked", "b.service active"}, "",
		},
		"one whose requirement cannot load drops out, and stops": {
			[]string{"t.target active Wants=a.service", "a.service active Requires=gone.service"}, "-a.service",
		},
		"what it pulled in by then may stay": {
			[]string{"t.target active Wants=a.service", "a.service inactive Requires=gone.service,b.service", "b.service inactive"}, "+b.service?",
		},
		"a target whose requirement cannot load is refused": {[]string{"t.target active Requires=gone.service"}, "refused"},
		"a service of a socket that stays stays": {
			[]string{"t.target active Wants=a.socket", "a.socket active Triggers=a.service", "a.service active"}, "",
		},
		"a service of a socket that goes may go": {
			[]string{"t.target active", "a.socket active Triggers=a.service", "a.service active"}, "-a.service? -a.socket",
		},
		"a timer that ignores keeps its service": {
			[]string{"t.target active", "a.timer active ignore Triggers=a.service", "a.service active"}, "",
		},
		"a trigger that starts may keep its service, by systemd's release": {
			[]string{"t.target active Wants=a.socket", "a.socket inactive Triggers=a.service", "a.service active"}, "-a.service? +a.socket",
		},
		"and so may one that a conflict far away stops": {
			[]string{
				"t.target active Conflicts=gone.service", "b.service inactive Requires=gone.service",
				"a.socket inactive Requisite=b.service Triggers=a.service", "a.service active",
			}, "-a.service?",
		},
		"an inactive trigger that is not mentioned keeps nothing": {
			[]string{"t.target active", "a.socket inactive Triggers=a.service", "a.service active"}, "-a.service",
		},
		"a unit with a queued job stops being one": {[]string{"t.target active", "a.service activating job=start", "b.service inactive job=start"}, "-a.service"},
		"what is stopping already stops":           {[]string{"t.target active", "a.service deactivating job=stop"}, "-a.service"},
		"a wanted unit that is stopping starts":    {[]string{"t.target active Wants=a.service", "a.service deactivating job=stop"}, "+a.service"},
		"a perpetual unit cannot stop":             {[]string{"t.target active Conflicts=-.slice", "-.slice active perpetual"}, ""},
		"a requirement of a perpetual unit stops":  {[]string{"t.target active", "-.mount active perpetual Requires=b.service", "b.service active"}, "-b.service"},
		"StopWhenUnneeded goes with the last that needs it": {
			[]string{"t.target active", "n.service active ignore unneeded", "a.service active Wants=n.service", "b.service active Requires=n.service"},
			"-a.service -b.service -n.service",
		},
		"and not before": {
			[]string{"t.target active", "n.service active ignore unneeded", "a.service active Wants=n.service", "b.service active ignore Requires=n.service"}, "-a.service",
		},
		"it takes its parts along": {
			[]string{"t.target active", "n.service active ignore unneeded", "a.service active Wants=n.service", "b.service active ignore PartOf=n.service"},
			"-a.service -b.service -n.service",
		},
		"PropagatesStopTo does not fire":      {[]string{"t.target active", "a.service active PropagatesStopTo=b.scope", "b.scope active"}, "-a.service"},
		"another mode's target goes":          {[]string{"t.target inactive Conflicts=d.target", "d.target active"}, "-d.target +t.target"},
		"ConflictedBy alone gives way":        {[]string{"t.target active Requires=a.service", "b.service active ignore Conflicts=a.service", "a.service inactive"}, "-b.service +a.service"},
		"a target without AllowIsolate":       {[]string{"t.target active noisolate"}, "refused"},
		"a target that is masked":             {[]string{"t.target inactive load=masked"}, "refused"},
		"a loop of requirements is no trap":   {[]string{"t.target active", "a.service active Requires=b.service", "b.service active Requires=a.service"}, "-a.service -b.service"},
		"a unit that requires itself neither": {[]string{"t.target active Requires=t.target Wants=t.target"}, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, c.want, say(ComputeIsolate(units(c.units...), "t.target")))
		})
	}
}

func TestIsolateImpactSaysWhy(t *testing.T) {
	i := ComputeIsolate(units(
		"t.target active alias=mode.target Conflicts=c.service", "a.service active ignore transient Requires=b.service", "b.service active", "c.service active",
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

// What the target pulls in may be loaded only after the others were read, which do
// not name it then.
func TestAUnitThatWasLoadedLateCounts(t *testing.T) {
	part := units("late.target inactive PartOf=a.service", "a.service active")
	delete(part["a.service"].Relations, ConsistsOf)
	require.Contains(t, ComputeIsolate(part, "late.target").Refused, "conflicting jobs for late.target")

	trigger := units("t.target inactive Wants=late.timer", "late.timer activating Triggers=a.service", "a.service active", "b.service active")
	delete(trigger["a.service"].Relations, TriggeredBy)
	impact := ComputeIsolate(trigger, "t.target")
	require.False(t, impact.StopsUnit("a.service"), "its trigger is about to start")
	require.True(t, impact.StopsUnit("b.service"))
}

func TestATargetThatNobodyKnowsIsRefused(t *testing.T) {
	assert.NotEmpty(t, ComputeIsolate(nil, "t.target").Refused)
}

// genGraph draws up to a dozen units with every kind of relation, state and flag.
func genGraph(t *rapid.T) Graph {
	kinds := []string{"service", "service", "socket", "timer", "target", "scope"}
	n := rapid.IntRange(1, 12).Draw(t, "units")
	names := []string{"t.target", "gone.service"}
	lines := []string{"t.target " + rapid.SampledFrom([]string{"active", "inactive"}).Draw(t, "target")}
	for i := range n {
		names = append(names, fmt.Sprintf("u%d.%s", i, rapid.SampledFrom(kinds).Draw(t, "kind")))
		lines = append(lines, names[len(names)-1]+" "+rapid.SampledFrom([]string{"active", "active", "inactive", "failed", "activating", "deactivating"}).Draw(t, "state"))
	}
	for i := range lines {
		for range rapid.IntRange(0, 3).Draw(t, "relations") {
			lines[i] += " " + rapid.SampledFrom([]string{"Requires", "Wants", "BindsTo", "PartOf", "Requisite", "Upholds", "Conflicts", "Triggers"}).Draw(t, "relation") +
				"=" + rapid.SampledFrom(names).Draw(t, "other")
		}
		if i > 0 {
			lines[i] += rapid.SampledFrom([]string{"", "", "", " ignore", " job=start", " job=stop", " load=masked", " unneeded", " perpetual"}).Draw(t, "flag")
		}
	}
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
		lost := map[string]StoppedUnit{}
		for _, c := range i.Stops {
			lost[c.Unit] = c
		}
		for _, s := range i.Starts {
			require.False(t, g[s.Unit].up(), "%s is up and starts", s.Unit)
			require.Equal(t, "loaded", g[s.Unit].LoadState, s.Unit)
			if c, stops := lost[s.Unit]; stops {
				require.True(t, s.Possible && c.Possible, "%s stops and starts", s.Unit)
			}
		}
		for id, c := range lost {
			require.False(t, g[id].down() || g[id].Perpetual, "%s cannot stop", id)
			requireClosed(t, g, lost, c)
		}
		requireSwept(t, g, i)
	})
}

// wanted are the units that a start of the target asks for.
func wanted(g Graph, target string) map[string]bool {
	all := map[string]bool{target: true}
	for queue := []string{target}; len(queue) > 0; queue = queue[1:] {
		for _, relation := range []Relation{Requires, Requisite, Wants, BindsTo, Upholds} {
			for _, other := range g[queue[0]].Relations[relation] {
				if !all[other] {
					all[other] = true
					queue = append(queue, other)
				}
			}
		}
	}
	return all
}

// requireClosed: what depends on a casualty is one, unless it is asked for itself and the
// casualty may go later, with something that is not needed any more.
func requireClosed(t *rapid.T, g Graph, lost map[string]StoppedUnit, c StoppedUnit) {
	asked, later := wanted(g, "t.target"), false
	for _, u := range g {
		later = later || u.StopWhenUnneeded
	}
	for _, relation := range []Relation{RequiredBy, RequisiteOf, BoundBy, ConsistsOf} {
		for _, other := range g[c.Unit].Relations[relation] {
			if u := g[other]; !u.down() && !u.Perpetual && !(later && asked[other]) {
				d, stops := lost[other]
				require.True(t, stops && (c.Possible || !d.Possible), "%s outlives %s", other, c.Unit)
			}
		}
	}
}

// requireSwept: whatever runs, is not spared, and has no tie at all, stops.
func requireSwept(t *rapid.T, g Graph, i IsolateImpact) {
	for id, u := range g {
		if id != "t.target" && !u.down() && !u.IgnoreOnIsolate && !u.Perpetual && len(u.Relations) == 0 {
			require.True(t, i.StopsUnit(id), "%s stays", id)
		}
	}
	require.False(t, i.StopsUnit("t.target"), "the target itself stops")
}

// A manager with hundreds of units is no reason to wait.
func BenchmarkIsolateImpact(b *testing.B) {
	lines := []string{"t.target active Wants=u0.service"}
	for i := range 600 {
		lines = append(lines, fmt.Sprintf("u%d.service active Requires=u%d.service,basic.target Conflicts=shutdown.target", i, (i*7+1)%600))
	}
	g := units(append(lines, "basic.target active", "shutdown.target inactive")...)
	for b.Loop() {
		ComputeIsolate(g, "t.target")
	}
}
