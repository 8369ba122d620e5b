package plans

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// asking is a policy with an end hook.
func asking() policy.Policy {
	p := policy.Default()
	p.Sessions.EndHook = []string{"uwsm", "stop"}
	return p
}

// aliceAt is a desktop with a session of alice, where a process of that cgroup holds the
// display GPU.
func aliceAt(unit string) observer.Snapshot {
	s := onDesktop.snapshot()
	s.Logind.Sessions[0].UID = 1000
	s.Processes.Holders[0].Unit, s.Processes.Holders[0].UID = unit, 1000
	return s
}

func stepOf(t *testing.T, p Plan, kind Kind) Step {
	t.Helper()
	i := slices.IndexFunc(p.Steps, func(s Step) bool { return s.Kind == kind })
	require.GreaterOrEqual(t, i, 0, "%s is not in %v", kind, ids(p))
	return p.Steps[i]
}

// The stop of a display manager may end its session, so the hook runs before it, and
// behind the point of no return.
func TestAHookIsRunAsThosePeopleBeforeAnythingIsTaken(t *testing.T) {
	p := asking()
	plan := Build(p, aliceAt("session-2.scope"), policy.Compute)
	assert.Equal(t, "ask-sessions", plan.Steps[plan.CommitIndex].ID)
	assert.Equal(t, "stop-display-manager", plan.Steps[plan.CommitIndex+1].ID)
	ask := stepOf(t, plan, AskSessions)
	assert.Equal(t, []uint32{1000}, ask.Users)
	assert.True(t, ask.Optional, "what it comes to is no condition")
	assert.Equal(t, p.Sessions.EndTimeout.D(), ask.Grace)
	assert.Greater(t, ask.Timeout, ask.Grace, "to stop one that hangs takes time too")

	assert.NotContains(t, ids(Build(policy.Default(), aliceAt("session-2.scope"), policy.Compute)), "ask-sessions")
	greeted := host{active: onDesktop.active, greeter: true}.snapshot()
	assert.NotContains(t, ids(Build(p, greeted, policy.Compute)), "ask-sessions", "a greeter is nobody's")
	assert.NotContains(t, ids(Build(p, onCompute.snapshot(), policy.Desktop)), "ask-sessions")
}

func TestAUserManagerIsEndedWhereItHasTheGPU(t *testing.T) {
	for unit, want := range map[string]bool{
		"session-2.scope": false, "user@1000.service/wayland-wm@hyprland.service": true, "user@1000.service": true,
		"user@10000.service/x.service": false, "user@1001.service/x.service": false,
	} {
		plan := Build(policy.Default(), aliceAt(unit), policy.Compute)
		list := ids(plan)
		assert.Equal(t, want, slices.Contains(list, "end-user-managers"), unit)
		if want {
			assert.Equal(t, slices.Index(list, "end-sessions")+1, slices.Index(list, "end-user-managers"))
			assert.Equal(t, []uint32{1000}, stepOf(t, plan, EndManagers).Users)
		}
	}
}

func TestAUserManagerThatMustSurviveIsLeftToTheGate(t *testing.T) {
	p := policy.Default()
	p.MustSurvive = []string{"user@1000.service"}
	list := ids(Build(p, aliceAt("user@1000.service/x.service"), policy.Compute))
	assert.NotContains(t, list, "end-user-managers")
	assert.Contains(t, list, "check-gpu-display-released")
}

// orphaned is a host where a unit of vLLM is inactive and a worker of it holds the GPU.
func orphaned(from host, unit string) observer.Snapshot {
	s := of(from)
	s.Processes.Holders = append(
		s.Processes.Holders,
		observer.Holder{GPU: "0000:01:00.0", PID: 77, Command: "worker", Unit: unit, Slices: []string{"ai.slice"}},
	)
	return s
}

