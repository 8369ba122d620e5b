package server

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/internal/testhost/hosttest"
)

// example is a call of each method that is let and succeeds, or is refused for another
// reason than how often it is made.
var example = map[string][]any{
	"RequestMode":        {"desktop"},
	"ForceMode":          {"desktop", []string{"check_cpu_load_safe"}},
	"Reconcile":          {},
	"CancelTransition":   {uint64(1)},
	"PostponeTransition": {uint64(1), uint32(1)},
	"ConfirmMode":        {uint64(1)},
	"Inhibit":            {"compute", "backup", "a snapshot", "delay"},
	"ReleaseInhibitor":   {uint32(1)},
	"GetTransition":      {uint64(1)},
	"History":            {},
	"Observe":            {},
	"RunGuards":          {"compute", []string{}},
	"Plan":               {"compute"},
	"CanRequest":         {"compute"},
	"Explain":            {""},
	"GetPolicy":          {},
}

func TestEachUsersCallsOfEveryMethodAreRationed(t *testing.T) {
	c := &clock{now: start}
	h := newHostBy(t, c)
	limited := func(method string) bool {
		return errors.Is(busapi.FromDBus(h.call(method, example[method]...).Err), busapi.ErrRateLimited)
	}
	for method, m := range h.server.ownMethods() {
		require.Contains(t, example, method)
		if m.ration == cheap {
			continue
		}
		t.Run(method, func(t *testing.T) {
			class := rationClasses[m.ration]
			c.advance(time.Duration(class.Burst) * class.Every) // what other methods of the class took is back
			h.authorizer.as(1000)
			for range class.Burst {
				require.False(t, limited(method))
			}
			require.True(t, limited(method))
			h.authorizer.as(1001)
			require.False(t, limited(method), "one user does not use up what another has")
			h.authorizer.as(0)
			for range class.Burst + 1 {
				require.False(t, limited(method), "root is not rationed")
			}
			h.authorizer.as(1000)
			c.advance(class.Every)
			require.False(t, limited(method))
			require.True(t, limited(method))
		})
	}
}

func TestCheapCallsAreRationedToo(t *testing.T) {
	h := newHostBy(t, &clock{now: start})
	h.authorizer.as(1000)
	get := func() error {
		return h.object.Call(busapi.PropertiesInterface+".Get", 0, busapi.Interface, "Version").Err
	}
	for range rationClasses[cheap].Burst {
		require.NoError(t, get())
	}
	require.ErrorIs(t, busapi.FromDBus(get()), busapi.ErrRateLimited)
}

// A user's calls that wait keep neither others nor root from being served.
func TestOneUsersCallsInFlightAreBounded(t *testing.T) {
	h := newHost(t)
	h.authorizer.as(1000)
	begun, release := make(chan struct{}), make(chan struct{})
	h.controller.with(func(c *fakeController) { c.onHistory = func() { begun <- struct{}{}; <-release } })
	waits := h.object.Go(busapi.Interface+".History", 0, make(chan *dbus.Call, 1), uint64(0), noOptions)
	<-begun
	others := 0
	for h.server.inFlight.enter(1000) { // as so many more calls would
		others++
	}
	require.Equal(t, maxInFlight-1, others)
	refused(t, h.call("GetPolicy"), status.ErrTooMany, "too many calls are running, at most 32 per user")
	for _, uid := range []uint32{1001, 0} {
		h.authorizer.as(uid)
		require.NoError(t, h.call("GetPolicy").Err)
	}
	for range others {
		h.server.inFlight.leave(1000)
	}
	h.authorizer.as(1000)
	require.NoError(t, h.call("GetPolicy").Err)
	close(release)
	require.NoError(t, (<-waits.Done).Err)
}

