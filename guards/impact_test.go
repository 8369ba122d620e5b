package guards

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/observer/unitgraph"
	"github.com/dubnium/dubnium/policy"
)

// graph is a desktop with a backup that nothing wants, known by two names.
func graph() unitgraph.Graph {
	unit := func(id, state string) unitgraph.Unit {
		return unitgraph.Unit{
			Names: []string{id}, LoadState: "loaded", ActiveState: state, Relations: map[unitgraph.Relation][]string{},
		}
	}
	g := unitgraph.Graph{}
	for id, state := range map[string]string{
		"desktop.target": "active", "compute.target": "inactive", "vllm.service": "inactive",
		"backup.service": "active",
		"greetd.service": "active", "session-2.scope": "active", "studio-local-policy.service": "active",
		"shutdown.target": "inactive",
	} {
		g[id] = unit(id, state)
	}
	for id, change := range map[string]func(*unitgraph.Unit){
		"compute.target": func(u *unitgraph.Unit) {
			u.AllowIsolate = true
			u.Relations[unitgraph.Conflicts] = []string{"desktop.target"}
		},
		"backup.service":  func(u *unitgraph.Unit) { u.Names = append(u.Names, "night.service") },
		"greetd.service":  func(u *unitgraph.Unit) { u.Names = append(u.Names, "display-manager.service") },
		"session-2.scope": func(u *unitgraph.Unit) { u.IgnoreOnIsolate = true },
	} {
		u := g[id]
		change(&u)
		g[id] = u
	}
	return g
}

var computePlan = unitgraph.UnitOperations{
	Isolate: "compute.target", Starts: []string{"vllm.service"}, Stops: []string{"studio-local-policy.service"},
	SessionUnits: []string{"display-manager.service", "session-2.scope"},
}

// operating is a request whose plan has these operations on the units of graph, changed.
func operating(o unitgraph.UnitOperations, change func(unitgraph.Graph)) func(*Request) {
	return func(r *Request) {
		g := graph()
		if change != nil {
			change(g)
		}
		r.Impact = unitgraph.ComputeImpact(g, o)
		r.Impact.Reading = read.Reading
	}
}

func job(unit, kind string) func(unitgraph.Graph) {
	return change(unit, func(u *unitgraph.Unit) { u.Job = kind })
}

func change(unit string, f func(*unitgraph.Unit)) func(unitgraph.Graph) {
	return func(g unitgraph.Graph) {
		u := g[unit]
		f(&u)
		g[unit] = u
	}
}

func survives(units ...string) func(*policy.Policy) {
	return func(p *policy.Policy) { p.Transitions, p.MustSurvive = policy.TrustAll, units }
}

func masked(g unitgraph.Graph) { g["compute.target"] = unitgraph.Unit{LoadState: "masked"} }

func TestTargetReachableJudgesStops(t *testing.T) {
	toCompute := func(change func(unitgraph.Graph)) func(*Request) { return operating(computePlan, change) }
	bound := change("backup.service", func(u *unitgraph.Unit) {
		u.Relations[unitgraph.BindsTo] = []string{"studio-local-policy.service"}
	})
	play(t, policy.CheckTargetReachable, map[string]scene{
		"nothing must survive":    {policy: survives(), ask: toCompute(nil)},
		"what must survive stays": {policy: survives("session-2.scope", "gone.service"), ask: toCompute(nil)},
		"what must survive stops": {
			policy: survives("backup.service"), ask: toCompute(nil), code: 18,
			reason: "on the way to compute.target backup.service would stop (compute.target does not pull it in) " +
				"and must survive",
		},
		"what must survive stops in the worst case": {
			policy: survives("backup.service"), code: 18, reason: "backup.service would stop",
			ask: toCompute(func(g unitgraph.Graph) { // a trigger that is mentioned keeps it up in older releases only
				trigger := unitgraph.Unit{LoadState: "loaded", ActiveState: "inactive"}
				trigger.Relations = map[unitgraph.Relation][]string{unitgraph.Triggers: {"backup.service"}}
				g["backup.timer"] = trigger
				g["compute.target"].Relations[unitgraph.Wants] = []string{"backup.timer"}
			}),
		},
		"it is named by an alias": {
			policy: survives("night.service"), ask: toCompute(nil), code: 18, reason: "backup.service would stop",
		},
		"it is stopped by a step": {
			policy: survives("greetd.service"), ask: toCompute(nil), code: 18,
			reason: "greetd.service would stop (a step of the plan stops display-manager.service)",
		},
		"it conflicts": {
			policy: survives("desktop.target"), ask: toCompute(nil), code: 18,
			reason: "compute.target conflicts with it",
		},
		"it depends on another": {
			policy: survives("backup.service"), code: 18, reason: "it depends on studio-local-policy.service",
			ask: operating(unitgraph.UnitOperations{Stops: []string{"studio-local-policy.service"}}, bound),
		},
		"nobody has read the units": {
			policy: survives(), ask: func(r *Request) { r.Impact = unitgraph.Impact{} }, code: 28,
			reason: "not read yet",
		},
		"the units cannot be read": {
			policy: survives(), ask: func(r *Request) { r.Impact.Reason = "no answer" }, code: 28,
			reason: "cannot determine which units would stop: no answer",
		},
		"systemd would refuse": {
			policy: survives(), ask: toCompute(masked), code: 18,
			reason: "systemd would refuse to isolate compute.target",
		},
	})
}

