package server

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/internal/testhost/hosttest"
	"github.com/dubnium/dubnium/policy"
)

const (
	block = "org.dubnium.mode1.inhibit-block"
	delay = "org.dubnium.mode1.inhibit-delay"
)

func TestWhoMayInhibitHow(t *testing.T) {
	h := newHost(t)
	h.authorizer.as(1000, delay)
	var cookie uint32
	require.NoError(t, h.call("Inhibit", "compute", "player", "a song", "delay").Store(&cookie))
	refused(t, h.call("Inhibit", "", "player", "a song", "block"), busapi.ErrAccessDenied, block+" was not granted")
	require.Equal(t, []string{delay, block}, h.authorizer.questions())
	require.Equal(t, uint32(100), cookie)
	h.authorizer.as(0)
	require.NoError(t, h.call("Inhibit", "", "backup", "a snapshot", "block").Err)
	h.controller.with(func(c *fakeController) {
		holder := h.conn.Names()[0]
		require.Equal(t, []status.Inhibitor{
			{ID: 100, Mode: policy.Compute, Who: "player", Why: "a song", How: status.Delay, UID: 1000, Holder: holder},
			{ID: 101, Who: "backup", Why: "a snapshot", How: status.Block, Holder: holder},
		}, c.held)
	})
}

func TestWordsOfAnInhibitorAreCheckedBeforeAnybodyIsAsked(t *testing.T) {
	h := newHost(t)
	h.authorizer.as(1000)
	long := strings.Repeat("x", busapi.MaxReason+1)
	refused(t, h.call("Inhibit", "sauna", "a", "b", "block"), busapi.ErrUnknownMode, "sauna")
	refused(t, h.call("Inhibit", "", "a", "b", "ask nicely"), busapi.ErrBadOption, "how must be block or delay")
	refused(t, h.call("Inhibit", "", "", "b", "block"), busapi.ErrBadOption, "the argument who is empty")
	refused(t, h.call("Inhibit", "", "a", "\x1b[2J", "block"), busapi.ErrBadOption, "argument why has unprintable characters")
	refused(t, h.call("Inhibit", "", "a", long, "block"), busapi.ErrBadOption, "argument why has 257 bytes")
	require.Empty(t, h.authorizer.questions())
	h.authorizer.as(0)
	h.controller.with(func(c *fakeController) { c.fail = status.ErrTooMany })
	refused(t, h.call("Inhibit", "", "a", "b", "block"), status.ErrTooMany, "too many")
}

func TestAHolderThatLeavesReleasesWhatItHeld(t *testing.T) {
	h := newHost(t)
	other, err := dbus.Connect(h.bus.Address())
	require.NoError(t, err)
	name := other.Names()[0]
	inhibit := func(conn *dbus.Conn) error {
		return callOver(conn.Object(busapi.BusName, busapi.Path), "Inhibit", "", "a", "b", "block").Err
	}
	require.NoError(t, inhibit(other))
	require.NoError(t, inhibit(h.conn))
	require.NoError(t, other.Close())
	select {
	case gone := <-h.controller.left:
		require.Equal(t, name, gone)
	case <-time.After(10 * time.Second):
		require.Fail(t, "nobody noticed")
	}
	require.Empty(t, h.controller.left, "whoever is still there keeps theirs")
}

