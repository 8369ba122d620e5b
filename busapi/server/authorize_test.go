package server

import (
	"errors"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/policy"
)

func TestWhoMayAskForWhat(t *testing.T) {
	const (
		desktop = "org.dubnium.mode1.request-desktop"
		compute = "org.dubnium.mode1.request-compute"
		others  = "org.dubnium.mode1.end-other-sessions"
	)
	cases := map[string]struct {
		mode      policy.Mode
		granted   []string
		sessions  []uint32
		asked     []string
		allowed   bool
		endOthers bool
	}{
		"granted":                              {policy.Desktop, []string{desktop}, nil, []string{desktop}, true, false},
		"not granted":                          {policy.Desktop, nil, nil, []string{desktop}, false, false},
		"another mode's grant does not help":   {policy.Compute, []string{desktop}, nil, []string{compute}, false, false},
		"compute ends one's own sessions":      {policy.Compute, []string{compute}, []uint32{1000, 1000}, []string{compute}, true, false},
		"ending another's session needs more":  {policy.Compute, []string{compute}, []uint32{1000, 1001}, []string{compute, others}, false, false},
		"ending another's session, granted":    {policy.Compute, []string{compute, others}, []uint32{1001}, []string{compute, others}, true, true},
		"the other grant alone is not enough":  {policy.Compute, []string{others}, []uint32{1001}, []string{compute}, false, false},
		"desktop ends nobody's session":        {policy.Desktop, []string{desktop}, []uint32{1001}, []string{desktop}, true, false},
		"studio-local is an action of its own": {policy.StudioLocal, []string{desktop, compute}, nil, []string{"org.dubnium.mode1.request-studio-local"}, false, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.authorizer.as(1000, c.granted...)
			h.controller.with(func(fake *fakeController) { fake.sessions = c.sessions })
			call := h.call("RequestMode", string(c.mode), uint64(0), noOptions)
			require.Equal(t, c.asked, h.authorizer.questions())
			if !c.allowed {
				refused(t, call, busapi.ErrAccessDenied, c.asked[len(c.asked)-1]+" was not granted")
				require.Empty(t, h.controller.asked())
				return
			}
			require.NoError(t, call.Err)
			require.Equal(t, c.endOthers, h.controller.asked()[0].EndOthers)
			require.Equal(t, uint32(1000), h.controller.asked()[0].UID)
		})
	}
}

func TestARequesterWhoLeftMeanwhileIsDenied(t *testing.T) {
	h := newHost(t)
	h.authorizer.as(1000, busapi.ActionRequest(policy.Desktop))
	leave := func() {
		h.authorizer.with(func(a *fakeAuthorizer) { a.uidErr = errors.New("it has no owner") })
	}
	h.authorizer.with(func(a *fakeAuthorizer) { a.onAsk = leave })
	refused(t, h.call("RequestMode", "desktop", uint64(0), noOptions), busapi.ErrAccessDenied, "cannot tell who asks: it has no owner")
	require.Empty(t, h.controller.asked())
}

func TestASenderWithoutAUserIsDenied(t *testing.T) {
	h := newHost(t)
	h.authorizer.with(func(a *fakeAuthorizer) { a.uidErr = errors.New("no such name") })
	refused(t, h.call("RequestMode", "desktop", uint64(0), noOptions), busapi.ErrAccessDenied, "cannot tell who asks")
	require.Empty(t, h.controller.asked(), "a uid that is not known is not 0")
}

func TestAPersonIsAskedOnlyWhenTheMessageAllowsIt(t *testing.T) {
	h := newHost(t)
	h.authorizer.as(1000, busapi.ActionRequest(policy.Desktop))
	require.NoError(t, h.call("RequestMode", "desktop", uint64(0), noOptions).Err)

	allow := func(m *dbus.Message) { m.Flags |= dbus.FlagAllowInteractiveAuthorization }
	asking, err := dbus.Connect(h.bus.Address(), dbus.WithOutgoingInterceptor(allow))
	require.NoError(t, err)
	defer asking.Close()
	require.NoError(t, asking.Object(busapi.BusName, busapi.Path).Call(busapi.Interface+".RequestMode", 0, "desktop", uint64(0), noOptions).Err)
	require.Equal(t, []string{"org.dubnium.mode1.request-desktop", "org.dubnium.mode1.request-desktop?"}, h.authorizer.questions())
}

func TestOneUsersPromptsAreBounded(t *testing.T) {
	h := newHost(t)
	h.authorizer.as(1000, busapi.ActionRequest(policy.Desktop))
	open, answer := make(chan struct{}), make(chan struct{})
	h.authorizer.with(func(a *fakeAuthorizer) { a.onAsk = func() { open <- struct{}{}; <-answer } })
	replies := make(chan *dbus.Call, maxPrompts)
	for range maxPrompts {
		h.object.Go(busapi.Interface+".RequestMode", 0, replies, "desktop", uint64(0), noOptions)
		<-open
	}
	refused(t, h.call("RequestMode", "desktop", uint64(0), noOptions), status.ErrTooMany, "has 4 requests waiting")
	require.NoError(t, h.call("History", noOptions).Err, "reads go on meanwhile")
	close(answer)
	for range maxPrompts {
		require.NoError(t, (<-replies).Err)
	}
	h.authorizer.with(func(a *fakeAuthorizer) { a.onAsk = nil })
	require.NoError(t, h.call("RequestMode", "desktop", uint64(0), noOptions).Err)
}

func TestAUserWithoutANameIsStillNamed(t *testing.T) {
	require.Equal(t, "uid 0 (root)", describe(0))
	require.Equal(t, "uid 3999999999", describe(3999999999))
}
