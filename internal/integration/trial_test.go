//go:build integration

package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/internal/embedded"
	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/internal/testhost/sim"
	"github.com/dubnium/dubnium/observer/audio"
	"github.com/dubnium/dubnium/policy"
)

// Every call of the table, as each kind of caller, in each mode.
func TestRights(t *testing.T) {
	t.Parallel()
	for column, k := range askers {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			x := startTrial(t, column)
			for _, p := range []struct {
				from    policy.Mode
				besides bool
			}{
				{policy.Desktop, false},
				{policy.Desktop, true},
				{policy.StudioLocal, true},
				{policy.StudioLocal, false},
				{policy.Compute, false},
			} {
				x.from = p.from
				x.enter(t)
				x.alice(t, p.besides)
				for _, l := range rights {
					if slices.Contains(l.from, x.from) && l.besides == p.besides {
						x.tryLine(t, l)
					}
				}
				requireHost(t, x.Workstation, x.from)
			}
		})
	}
}

// trial tries the table as one kind of caller. A delay inhibitor of root's holds what
// is let: it is canceled before it changes the host.
type trial struct {
	*guarded
	column      int
	watch       *watcher
	root        *person
	self, other *person // the caller, and another user who may everything
	hold        uint32  // root's inhibitor
	session     string  // the caller's at the screen
	alices      string  // alice's, empty for none

	from policy.Mode
	// What the circumstances of a call made.
	lease, transition uint64
	cookie            uint32
	undo              []func()
	interactive       bool // whether the last call that is let without a password was
	calls, looks      int  // of the caller since the daemon was started, which rations them
}

func startTrial(t *testing.T, column int) *trial {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Minute)
	t.Cleanup(cancel)
	g := startGuardedFor(ctx, t, embedded.Options{
		Host:   testhost.Options{NoAutoLogin: true},
		Policy: func(p *policy.Policy) { p.Announce.MaxDelay = policy.Duration(time.Hour) },
	}, askers[column].rules...)
	x := &trial{guarded: g, column: column, watch: watch(t, g.Workstation), root: g.root(t)}
	x.self, x.other = g.person(t, askers[column].who), x.root
	g.lendAudio(t, x.self.uid)
	if column == byRoot {
		x.other = g.person(t, caller{dave, atSeat})
	}
	x.logIn(t)
	x.holdUp(t)
	return x
}

// enter takes the host to the mode.
func (x *trial) enter(t *testing.T) {
	t.Helper()
	x.finished(t, x.root.must(t, ask("RequestMode", busapi.FlagNoWait, busapi.Dict{}, string(x.from)))[0].(uint64))
	requireHost(t, x.Workstation, x.from)
	if x.from == policy.Compute {
		awaitGone(t, x.Workstation, x.self.uid)
	}
}

// alice logs in, or out. The facts about somebody who has just logged in are not there
// at once.
func (x *trial) alice(t *testing.T, in bool) {
	t.Helper()
	if in == (x.alices != "") {
		return
	}
	if !in {
		x.logOut(t, x.alices, alice)
		x.alices = ""
		return
	}
	var err error
	x.alices, err = x.Login("alice")
	require.NoError(t, err)
	require.NoError(t, x.WaitUnit(bounded(t), audio.SocketUnit(alice), "active"))
	x.root.awaitPossible(t, policy.Compute)
}

// lendAudio has alice's audio server answer for another user's as well.
func (g *guarded) lendAudio(t *testing.T, uid uint32) {
	t.Helper()
	require.NoError(
		t, os.Symlink(filepath.Join(g.ProbeDir(), "audio-1000"), filepath.Join(g.ProbeDir(), fmt.Sprint("audio-", uid))),
	)
}

// awaitPossible looks until the guards let a request of root's.
func (p *person) awaitPossible(t *testing.T, mode policy.Mode) {
	t.Helper()
	for p.must(t, ask("CanRequest", 0, busapi.Dict{}, string(mode)))[0] != busapi.AnswerYes {
	}
}

// logIn gives the caller a graphical session.
func (x *trial) logIn(t *testing.T) {
	t.Helper()
	u, err := user.LookupId(fmt.Sprint(x.self.uid))
	require.NoError(t, err)
	x.session = x.AddSession(
		testhost.Session{UID: x.self.uid, User: u.Username, Class: "user", Type: "wayland", Seat: "seat0", Service: "greetd"},
	)
	require.NoError(t, x.WaitUnit(bounded(t), audio.SocketUnit(x.self.uid), "active"))
}

// logOut ends the only session of a user.
func (x *trial) logOut(t *testing.T, session string, uid uint32) {
	t.Helper()
	require.NoError(t, x.Logout(session))
	awaitGone(t, x.Workstation, uid)
}

// awaitGone waits until nothing is left of a user's session, and the daemon looks at
// that user's audio no longer: both take a while, and would be taken for a change.
func awaitGone(t *testing.T, w *embedded.Workstation, uid uint32) {
	t.Helper()
	looks := unitIs(audio.SocketUnit(uid), "active")
	require.NoError(t, w.Wait(bounded(t), "nothing is left of the session", func(m *sim.Model) bool {
		return !looks(m) && !slices.ContainsFunc(m.Sessions(), func(s sim.Session) bool { return s.UID == uid })
	}))
}

// holdUp takes root's inhibitor.
func (x *trial) holdUp(t *testing.T) {
	t.Helper()
	x.hold = x.root.must(t, inhibit("delay")(t, x))[0].(uint32)
}