// A holder may be gone before anybody has begun to watch it.
func TestAHolderThatLeftMeanwhileIsNoticed(t *testing.T) {
	h := newHost(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	h.server.releaseWithHolder(ctx, ":1.9999")
	require.Equal(t, ":1.9999", <-h.controller.left)
}

func TestOnlyTheHolderAndRootRelease(t *testing.T) {
	h := newHost(t)
	h.authorizer.as(1000, block)
	var cookie uint32
	require.NoError(t, h.call("Inhibit", "", "a", "b", "block").Store(&cookie))
	other := hosttest.Connect(t, h.bus).Object(busapi.BusName, busapi.Path)
	release := func(o dbus.BusObject) *dbus.Call {
		return callOver(o, "ReleaseInhibitor", cookie)
	}
	refused(t, release(other), status.ErrNoSuchInhibitor, "no such inhibitor")
	require.NoError(t, release(h.object).Err)
	h.authorizer.as(0)
	require.NoError(t, release(other).Err)
}

// counted is a presence that says how many are watched.
type counted struct{ began, ended chan struct{} }

func (p counted) AwaitGone(ctx context.Context, _ string) error {
	p.began <- struct{}{}
	<-ctx.Done()
	p.ended <- struct{}{}
	return ctx.Err()
}

// Whoever takes and releases inhibitors for ever has one watch, while they hold any.
func TestAHolderIsWatchedOnceAndOnlyWhileItHolds(t *testing.T) {
	h := newHost(t)
	presence := counted{make(chan struct{}, 100), make(chan struct{}, 100)}
	h.server.holdersMu.Lock() // every watch begins under it
	h.server.presence = presence
	h.server.holdersMu.Unlock()
	take := func() (cookie uint32) {
		require.NoError(t, h.call("Inhibit", "", "a", "b", "delay").Store(&cookie))
		return cookie
	}
	first, second := take(), take()
	<-presence.began
	require.NoError(t, h.call("ReleaseInhibitor", first).Err)
	require.Empty(t, presence.ended, "it holds another")
	require.NoError(t, h.call("ReleaseInhibitor", second).Err)
	<-presence.ended
	require.Empty(t, presence.began, "one watch for both")
	require.Empty(t, h.controller.left, "nothing was released that it did not release")
	for range 20 {
		require.NoError(t, h.call("ReleaseInhibitor", take()).Err)
		<-presence.began
		<-presence.ended
	}
}

// running has alice's transition to compute under way.
func running(h *host) {
	h.controller.with(func(c *fakeController) {
		c.view.Running = &status.Transition{
			ID: 5, To: policy.Compute, Origin: status.OriginOperator, UID: 1000, Cancellable: true,
		}
	})
	h.controller.people(1001)
}

func TestWhoMayCancel(t *testing.T) {
	const action = "org.dubnium.mode1.cancel"
	h := newHost(t)
	running(h)
	h.authorizer.as(1000)
	require.NoError(t, h.call("CancelTransition", uint64(5)).Err)
	require.Empty(t, h.authorizer.questions(), "whoever asked for it is not asked")
	h.authorizer.as(1001)
	refused(t, h.call("CancelTransition", uint64(5)), busapi.ErrAccessDenied, action)
	h.authorizer.as(1001, action)
	require.NoError(t, h.call("CancelTransition", uint64(5)).Err)
	refused(t, h.call("CancelTransition", uint64(6)), status.ErrNoSuchTransition, "under the id 6")
	h.authorizer.as(0)
	h.controller.with(func(c *fakeController) { c.fail = status.ErrNotCancellable })
	refused(t, h.call("CancelTransition", uint64(5)), status.ErrNotCancellable, "cannot be canceled")
	h.controller.with(func(c *fakeController) {
		require.Equal(t, []string{"5 by " + describe(1000), "5 by " + describe(1001), "5 by uid 0 (root)"}, c.halted)
		// What the daemon does by itself is nobody's own, not even root's.
		c.view.Running.Origin, c.view.Running.UID = status.OriginBoot, 1001
	})
	h.authorizer.as(1001)
	refused(t, h.call("CancelTransition", uint64(5)), busapi.ErrAccessDenied, action)
}

// The time that a person takes for a password does not count.
func TestTheTimeToCancelBeginsAfterThePassword(t *testing.T) {
	h := newHost(t)
	running(h)
	h.authorizer.as(1001, busapi.ActionCancel)
	var asked time.Time
	h.authorizer.with(func(a *fakeAuthorizer) { a.onAsk = func() { asked = time.Now() } })
	require.NoError(t, h.call("CancelTransition", uint64(5)).Err)
	h.controller.with(func(c *fakeController) {
		require.False(t, c.haltBy.Before(asked.Add(callTimeout)), "it ends %s after the answer", c.haltBy.Sub(asked))
	})
}

func TestWhoMayPutItOff(t *testing.T) {
	h := newHost(t)
	running(h)
	h.authorizer.as(1000)
	refused(
		t, h.call("PostponeTransition", uint64(5), uint32(60)), busapi.ErrAccessDenied,
		"has no graphical session that the transition would end",
	)
	h.authorizer.as(1001)
	require.NoError(t, h.call("PostponeTransition", uint64(5), uint32(60)).Err)
	h.controller.with(func(c *fakeController) { require.Equal(t, time.Minute, c.putOff) })
	refused(t, h.call("PostponeTransition", uint64(5), uint32(0)), busapi.ErrBadOption, "the seconds must be 1 to 86400, not 0")
	// Without a seat it is graphical by its owner's word.
	h.controller.with(func(c *fakeController) { c.view.Snapshot.Logind.Sessions[0].Seat = "" })
	refused(t, h.call("PostponeTransition", uint64(5), uint32(60)), busapi.ErrAccessDenied, "has no graphical session")
	h.controller.people(1001)
	h.controller.with(func(c *fakeController) { c.view.Running.To = policy.Desktop })
	refused(t, h.call("PostponeTransition", uint64(5), uint32(60)), busapi.ErrAccessDenied, "that the transition would end")
	h.authorizer.as(0)
	require.NoError(t, h.call("PostponeTransition", uint64(5), uint32(60)).Err)
	require.Empty(t, h.authorizer.questions())
}

func TestGraceAndDelaysInARequest(t *testing.T) {
	h := newHost(t)
	h.authorizer.as(1000, busapi.ActionRequest(policy.Desktop))
	request := func(flags uint64, grace any) *dbus.Call {
		return h.call("RequestMode", "desktop", flags, busapi.Dict{busapi.OptionGrace: dbus.MakeVariant(grace)})
	}
	require.NoError(t, request(0, uint32(0)).Err)
	refused(t, request(0, int32(1)), busapi.ErrBadOption, "is of type i, not u")
	refused(t, request(0, uint32(busapi.MaxGrace+1)), busapi.ErrBadOption, "more than 86400")
	refused(t, request(busapi.FlagNoWait, uint32(0)), busapi.ErrAccessDenied, "only root")
	h.authorizer.as(0)
	require.NoError(t, request(busapi.FlagNoWait, uint32(90)).Err)
	asked := h.controller.asked()
	require.Len(t, asked, 2)
	require.Equal(t, time.Duration(0), *asked[0].Grace)
	require.False(t, asked[0].NoWait)
	require.Equal(t, 90*time.Second, *asked[1].Grace)
	require.True(t, asked[1].NoWait)
}

func TestForceIsARightOfItsOwnAndForSoftGuards(t *testing.T) {
	h := newHost(t)
	h.authorizer.as(1000, busapi.ActionRequest(policy.Compute))
	force := func(names ...string) *dbus.Call { return h.call("ForceMode", "compute", names, uint64(0), noOptions) }
	refused(t, force("check_weather"), busapi.ErrUnknownGuard, "check_weather")
	refused(t, force("check_cpu_load_safe", "check_audio_idle"), busapi.ErrHardGuard, "guard check_audio_idle is hard")
	refused(t, force(), busapi.ErrBadOption, "ForceMode needs the name")
	require.Empty(t, h.authorizer.questions())
	refused(t, force("check_cpu_load_safe"), busapi.ErrAccessDenied, "org.dubnium.mode1.force was not granted")
	h.authorizer.as(1000, busapi.ActionForce)
	require.NoError(t, force("check_cpu_load_safe").Err)
	require.Equal(t, []policy.GuardID{policy.CheckCPULoadSafe}, h.controller.asked()[0].Skip)
}