// Those who read the history wait for each other, and root for nobody.
func TestRootDoesNotWaitToReadTheHistory(t *testing.T) {
	h := newHost(t)
	h.authorizer.as(1000)
	begun, release := make(chan struct{}), make(chan struct{}, 2)
	h.controller.with(func(c *fakeController) { c.onHistory = func() { begun <- struct{}{}; <-release } })
	replies := make(chan *dbus.Call, 2)
	for range 2 {
		h.object.Go(busapi.Interface+".History", 0, replies, uint64(0), noOptions)
	}
	<-begun
	require.Eventually(t, func() bool {
		h.server.inFlight.mu.Lock()
		defer h.server.inFlight.mu.Unlock()
		return h.server.inFlight.count[1000] == 2
	}, 10*time.Second, time.Millisecond)
	h.controller.with(func(c *fakeController) { c.onHistory = nil })
	h.authorizer.as(0)
	require.NoError(t, h.call("History").Err)
	require.Empty(t, replies)
	release <- struct{}{}
	for range 2 {
		require.NoError(t, (<-replies).Err)
	}
}

func TestAllUsersTogetherAreBounded(t *testing.T) {
	f := newInFlight(2, 3)
	for _, uid := range []uint32{1000, 1000, 1001} {
		require.True(t, f.enter(uid))
	}
	require.False(t, f.enter(1000), "one user's")
	require.False(t, f.enter(1002), "all users'")
	f.leave(1000)
	require.True(t, f.enter(1002))
	for _, uid := range []uint32{1000, 1001, 1002} {
		f.leave(uid)
	}
	require.Empty(t, f.count)
	require.Zero(t, f.total)
}

// While the bus does not say whose a connection is, its calls wait, so many and no more.
func TestCallsOfStrangersWaitBounded(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan struct{})
	c := newCallers(func(context.Context, string) (uint32, error) { asked <- struct{}{}; <-answer; return 7, nil })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); c.run(ctx) }()
	told := make(chan uint32, maxUnknown)
	wait := func(sender string) bool {
		return c.identify(sender, short, func(uid uint32, err error) { require.NoError(t, err); told <- uid })
	}
	for range maxUnknownOf {
		require.True(t, wait(":1.0"))
	}
	require.False(t, wait(":1.0"), "one connection's calls")
	long := 0
	for c.identify(fmt.Sprint(":4.", long), 64<<10, func(uid uint32, _ error) { told <- uid }) {
		long++
	}
	require.Equal(t, (maxUnknownBytes-maxUnknownOf*short)/(64<<10), long, "what they carry")
	for i := range maxUnknown - maxUnknownOf - long {
		require.True(t, wait(fmt.Sprint(":2.", i)), "a short one fits")
	}
	require.False(t, wait(":3.0"), "everybody's calls")
	for range maxUnknown - maxUnknownOf + 1 {
		<-asked
		answer <- struct{}{}
	}
	for range maxUnknown {
		require.Equal(t, uint32(7), <-told)
	}
	cancel()
	<-done
	require.Zero(t, c.unknown)
	require.Zero(t, c.bytes)
	require.Empty(t, c.waiting)
}

func TestTheMemoryOfConnectionsIsBounded(t *testing.T) {
	c := newCallers(nil)
	c.store(":1.0", 1000, nil)
	told := false
	require.True(t, c.identify(":1.0", 64<<10, func(uid uint32, _ error) { told = uid == 1000 }))
	require.True(t, told, "nobody has to be asked")
	for i := range 3 * maxKnown {
		c.store(fmt.Sprint(":1.", i), 1000, nil)
		require.LessOrEqual(t, len(c.known), maxKnown)
	}
	require.NotEmpty(t, c.known)
}

// What waits for an answer is refused, and a bus that does not read blocks nobody.
func TestRefusalsNeverBlockTheReader(t *testing.T) {
	h := newHost(t)
	h.authorizer.with(func(a *fakeAuthorizer) { a.uidErr = errors.New("gone") })
	h.authorizer.forget()
	strangers := make(chan *dbus.Call, 100)
	other := hosttest.Connect(t, h.bus).Object(busapi.BusName, busapi.Path)
	for range 100 {
		other.Go(busapi.Interface+".GetPolicy", 0, strangers, uint64(0), noOptions)
	}
	for range 100 {
		require.Error(t, (<-strangers).Err)
	}
}
