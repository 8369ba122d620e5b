package host_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/plans"
)

// ends is the step, for sessions of alice.
func ends(grace time.Duration) plans.Step {
	return plans.Step{Kind: plans.EndSessions, Grace: grace, Users: []uint32{1000}}
}

// quiet stops the display manager, as the plan does before it ends sessions.
func quiet(t *testing.T, h *handlers) {
	t.Helper()
	require.NoError(t, h.apply(stop("greetd.service")))
}

func TestEndSessions(t *testing.T) {
	h := newHandlers(t, testhost.Options{})
	step := ends(time.Minute)
	before := h.prepare(step)
	require.Contains(t, string(before), `"user":"alice"`)
	require.ErrorContains(t, h.verify(step), " still exists")
	quiet(t, h)
	require.NoError(t, h.apply(step))
	require.NoError(t, h.verify(step))
	_, there := h.host.SessionOf("user")
	require.False(t, there)
	require.NoError(t, h.apply(step), "once more changes nothing")
	require.NoError(t, h.undo(step, before))
}

func TestSessionKilled(t *testing.T) {
	h := newHandlers(t, testhost.Options{})
	alice, _ := h.host.SessionOf("user")
	require.NoError(t, h.host.EditSession(alice.ID, func(s *testhost.Session) { s.IgnoresTerm = true }))
	quiet(t, h)
	begun := time.Now()
	require.NoError(t, h.apply(ends(50*time.Millisecond)))
	require.GreaterOrEqual(t, time.Since(begun), 50*time.Millisecond)
	require.NoError(t, h.verify(ends(0)))
}

// logind reports the type tty once a session's compositor has released the devices: the
// session is ended as well, and a session on a console is not.
func TestSessionWithoutCompositor(t *testing.T) {
	h := newHandlers(t, testhost.Options{})
	alice, _ := h.host.SessionOf("user")
	console := h.host.AddSession(testhost.Session{Class: "user", Type: "tty", User: "alice", UID: 1000, Seat: "seat0"})
	step := ends(time.Millisecond)
	step.Sessions = []string{alice.ID}
	quiet(t, h)
	require.NoError(t, h.host.EditSession(alice.ID, func(s *testhost.Session) { s.Type, s.IgnoresTerm = "tty", true }))
	require.ErrorContains(t, h.verify(step), "session "+alice.ID)
	require.NoError(t, h.apply(step))
	require.NoError(t, h.verify(step))
	require.False(t, slices.ContainsFunc(h.host.Sessions(), func(s testhost.Session) bool { return s.ID == alice.ID }))
	require.True(t, slices.ContainsFunc(h.host.Sessions(), func(s testhost.Session) bool { return s.ID == console }))
}

func TestSessionsOfSeatOnly(t *testing.T) {
	h := newHandlers(t, testhost.Options{})
	ssh := h.host.AddSession(testhost.Session{Class: "user", Type: "tty", User: "bob", UID: 1001, Remote: true})
	quiet(t, h)
	require.NoError(t, h.apply(ends(time.Minute)))
	require.NoError(t, h.verify(ends(0)))
	found := false
	for _, s := range h.host.Sessions() {
		found = found || s.ID == ssh
	}
	require.True(t, found, "the operator may be the one who asked")
}

func TestAGreeterIsEndedToo(t *testing.T) {
	h := newHandlers(t, testhost.Options{NoAutoLogin: true})
	require.NoError(t, h.host.WaitSession(bounded(t), "greeter", true))
	quiet(t, h)
	require.NoError(t, h.apply(ends(time.Minute)))
	require.NoError(t, h.host.WaitSession(bounded(t), "greeter", false))
}

// whileEnding begins a session while alice's is being ended, and returns what
// became of the step.
func whileEnding(t *testing.T, h *handlers, grace time.Duration, begins testhost.Session) error {
	t.Helper()
	quiet(t, h)
	alice, _ := h.host.SessionOf("user")
	require.NoError(t, h.host.EditSession(alice.ID, func(s *testhost.Session) { s.IgnoresTerm = true }))
	done := h.applying(bounded(t), ends(grace))
	h.awaitBegun(plans.EndSessions)
	h.host.AddSession(begins)
	return receive(t, done)
}

