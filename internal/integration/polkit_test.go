//go:build integration

package integration

import (
	"context"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/policy"
)

const operatorsRules = "../../dbus-policy/50-dubnium-operators.rules"

// What the table of rights says of the actions, as the real polkit reads them.
func TestPolkitGrantsWhatTheTableSays(t *testing.T) {
	t.Parallel()
	g := startGuarded(t)
	for action, rights := range granted {
		for _, who := range callers() {
			require.Equal(t, rights[who.column()], g.verdict(t, action, who), "%s, %s", action, who)
		}
	}
}

func TestWhoMayNotIsRefusedAndChangesNothing(t *testing.T) {
	t.Parallel()
	g := startGuarded(t)
	for _, who := range callers() {
		for _, mode := range policy.Modes() {
			if mode == policy.StudioLocal && who.column() == byActive {
				continue
			}
			g.requireRefused(t, "needs authentication", who, string(mode), "--no-ask-password")
			g.requireRefused(t, "was not granted", who, string(mode)) // no agent could ask
		}
	}
	requireHost(t, g.Workstation, policy.Desktop)
}

func TestWhoeverSitsAtTheMachineMayHaveTheOverlay(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]place{"from the session": atSeat, "from a service of the user": userUnit} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := startGuarded(t)
			require.Zero(t, g.modectl(t, caller{alice, at}, "request", "studio-local").code)
			requireHost(t, g.Workstation, policy.StudioLocal)
			g.requireRefused(t, "needs authentication", caller{alice, at}, "desktop", "--no-ask-password")
			requireHost(t, g.Workstation, policy.StudioLocal)
		})
	}
}

func TestEverybodyMayLook(t *testing.T) {
	t.Parallel()
	g := startGuarded(t)
	for _, command := range []string{"status", "current", "desired", "history"} {
		require.Zero(t, g.modectl(t, caller{bob, nowhere}, command).code)
	}
	require.Equal(t, "desktop\n", g.modectl(t, caller{bob, remote}, "current", "--refresh").stdout)
}

func TestOperatorsSwitchWithoutAPasswordButEndNobodysSession(t *testing.T) {
	t.Parallel()
	g := startGuarded(t, operatorsRules)
	for action, rights := range granted {
		require.Equal(t, rights[byOperator], g.verdict(t, action, caller{carol, remote}), action)
	}
	g.requireRefused(t, "compute would end other users' sessions", caller{carol, remote}, "compute")
	require.True(t, hostOf(g.Workstation).has("user"), "alice works on")
	for _, mode := range []policy.Mode{policy.StudioLocal, policy.Desktop} {
		require.Zero(t, g.modectl(t, caller{carol, remote}, "request", string(mode)).code)
		requireHost(t, g.Workstation, mode)
	}
	g.requireRefused(t, "was not granted", caller{bob, remote}, "studio-local")

	endSession(t, g.Workstation)
	require.NoError(t, g.WaitSession(bounded(t), "user", false))
	require.Equal(t, "desktop\n", modectl(t, g.Workstation, "current", "--refresh").stdout, "now the daemon knows")
	for _, mode := range []policy.Mode{policy.Compute, policy.Desktop} {
		require.Zero(t, g.modectl(t, caller{carol, nowhere}, "request", string(mode)).code)
		requireHost(t, g.Workstation, mode)
	}
}

// An operator ends their own session without being asked about other people's.
func TestAnOperatorAtTheMachineEndsTheirOwnSession(t *testing.T) {
	t.Parallel()
	g := startGuarded(t, aliceIsOperator(t))
	require.Zero(t, g.modectl(t, caller{alice, atSeat}, "request", "compute").code)
	requireHost(t, g.Workstation, policy.Compute)
}

