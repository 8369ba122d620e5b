//go:build integration

package integration

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/internal/embedded"
	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/internal/testhost/sim"
	"github.com/dubnium/dubnium/internal/vllmstandin"
	"github.com/dubnium/dubnium/policy"
)

// requireRefused runs a command that must be refused with this code and one line
// that says so, and must leave everything as it is.
func requireRefused(t *testing.T, w *embedded.Workstation, code int, says string, args ...string) {
	t.Helper()
	before := everythingOf(t, w)
	a := run(t, as(nobody, w.ModectlCommand(bounded(t), args...)))
	require.Equal(t, code, a.code)
	require.Contains(t, a.stderr, says)
	require.Equal(t, 1, strings.Count(a.stderr, "\n"), "it is one line")
	require.Empty(t, a.stdout)
	require.Equal(t, before, everythingOf(t, w))
}

func TestMisuseIsOneLineAndChangesNothing(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{}, nil)
	for says, args := range map[string]string{
		"the modes are desktop, studio-local, compute": "request sleep",
		"request needs one mode":                       "request",
		"unknown flag: --frobnicate":                   "request desktop --frobnicate",
		"unknown command":                              "frobnicate",
		"more than 256":                                "request desktop --reason " + strings.Repeat("x", 257),
		"must be 1 to 1000":                            "history --limit 1001",
	} {
		requireRefused(t, w, 30, says, strings.Fields(args)...)
	}
}

// answers makes polkit give this answer and no other.
func answers(a testhost.PolkitAnswer) testhost.Authorize {
	return func(context.Context, testhost.PolkitRequest) testhost.PolkitAnswer { return a }
}

func TestWhoIsNotAuthorizedChangesNothing(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{}, nil)
	for _, mode := range []string{"desktop", "studio-local", "compute"} {
		w.SetAuthorize(answers(testhost.PolkitAnswer{}))
		requireRefused(t, w, 40, "was not granted", "request", mode)
		w.SetAuthorize(answers(testhost.PolkitAnswer{Challenge: true}))
		requireRefused(t, w, 40, "needs authentication", "request", mode, "--no-ask-password")
		requireRefused(t, w, 40, "was not granted", "request", mode)
	}
	for _, r := range w.PolkitRequests() {
		require.Equal(t, "system-bus-name", r.SubjectKind, "a pid can be another process by now")
	}
}

func TestOneUserCannotTakeUpAllThePrompts(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{}, nil)
	before := everythingOf(t, w)
	thought := make(chan struct{})
	w.SetAuthorize(func(ctx context.Context, _ testhost.PolkitRequest) testhost.PolkitAnswer {
		select {
		case <-thought:
		case <-ctx.Done():
		}
		return testhost.PolkitAnswer{}
	})
	codes := map[int]int{}
	all := make(chan answer, 5)
	for range 5 {
		one := background(t, as(nobody, w.ModectlCommand(bounded(t), "request", "compute")))
		go func() { all <- <-one }()
	}
	codes[soon(t, "one is too many", all).code]++
	require.Equal(t, map[int]int{42: 1}, codes)
	close(thought)
	for range 4 {
		codes[soon(t, "the others are denied", all).code]++
	}
	require.Equal(t, map[int]int{42: 1, 40: 4}, codes)
	require.Equal(t, before, everythingOf(t, w))
}

func TestFreshLooksAreRationed(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{}, nil)
	var running []<-chan answer
	for range 8 {
		running = append(running, background(t, as(nobody, w.ModectlCommand(bounded(t), "current", "--refresh"))))
	}
	codes := map[int]int{}
	for _, one := range running {
		codes[soon(t, "an answer", one).code]++
	}
	require.NotZero(t, codes[0])
	require.NotZero(t, codes[42])
	require.Equal(t, 8, codes[0]+codes[42])
}