func TestSessionBeginsMeanwhile(t *testing.T) {
	h := newHandlers(t, testhost.Options{})
	again := testhost.Session{Class: "user", Type: "wayland", User: "alice", UID: 1000, Seat: "seat0"}
	require.NoError(t, whileEnding(t, h, 200*time.Millisecond, again))
	require.NoError(t, h.verify(ends(0)))
}

// The guards have judged whether alice's sessions may end, and nothing of carol.
func TestSessionOfOtherMeanwhile(t *testing.T) {
	h := newHandlers(t, testhost.Options{})
	carol := testhost.Session{Class: "user", Type: "wayland", User: "carol", UID: 1002, Seat: "seat0"}
	require.ErrorContains(
		t, whileEnding(t, h, time.Minute, carol), "of carol (active) began after the guards were evaluated",
	)
	require.True(
		t,
		slices.ContainsFunc(
			h.host.Sessions(), func(s testhost.Session) bool { return s.User == "carol" && s.State != "closing" },
		),
	)
}

// Root may end anybody's session, and asked for that.
func TestSessionNewcomers(t *testing.T) {
	h := newHandlers(t, testhost.Options{})
	quiet(t, h)
	alice, _ := h.host.SessionOf("user")
	require.NoError(t, h.host.EditSession(alice.ID, func(s *testhost.Session) { s.IgnoresTerm = true }))
	step := ends(200 * time.Millisecond)
	step.Newcomers = true
	done := h.applying(bounded(t), step)
	h.awaitBegun(plans.EndSessions)
	h.host.AddSession(testhost.Session{Class: "user", Type: "wayland", User: "carol", UID: 1002, Seat: "seat0"})
	require.NoError(t, receive(t, done))
	require.NoError(t, h.verify(step))
	require.False(t, slices.ContainsFunc(h.host.Sessions(), func(s testhost.Session) bool { return s.User == "carol" }))
}

// Over ssh any user can declare their session graphical (SetType). logind gives it no
// seat, and it is not ended.
func TestSessionClaimsGraphical(t *testing.T) {
	h := newHandlers(t, testhost.Options{})
	mallory := testhost.Session{
		Class: "user", Type: "wayland", User: "mallory", UID: 1003, Remote: true,
		Service: "sshd",
	}
	require.NoError(t, whileEnding(t, h, 200*time.Millisecond, mallory))
	require.NoError(t, h.verify(ends(0)))
	require.True(
		t,
		slices.ContainsFunc(
			h.host.Sessions(), func(s testhost.Session) bool { return s.User == "mallory" && s.State != "closing" },
		),
	)
}

func TestSessionStays(t *testing.T) {
	h := newHandlers(t, testhost.Options{})
	quiet(t, h)
	alice, _ := h.host.SessionOf("user")
	require.NoError(t, h.host.EditSession(alice.ID, func(s *testhost.Session) { s.Stuck = true }))
	ctx := newExpiring(t)
	done := h.applying(ctx, ends(time.Millisecond))
	h.awaitBegun(plans.EndSessions)
	ctx.expire()
	err := receive(t, done)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "cannot end session "+alice.ID+" of alice")
	require.ErrorContains(t, h.verify(ends(0)), "session "+alice.ID+" of alice (closing) still exists")
}

func TestForgedSessionRemoved(t *testing.T) {
	h := newHandlers(t, testhost.Options{})
	quiet(t, h)
	alice, _ := h.host.SessionOf("user")
	require.NoError(t, h.host.EditSession(alice.ID, func(s *testhost.Session) { s.Stuck = true }))
	ctx := newExpiring(t)
	done := h.applying(ctx, ends(time.Minute))
	h.awaitBegun(plans.EndSessions)
	h.forge(
		"/org/freedesktop/login1", "org.freedesktop.login1.Manager", "SessionRemoved", alice.ID,
		testhost.SessionPath(alice.ID),
	)
	require.ErrorContains(t, h.verify(ends(0)), "still exists", "a signal that was accepted has arrived by now")
	ctx.expire()
	require.ErrorIs(t, receive(t, done), context.DeadlineExceeded)
}