// aliceIsOperator is the operators' rule for alice alone.
func aliceIsOperator(t *testing.T) (file string) {
	t.Helper()
	file = t.TempDir() + "/50-alice.rules"
	require.NoError(t, os.WriteFile(file, []byte(`polkit.addRule(function (action, subject) {
    if (action.id == "org.dubnium.mode1.request-compute" && subject.user == "alice") {
        return polkit.Result.YES;
    }
});
`), 0o644))
	return file
}

func TestABrokenPolkitLocksNobodyOutButThoseItWouldGrant(t *testing.T) {
	t.Parallel()
	g := startGuarded(t)
	require.Zero(t, g.modectl(t, caller{alice, atSeat}, "request", "studio-local").code)
	g.killPolkitd()
	for _, mode := range policy.Modes() {
		g.requireRefused(t, "cannot call polkit", caller{alice, atSeat}, string(mode))
	}
	for _, mode := range []policy.Mode{policy.Compute, policy.Desktop, policy.StudioLocal} {
		reach(t, g.Workstation, mode) // as root
	}
}

// stuck makes polkit hang with as many requests of alice's as she may have: the
// fifth is refused because the others wait.
func (g *guarded) stuck(ctx context.Context, t *testing.T) (waiting []<-chan answer) {
	t.Helper()
	require.NoError(t, g.polkitd.Signal(syscall.SIGSTOP))
	all := make(chan int, 5)
	for i := range 5 {
		asked := background(t, g.as(t, caller{alice, atSeat}, g.ModectlCommand(ctx, "request", "studio-local")))
		one := make(chan answer, 1)
		waiting = append(waiting, one)
		go func() {
			one <- <-asked
			all <- i
		}()
	}
	refused := soon(t, "one is too many", all)
	require.Equal(t, 42, soon(t, "its answer", waiting[refused]).code)
	return append(waiting[:refused:refused], waiting[refused+1:]...)
}

func TestAPolkitThatHangsHoldsUpOnlyThoseWhoAskIt(t *testing.T) {
	t.Parallel()
	g := startGuarded(t)
	before := everythingOf(t, g.Workstation)
	waiting := g.stuck(bounded(t), t)
	require.Zero(t, g.modectl(t, caller{alice, atSeat}, "status").code)
	require.Zero(t, g.modectl(t, caller{bob, nowhere}, "current", "--refresh").code)
	require.Equal(t, before, everythingOf(t, g.Workstation))
	reach(t, g.Workstation, policy.Compute)
	reach(t, g.Workstation, policy.Desktop)

	before = everythingOf(t, g.Workstation)
	g.killPolkitd()
	for _, one := range waiting {
		require.Equal(t, 40, soon(t, "a hang that ends without an answer is a no", one).code)
	}
	require.Equal(t, before, everythingOf(t, g.Workstation))
}

func TestAPolkitThatWakesUpGrantsWhatItWasAsked(t *testing.T) {
	t.Parallel()
	g := startGuarded(t)
	waiting := g.stuck(bounded(t), t)
	require.NoError(t, g.polkitd.Signal(syscall.SIGCONT))
	for _, one := range waiting {
		require.Zero(t, soon(t, "it is granted", one).code)
	}
	requireHost(t, g.Workstation, policy.StudioLocal)
}

// What polkit grants to somebody who has left in the meantime is not done.
func TestWhoLeavesBeforeTheAnswerGetsNothing(t *testing.T) {
	t.Parallel()
	g := startGuarded(t)
	before := everythingOf(t, g.Workstation)
	ctx, leave := context.WithCancel(bounded(t))
	waiting := g.stuck(ctx, t)
	leave()
	for _, one := range waiting {
		soon(t, "it is gone", one)
	}
	require.NoError(t, g.polkitd.Signal(syscall.SIGCONT))
	// polkit answers in order, so the others are decided when this one is.
	g.requireRefused(t, "needs authentication", caller{bob, atSeat}, "compute", "--no-ask-password")
	require.Equal(t, before, everythingOf(t, g.Workstation))
}
