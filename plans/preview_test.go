package plans

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/observer/unitgraph"
	"github.com/dubnium/dubnium/policy"
)

// impactOf is the impact of the plan on the units of the host and on further ones that
// no unit wants.
func impactOf(p Plan, s observer.Snapshot, more ...string) unitgraph.Impact {
	g := unitgraph.Graph{}
	for name, u := range s.Systemd.Units {
		g[name] = unitgraph.Unit{
			Names: []string{name}, LoadState: u.LoadState, ActiveState: u.ActiveState, AllowIsolate: true,
			IgnoreOnIsolate: strings.HasSuffix(name, ".slice"), // as systemd has it
		}
	}
	for _, name := range more {
		g[name] = unitgraph.Unit{Names: []string{name}, LoadState: "loaded", ActiveState: "active", Transient: true}
	}
	ops, _ := p.UnitOperations(policy.Default(), s)
	b := unitgraph.ComputeImpact(g, ops)
	b.At = time.Unix(1, 0)
	return b
}

func planContext(s observer.Snapshot, to policy.Mode, more ...string) Context {
	plan := Build(policy.Default(), s, to)
	return Context{Plan: plan, Snapshot: s, Impact: impactOf(plan, s, more...)}
}

func passing(o Context) []Judged {
	var all []Judged
	for _, id := range o.Guards {
		all = append(all, Judged{Guard: id})
	}
	return all
}

// The operations are complete, and report whether the impact has to be computed.
func TestUnitOperations(t *testing.T) {
	p, s := policy.Default(), onStudio.snapshot()
	s.Logind.Sessions[0].Scope = "session-2.scope"
	e, needed := Build(p, s, policy.Compute).UnitOperations(p, s)
	require.True(t, needed)
	require.Equal(t, unitgraph.UnitOperations{
		Isolate: "compute.target", Starts: []string{"vllm.service"}, Stops: []string{
			"audio-priority.service", "studio-local-policy.service",
		},
		SessionUnits: []string{"display-manager.service", "session-2.scope"},
	}, e)

	toDesktop := Build(p, s, policy.Desktop)
	e, needed = toDesktop.UnitOperations(p, s)
	require.False(t, needed, "two units by their names")
	require.Equal(t, unitgraph.UnitOperations{Stops: e.Stops}, e)
	p.MustSurvive = []string{"backup.service"}
	_, needed = toDesktop.UnitOperations(p, s)
	require.True(t, needed, "it may depend on them")
	p.MustSurvive = nil
	u := s.Systemd.Units["k3s.service"]
	u.Job = 7
	s.Systemd.Units["k3s.service"] = u
	_, needed = toDesktop.UnitOperations(p, s)
	require.True(t, needed, "a queued job may conflict")
	_, needed = Build(p, onDesktop.snapshot(), policy.Desktop).UnitOperations(p, s)
	require.False(t, needed, "there is nothing to do")
}

func TestEveryKindOfStepIsDescribed(t *testing.T) {
	o := planContext(onStudio.snapshot(), policy.Compute, "run-1.service")
	for _, kind := range Kinds() {
		words := o.Describe(
			Step{ID: "x", Kind: kind, Unit: "compute.target", Guard: policy.CheckAudioIdle, Grace: time.Second},
		)
		assert.NotEmpty(t, words.Does, kind)
		assert.Equal(
			t, Step{Kind: kind}.Waits(), words.Undo == "", "%s: a step that changes something has an undo", kind,
		)
	}
	require.Empty(t, o.Describe(Step{Kind: "invent"}))
	isolate := o.Describe(Step{Kind: Isolate, Unit: "compute.target"})
	require.Equal(t, "isolate compute.target, which stops 6 units", isolate.Does)
	require.Equal(t, "start what was active before, except 1 unit without a unit file", isolate.Undo)
	o.Impact = unitgraph.Impact{}
	require.Contains(t, o.Describe(Step{Kind: Isolate, Unit: "compute.target"}).Does, "an unknown number of units")
}

// noise are changes of a host that do not change the fingerprint.
var noise = map[string]func(*observer.Snapshot){
	"a later look": func(s *observer.Snapshot) {
		s.Systemd.At, s.Logind.At, s.Processes.At = time.Unix(9, 0), time.Unix(9, 0), time.Unix(9, 0)
	},
	"a login over ssh": func(s *observer.Snapshot) {
		s.Logind.Sessions = append(
			s.Logind.Sessions, observer.Session{ID: "9", UID: 1001, Class: "user", Type: "tty", Remote: true},
		)
	},
	"a locked screen": func(s *observer.Snapshot) {
		for i := range s.Logind.Sessions {
			s.Logind.Sessions[i].Locked, s.Logind.Sessions[i].Idle, s.Logind.Sessions[i].State = true, true, "online"
		}
	},
	"another process on the GPU": func(s *observer.Snapshot) {
		s.Processes.Holders = append(
			s.Processes.Holders, observer.Holder{GPU: "0000:01:00.0", PID: 901, Unit: "session-2.scope"},
		)
	},
	"load": func(s *observer.Snapshot) { s.Procfs.LoadPerCore.Value = new(float64) },
	"a unit of no plan": func(s *observer.Snapshot) {
		s.Systemd.Units["other.service"] = observer.Unit{LoadState: "loaded", ActiveState: "inactive"}
	},
	"another run of a unit": func(s *observer.Snapshot) {
		u := s.Systemd.Units["graphical.target"]
		u.InvocationID, u.ActiveSince = "ff", time.Unix(9, 0)
		s.Systemd.Units["graphical.target"] = u
	},
}