func TestTargetReachableJudgesQueuedJobs(t *testing.T) {
	toCompute := func(unit, kind string) func(*Request) { return operating(computePlan, job(unit, kind)) }
	scenes := map[string]scene{
		"another's job for a target": {
			ask: toCompute("desktop.target", "start"), code: 18, reason: "a start job is queued for desktop.target",
		},
		"a unit to start is stopped": {
			ask: toCompute("vllm.service", "stop"), code: 18, reason: "a stop job is queued for vllm.service",
		},
		"a unit to start starts": {ask: toCompute("vllm.service", "start")},
		"a unit to stop starts": {
			ask: toCompute("studio-local-policy.service", "restart"), code: 18,
			reason: "a restart job is queued for studio-local-policy.service",
		},
		"a unit to stop stops":        {ask: toCompute("studio-local-policy.service", "stop")},
		"a oneshot that isolate ends": {ask: toCompute("backup.service", "start")},
		"the machine shuts down":      {ask: toCompute("shutdown.target", "start"), code: 18, reason: "shutting down"},
		"the caller's own job": {ask: operating(computePlan, func(g unitgraph.Graph) {
			g["mode-controller@compute.service"] = unitgraph.Unit{
				LoadState: "loaded", ActiveState: "activating", Job: "start", IgnoreOnIsolate: true,
			}
		})},
	}
	for name, s := range scenes {
		s.policy = survives()
		scenes[name] = s
	}
	play(t, policy.CheckTargetReachable, scenes)
}

func TestTerminableJudgesQueuedJobs(t *testing.T) {
	toCompute := func(unit, kind string) func(*Request) { return operating(computePlan, job(unit, kind)) }
	bound := change("backup.service", func(u *unitgraph.Unit) {
		u.ActiveState, u.Job, u.Relations[unitgraph.BindsTo] = "inactive", "start", []string{"session-2.scope"}
	})
	play(t, policy.CheckGraphicalSessionTerminable, map[string]scene{
		"none is queued": {ask: operating(computePlan, nil)},
		"nobody has read the units": {
			ask: func(r *Request) { r.Impact = unitgraph.Impact{} }, code: 27, reason: "not read yet",
		},
		"the greeter is restarted": {
			ask: toCompute("greetd.service", "restart"), code: 17, reason: "a restart job is queued for greetd.service",
		},
		"the session's scope starts": {
			ask: toCompute("session-2.scope", "start"), code: 17, reason: "a start job is queued for session-2.scope",
		},
		"the session's scope stops": {ask: toCompute("session-2.scope", "stop")},
		"what depends on it starts": {
			ask: operating(computePlan, bound), code: 17, reason: "a start job is queued for backup.service",
		},
		"the machine shuts down": {ask: toCompute("shutdown.target", "start"), code: 17, reason: "shutting down"},
		"another's session is worse": {
			ask:  func(r *Request) { toCompute("greetd.service", "restart")(r); r.UID = 1001 },
			code: 17, reason: "belongs to alice",
		},
	})
}

// TestVerdictListsEveryAffectedUnit: the first in the reason, all in the evidence.
func TestVerdictListsEveryAffectedUnit(t *testing.T) {
	p, r := policy.Default(), Request{Target: policy.Compute, UID: 1000}
	survives("night.service", "greetd.service")(&p)
	operating(computePlan, nil)(&r)
	v := Evaluate(p, healthy(), r, []policy.GuardID{policy.CheckTargetReachable})[0]
	require.Equal(t, policy.Code(18), v.Code)
	require.Len(t, v.Evidence, 2)
	assert.Contains(t, v.Evidence[0], "backup.service")
	assert.Contains(t, v.Evidence[1], "greetd.service")
	assert.Contains(t, v.Remedy, "systemctl add-wants compute.target backup.service")
}