// restart has everybody's rations filled.
func (x *trial) restart(t *testing.T) {
	t.Helper()
	require.NoError(t, x.KillDaemon())
	require.NoError(t, x.StartDaemon(bounded(t)))
	x.holdUp(t)
	x.calls, x.looks = 0, 0
}

// tryLine tries each way. What is let costs the host two looks: the ways that are let
// without a password are all tried by the active session alone, and what passwords lead
// to by two of the others.
func (x *trial) tryLine(t *testing.T, l line) {
	t.Helper()
	for i, w := range l.ways {
		first := i == 0
		if l.each[x.column] == yes && !first && x.column != byActive {
			break
		}
		x.tryWay(t, l, w, first && (x.column == byActive || x.column == bySessionless))
	}
	if l.can != "" {
		x.tryCan(t, l)
	}
}

// tryWay makes a call without a prompt and with: when the last prompt is canceled, and,
// if answer says so, when each is answered with a password.
func (x *trial) tryWay(t *testing.T, l line, w way, answer bool) {
	t.Helper()
	x.ration(t)
	var prompts []string
	for _, action := range l.asks {
		if r := granted[action][x.column]; r == kept || r == password {
			prompts = append(prompts, action)
		}
	}
	a := w(t, x)
	defer x.restore(t)
	switch l.each[x.column] {
	case yes:
		x.interactive = !x.interactive
		x.attempt(t, l, a, x.interactive, 0, nil, yes)
	case no:
		x.attempt(t, l, a, false, 0, nil, no)
		x.attempt(t, l, a, true, every, nil, no)
	default:
		x.attempt(t, l, a, false, 0, nil, password)
		x.attempt(t, l, a, true, len(prompts)-1, prompts, no)
		if answer {
			x.attempt(t, l, a, true, len(prompts), prompts, yes)
		}
	}
}

// attempt makes a call of which so many prompts are answered with a password. One that
// is not let has changed nothing.
func (x *trial) attempt(t *testing.T, l line, a asked, interactive bool, grants int, prompts []string, want right) {
	t.Helper()
	x.self.agent.grant(grants)
	before := x.settled(t)
	x.calls++
	_, err := x.self.call(bounded(t), a, interactive)
	x.self.forget(t)
	require.Equal(
		t, want, outcomeOf(t, a, err), "%s in %s: %s, interactive %t, %d passwords: %v", l.call, x.from, a, interactive,
		grants, err,
	)
	if want != yes {
		require.Equal(t, before, everythingOf(t, x.Workstation), "%s in %s: %s", l.call, x.from, a)
	}
	require.Equal(t, prompts, x.self.agent.seenActions(), "%s in %s: %s", l.call, x.from, a)
}

func outcomeOf(t *testing.T, a asked, err error) right {
	t.Helper()
	switch {
	case err == nil:
		return yes
	case errors.Is(err, busapi.ErrInteractionRequired):
		return password
	case errors.Is(err, busapi.ErrAccessDenied), a.method == "ReleaseInhibitor" &&
		errors.Is(err, status.ErrNoSuchInhibitor):
		return no
	}
	require.NoError(t, err, a)
	panic("unreachable")
}

// tryCan asks whether the line would be let, which asks nobody for a password.
func (x *trial) tryCan(t *testing.T, l line) {
	t.Helper()
	x.ration(t)
	x.looks++
	want := map[right]string{
		yes: busapi.AnswerYes, kept: busapi.AnswerChallenge, password: busapi.AnswerChallenge, no: busapi.AnswerNo,
	}
	x.self.agent.grant(every)
	reply, err := x.self.call(bounded(t), ask("CanRequest", 0, busapi.Dict{}, string(l.can)), true)
	require.NoError(t, err)
	require.Equal(t, want[l.each[x.column]], reply[0], "%s in %s: %v", l.call, x.from, reply[1])
	require.Empty(t, x.self.agent.seen())
}

// ration starts the daemon anew when the caller's next calls could be one too many: a
// way is five changes at most, or one look.
func (x *trial) ration(t *testing.T) {
	t.Helper()
	if x.calls > 60-5 || x.looks >= 5 {
		x.restart(t)
	}
}

// finished waits for the end of a transition. What is published then is read once: to
// read it at each signal would take longer than everything else.
func (x *trial) finished(t *testing.T, id uint64) status.View {
	t.Helper()
	x.watch.await(t, "the transition ends", func(e status.Event) bool { return e.Finished != nil && e.Finished.ID == id })
	return x.watch.properties(t).View
}

// restore brings the host back to the mode in which the line is tried, with nothing
// on its way, on terms or held.
func (x *trial) restore(t *testing.T) {
	t.Helper()
	for _, undo := range x.undo {
		undo()
	}
	x.undo = nil
	view := x.watch.properties(t).View
	if view.Running != nil {
		_, err := x.root.call(bounded(t), ask("CancelTransition", 0, busapi.Dict{}, view.Running.ID), false)
		// One that changes nothing ends by itself.
		if !errors.Is(err, status.ErrNoSuchTransition) && !errors.Is(err, status.ErrNotCancellable) {
			require.NoError(t, err)
		}
		view = x.finished(t, view.Running.ID)
	}
	if view.Lease != nil || view.Desired.Mode != x.from {
		view = x.finished(t, x.root.must(t, ask("RequestMode", 0, busapi.Dict{}, string(x.from)))[0].(uint64))
	}
	for _, i := range view.Inhibitors {
		if i.ID != x.hold {
			x.root.must(t, ask("ReleaseInhibitor", 0, busapi.Dict{}, i.ID))
		}
	}
}