// A preparation that is done stays active until isolate, and does not change the
// fingerprint.
func TestFingerprintKeepsStartedUnits(t *testing.T) {
	h := onDesktop
	h.prepares = []policy.Mode{policy.Compute}
	before := planContext(h.snapshot(), policy.Compute)
	prepare := policy.PrepareUnit(policy.Compute)
	require.Equal(t, prepare, before.Steps[0].Unit)
	h.active = append(slices.Clone(h.active), prepare)
	after := planContext(h.snapshot(), policy.Compute)
	require.True(
		t, slices.ContainsFunc(after.Impact.StoppedUnits(),
			func(c unitgraph.StoppedUnit) bool { return c.Unit == prepare }),
	)
	require.Equal(t, before.Fingerprint(passing(before)), after.Fingerprint(passing(after)))
}

// meaning are changes that change the fingerprint.
var meaning = map[string]func(*Context, *[]Judged){
	"another guard's answer": func(_ *Context, j *[]Judged) { (*j)[0].Code = 18 },
	"a guard less":           func(_ *Context, j *[]Judged) { *j = (*j)[1:] },
	"a step less":            func(o *Context, _ *[]Judged) { o.Steps = o.Steps[1:] },
	"the steps in another order": func(o *Context, _ *[]Judged) {
		o.Steps = slices.Clone(o.Steps)
		slices.Reverse(o.Steps)
	},
	"a longer bound":  func(o *Context, _ *[]Judged) { o.Steps = slices.Clone(o.Steps); o.Steps[0].Timeout++ },
	"another session": func(o *Context, _ *[]Judged) { o.Snapshot.Logind.Sessions[0].ID = "3" },
	"somebody else":   func(o *Context, _ *[]Judged) { o.Snapshot.Logind.Sessions[0].UID++ },
	"one session more": func(o *Context, _ *[]Judged) {
		o.Snapshot.Logind.Sessions = append(o.Snapshot.Logind.Sessions, observer.Session{ID: "c2", Class: "greeter"})
	},
	"a unit more stops": func(o *Context, _ *[]Judged) {
		o.Impact = impactOf(o.Plan, o.Snapshot, "run-1.service", "run-2.service")
	},
	"a unit less stops": func(o *Context, _ *[]Judged) { o.Impact = impactOf(o.Plan, o.Snapshot) },
	"a unit that cannot return": func(o *Context, _ *[]Judged) {
		stops := o.Impact.Isolation.Stops
		stops[slices.IndexFunc(
			stops, func(c unitgraph.StoppedUnit) bool { return c.Unit == "graphical.target" },
		)].Transient = true
	},
	"systemd would refuse":     func(o *Context, _ *[]Judged) { o.Impact.Isolation.Refused = "no" },
	"units that are not known": func(o *Context, _ *[]Judged) { o.Impact.Reason = "no answer" },
	"another mode":             func(o *Context, _ *[]Judged) { o.To = policy.StudioLocal },
	"nothing to do":            func(o *Context, _ *[]Judged) { o.Reached = true },
}

// Noise leaves the fingerprint; a change with a meaning, with or without noise, changes
// it.
func TestFingerprintIgnoresNoise(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := rapid.SampledFrom([]host{onDesktop, onStudio}).Draw(t, "host")
		was := planContext(h.snapshot(), policy.Compute, "run-1.service")
		before := was.Fingerprint(passing(was))
		require.Regexp(t, "^[0-9a-f]{32}$", before)

		s := h.snapshot()
		for _, name := range rapid.SliceOfDistinct(rapid.SampledFrom(keys(noise)), rapid.ID).Draw(t, "noise") {
			noise[name](&s)
		}
		now := planContext(s, policy.Compute, "run-1.service")
		require.Equal(t, before, now.Fingerprint(passing(now)), "noise")

		judged := passing(now)
		what := rapid.SampledFrom(keys(meaning)).Draw(t, "change")
		meaning[what](&now, &judged)
		require.NotEqual(t, before, now.Fingerprint(judged), what)
	})
}

// Each change has a fingerprint of its own.
func TestFingerprintsDiffer(t *testing.T) {
	seen := map[string]string{}
	for what, change := range meaning {
		o := planContext(onStudio.snapshot(), policy.Compute, "run-1.service")
		judged := passing(o)
		change(&o, &judged)
		print := o.Fingerprint(judged)
		require.Empty(t, seen[print], what)
		seen[print] = what
	}
}

func keys[T any](m map[string]T) []string {
	var list []string
	for k := range m {
		list = append(list, k)
	}
	slices.Sort(list)
	return list
}