func TestWhileATransitionRunsAnotherIsRefusedAndTheSameIsJoined(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{}, nil)
	c := watch(t, w)
	require.NoError(t, w.Hang("greetd.service"))
	first := background(t, w.ModectlCommand(bounded(t), "request", "compute"))
	c.awaitStep(t, "stop-display-manager", status.StepDoing)

	busy := modectl(t, w, "request", "desktop")
	require.Equal(t, 42, busy.code)
	require.Contains(t, busy.stderr, "another transition is running")
	require.Equal(t, "compute\n", modectl(t, w, "desired").stdout, "a refused wish is no wish")
	require.Equal(t, "transitioning\n", modectl(t, w, "current").stdout)
	second := background(t, w.ModectlCommand(bounded(t), "request", "compute"))

	require.NoError(t, w.Heal("greetd.service"))
	require.Zero(t, soon(t, "the first", first).code)
	require.Zero(t, soon(t, "the second", second).code)
	require.Len(t, jsonLines(t, modectl(t, w, "history", "--json").stdout), 1)
	requireHost(t, w, policy.Compute)
}

// freeze stops the simulated machine after a last change: nobody on it answers
// until it is thawed.
func freeze(t *testing.T, w *embedded.Workstation, change func(*sim.Model)) (thaw func()) {
	frozen, thawed, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		w.Do(func(m *sim.Model) {
			change(m)
			close(frozen)
			<-thawed
		})
	}()
	<-frozen
	thaw = sync.OnceFunc(func() { close(thawed); <-done })
	t.Cleanup(thaw)
	return thaw
}

// frozenOnceAuthorized freezes the machine between the answer of polkit and what
// the daemon makes of it. Nobody may be logged in: polkit would be asked twice.
func frozenOnceAuthorized(t *testing.T, w *embedded.Workstation, change func(*sim.Model)) <-chan func() {
	thaw := make(chan func(), 1)
	w.SetAuthorize(func(context.Context, testhost.PolkitRequest) testhost.PolkitAnswer {
		thaw <- freeze(t, w, change)
		return testhost.PolkitAnswer{Authorized: true}
	})
	return thaw
}

func TestASessionThatBeganMeanwhileIsNotEnded(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{NoAutoLogin: true}, nil)
	c := watch(t, w)
	thaw := frozenOnceAuthorized(t, w, func(m *sim.Model) {
		m.OpenSession(
			testhost.Session{UID: 1001, User: "bob", Class: "user", Type: "wayland", Seat: "seat0", Service: "login"},
		)
	})
	asked := background(t, as(nobody, w.ModectlCommand(bounded(t), "request", "compute")))
	c.await(t, "the request is accepted", func(e status.Event) bool { return e.Started != nil })
	soon(t, "the machine is frozen", thaw)()
	a := soon(t, "an answer", asked)
	require.Equal(t, 20, a.code, "nobody can tell yet what bob plays")
	require.Contains(t, a.stdout, "check_graphical_session_terminable (17): session")
	require.Contains(t, a.stdout, "belongs to bob")
	require.True(t, hostOf(w).has("user"))
	requireHost(t, w, policy.Desktop)
}

func TestASystemdThatDoesNotAnswerCannotBeJudged(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{NoAutoLogin: true}, func(p *policy.Policy) { shorten(slow/3, &p.Timeouts.Look) })
	c := watch(t, w)
	thaw := frozenOnceAuthorized(t, w, func(*sim.Model) {})
	asked := background(t, as(nobody, w.ModectlCommand(bounded(t), "request", "compute")))
	a := soon(t, "an answer", asked)
	require.Equal(t, 28, a.code)
	require.Contains(t, a.stdout, "cannot read systemd")
	require.Equal(t, "unknown\n", modectl(t, w, "current").stdout)

	soon(t, "the machine is frozen", thaw)()
	c.await(t, "the host is seen again", func(e status.Event) bool {
		return e.StateChanged != nil && e.StateChanged.New == "desktop"
	})
	requireHost(t, w, policy.Desktop)
}

func TestAVLLMThatDiesWhileItLoadsIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{VLLM: vllmstandin.Options{NeverHealthy: true}}, nil)
	c := watch(t, w)
	asked := background(t, w.ModectlCommand(bounded(t), "request", "compute"))
	c.awaitStep(t, "await-vllm-healthy", status.StepDoing)
	require.NoError(t, w.Crash("vllm.service", "oom-kill"))
	a := soon(t, "an answer", asked)
	require.Equal(t, 53, a.code)
	require.Contains(t, a.stdout, "vLLM does not run")
	requireHost(t, w, policy.Desktop)
	requireHonest(t, w)
}