func TestAWorkerThatWasLeftIsEndedBeforeTheNextVLLMStarts(t *testing.T) {
	crashed := host{active: []string{"compute.target"}, has: policy.Compute}
	assert.Equal(
		t, []string{"stop-vllm", "start-vllm", "await-vllm-healthy"},
		ids(Build(policy.Default(), orphaned(crashed, "vllm.service"), policy.Compute)),
	)
	plan := Build(policy.Default(), orphaned(onDesktop, "vllm.service"), policy.Compute)
	assert.Equal(t, "stop-vllm", plan.Steps[0].ID, "%v", ids(plan))
	assert.NotContains(t, ids(plan), "drain-vllm", "it serves nobody")
	assert.True(t, plan.Steps[0].NeedsMemory)
	assert.Equal(
		t, []string{"stop-vllm"}, ids(Build(policy.Default(), orphaned(onDesktop, "vllm.service"), policy.Desktop)),
	)
	assert.Empty(t, ids(Build(policy.Default(), orphaned(onDesktop, "k3s.service"), policy.Desktop)), "nobody's worker")
}

func TestWorkersElsewhereGoWhenAllOfVLLMDoes(t *testing.T) {
	p := contracted()
	worker := func(profile string, units ...string) {
		p.VLLM.Profiles[profile] = policy.Profile{Unit: p.VLLM.Profiles[profile].Unit, WorkerUnits: units}
	}
	worker("fast", "ray.service")
	stop := stepOf(t, Build(p, of(bareCompute, "vllm-fast.service"), policy.Desktop), StopVLLM)
	assert.Equal(t, []string{"ray.service"}, stop.Units)
	assert.Equal(t, 5*time.Second, stop.Grace)
	assert.False(t, stop.NeedsMemory, "a wrong number keeps nobody out of their desktop")
	stop = stepOf(t, Build(p, of(bareCompute, "vllm.service", "vllm-fast.service"), policy.Compute), StopVLLM)
	assert.Equal(t, "vllm.service", stop.Unit)
	assert.Empty(t, stop.Units, "vllm-fast.service runs on, and they may be its workers")
	worker("default", "ray.service", "dask.service")
	stop = stepOf(t, Build(p, of(bareCompute, "vllm.service", "vllm-fast.service"), policy.Compute), StopVLLM)
	assert.Equal(t, []string{"dask.service"}, stop.Units, "those that the other profile alone has")
}

func TestWhatADrainThatTakesTooLongMeansIsThePolicys(t *testing.T) {
	p := policy.Default()
	assert.False(t, stepOf(t, Build(p, onCompute.snapshot(), policy.Desktop), Drain).Optional)
	p.VLLM.OnDrainTimeout = policy.DrainStop
	assert.True(t, stepOf(t, Build(p, onCompute.snapshot(), policy.Desktop), Drain).Optional)
}

// instance adds an instance of the template that the policy does not name.
func instance(s observer.Snapshot, name, state string) observer.Snapshot {
	s.Systemd.Units[name] = observer.Unit{ID: name, LoadState: "loaded", ActiveState: state}
	return s
}

// templated is a policy with profiles that are instances of a template.
func templated(profile string) policy.Policy {
	p := contracted()
	p.VLLM.Profiles = map[string]policy.Profile{"default": {Unit: "vllm.service"}, "fast": {Unit: "vllm@fast.service"}}
	p.Modes.Compute.VLLMProfile = profile
	return p
}

func TestEveryOtherInstanceOfTheTemplateIsStopped(t *testing.T) {
	p := templated("fast")
	s := instance(
		instance(instance(of(bareCompute, "batch.timer"), "vllm@fast.service", "active"), "vllm@stray.service",
			"active"),
		"vllm@old.service", "inactive",
	)
	assert.Equal(t, []string{"drain-vllm", "stop-vllm@stray"}, ids(Build(p, s, policy.Compute)))

	s = instance(instance(of(onDesktop), "vllm@fast.service", "inactive"), "vllm@stray.service", "active")
	plan := ids(Build(p, s, policy.Compute))
	assert.Equal(t, []string{"drain-vllm", "stop-vllm@stray", "stop-display-manager"}, plan[:3])
	assert.Equal(
		t, []string{"stop-another-vllm", "stop-another-vllm@stray", "start-vllm@fast", "await-vllm-healthy"},
		plan[len(plan)-4:],
	)

	s = instance(instance(of(bareCompute), "vllm@fast.service", "active"), "vllm@stray.service", "activating")
	assert.Equal(t, []string{"drain-vllm", "stop-vllm@fast", "stop-vllm@stray"}, ids(Build(p, s, policy.Desktop))[:3])
	assert.Contains(t, Watched(p), "vllm@fast.service")
}

func TestTheNewStepsHaveWords(t *testing.T) {
	p := asking()
	p.VLLM.Profiles[policy.ProfileDefault] = policy.Profile{Unit: "vllm.service", WorkerUnits: []string{"ray.service"}}
	s := aliceAt("user@1000.service/x.service")
	o := Context{Plan: Build(p, s, policy.Compute), Snapshot: s}
	assert.Equal(t, "run the end hook of 1 session, for 30s at most", o.Describe(stepOf(t, o.Plan, AskSessions)).Does)
	assert.Equal(
		t, "wait until processes of 1 user release the GPU, stop their user managers after 15s",
		o.Describe(stepOf(t, o.Plan, EndManagers)).Does,
	)
	s = onCompute.snapshot()
	o = Context{Plan: Build(p, s, policy.Desktop), Snapshot: s}
	words := o.Describe(stepOf(t, o.Plan, StopVLLM))
	assert.Equal(t, "stop vllm.service until none of its processes has a GPU open", words.Does)
	assert.Equal(t, []string{"kill ray.service if a process in it still has a GPU open"}, words.Changes)
	ops, _ := o.UnitOperations(p, s)
	assert.Equal(t, []string{"vllm.service"}, ops.Stops)
}

// Which sessions are lost follows from logind, and from a step that is done.
func TestStepsSayWhoseSessionsAreLost(t *testing.T) {
	const lost = "the session of alice (uid 1000) was ended and cannot be restored"
	active := func(ids ...string) observer.Logind {
		l := observer.Logind{Reading: observer.Reading{At: time.Now()}}
		for _, id := range ids {
			l.Sessions = append(l.Sessions, observer.Session{ID: id, State: "active"})
		}
		return l
	}
	closing := active("2")
	closing.Sessions[0].State = "closing"
	end := Step{Kind: EndSessions, People: []Person{{"2", "alice", 1000}}}
	ask := Step{Kind: AskSessions, People: []Person{{"2", "alice", 1000}, {"5", "bob", 1001}}}
	for name, c := range map[string]struct {
		step Step
		done bool
		now  observer.Logind
		want string
	}{
		"still there":     {end, false, active("2"), ""},
		"gone":            {end, false, active(), lost},
		"closing":         {end, false, closing, lost},
		"seen to be gone": {end, true, observer.Logind{}, lost},
		"not known":       {end, false, observer.Logind{}, strings.Replace(lost, "was", "may have been", 1)},
		"asked and gone": {
			ask, true, active(), "the sessions of alice (uid 1000), bob (uid 1001) were ended and cannot be restored",
		},
		"asked and stayed":   {ask, true, active("2", "5"), ""},
		"asked and one gone": {ask, true, active("5"), lost},
		"nobody was there":   {Step{Kind: EndSessions}, true, active(), ""},
	} {
		assert.Equal(t, c.want, c.step.Lost(c.done, c.now), name)
	}
}

func TestThePlanKnowsWhoseSessionsItTakes(t *testing.T) {
	at := aliceAt("session-2.scope")
	at.Logind.Sessions[0].User = "alice"
	plan := Build(asking(), at, policy.Compute)
	for _, s := range plan.Steps {
		var want []Person
		if slices.Contains([]string{"ask-sessions", "stop-display-manager", "end-sessions"}, s.ID) {
			want = []Person{{"2", "alice", 1000}}
		}
		assert.Equal(t, want, s.People, s.ID)
	}
	at.Logind.Sessions[0].State = "closing"
	assert.Empty(t, stepOf(t, Build(asking(), at, policy.Compute), EndSessions).People,
		"a closing session is not lost")
}

// The preview and the record describe an irreversible step alike.
func TestWhatIsIrreversibleIsToldBefore(t *testing.T) {
	c := Context{Plan: Build(asking(), aliceAt("session-2.scope"), policy.Compute)}
	described := 0
	for _, s := range c.Steps {
		if why := s.Kind.Irreversible(); why != "" {
			described++
			assert.Equal(t, "not reversible: the user has to log in again", c.Describe(s).Undo)
		}
	}
	assert.Equal(t, 2, described)
}
