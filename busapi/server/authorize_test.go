package server

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
	obs "github.com/dubnium/dubnium/observer"
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
		"granted":                            {policy.Desktop, []string{desktop}, nil, []string{desktop}, true, false},
		"not granted":                        {policy.Desktop, nil, nil, []string{desktop}, false, false},
		"another mode's grant does not help": {policy.Compute, []string{desktop}, nil, []string{compute}, false, false},
		"compute ends one's own sessions": {
			policy.Compute, []string{compute}, []uint32{1000, 1000}, []string{compute}, true, false,
		},
		"ending another's session needs more": {
			policy.Compute, []string{compute}, []uint32{1000, 1001}, []string{compute, others}, false, false,
		},
		"ending another's session, granted": {
			policy.Compute, []string{compute, others}, []uint32{1001}, []string{compute, others}, true, true,
		},
		"the other grant alone is not enough": {
			policy.Compute, []string{others}, []uint32{1001}, []string{compute}, false, false,
		},
		"desktop ends nobody's session": {
			policy.Desktop, []string{desktop}, []uint32{1001}, []string{desktop}, true, false,
		},
		"studio-local is an action of its own": {
			policy.StudioLocal,
			[]string{desktop, compute},
			nil,
			[]string{"org.dubnium.mode1.request-studio-local"},
			false,
			false,
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.authorizer.as(1000, c.granted...)
			h.controller.people(c.sessions...)
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

// inMode is a host that is observed to be in a mode.
func (h *host) inMode(mode policy.Mode) {
	h.controller.with(func(c *fakeController) {
		c.view.Observation = obs.Observation{State: obs.Of(mode), Inferred: mode, Confidence: obs.High, At: start}
		active := map[bool]string{true: "active", false: "inactive"}
		c.view.Snapshot.Systemd = obs.Systemd{Reading: obs.Reading{At: start}, State: "running", Units: map[string]obs.Unit{
			policy.Default().Units.ComputeTarget: {LoadState: "loaded", ActiveState: active[mode == policy.Compute]},
		}}
	})
}

func TestWhatLeavesComputeNeedsTheRightForDesktop(t *testing.T) {
	const (
		desktop = "org.dubnium.mode1.request-desktop"
		studio  = "org.dubnium.mode1.request-studio-local"
		compute = "org.dubnium.mode1.request-compute"
		force   = "org.dubnium.mode1.force"
	)
	hour := busapi.Dict{busapi.OptionFor: dbus.MakeVariant(uint32(3600))}
	skip := []string{string(policy.CheckCPULoadSafe)}
	cases := map[string]struct {
		in    policy.Mode
		call  []any
		asked []string
	}{
		"the overlay from compute": {
			policy.Compute, []any{"RequestMode", "studio-local"}, []string{studio, desktop},
		},
		"the overlay from desktop":         {policy.Desktop, []any{"RequestMode", "studio-local"}, []string{studio}},
		"desktop from compute":             {policy.Compute, []any{"RequestMode", "desktop"}, []string{desktop}},
		"compute from compute":             {policy.Compute, []any{"RequestMode", "compute"}, []string{compute}},
		"the overlay from who knows where": {"", []any{"RequestMode", "studio-local"}, []string{studio, desktop}},
		"a forced overlay from compute": {
			policy.Compute, []any{"ForceMode", "studio-local", skip}, []string{force, desktop},
		},
		"reconcile to the overlay": {
			policy.Compute,
			[]any{"Reconcile", uint64(0), busapi.Dict{"target": dbus.MakeVariant("studio-local")}},
			[]string{studio, desktop},
		},
		"a lease on the overlay": {
			policy.Desktop, []any{"RequestMode", "studio-local", uint64(0), hour}, []string{studio},
		},
		"a lease on somebody's overlay": {
			policy.StudioLocal, []any{"RequestMode", "studio-local", uint64(0), hour}, []string{studio, desktop},
		},
		"a lease on compute": {
			policy.Desktop, []any{"RequestMode", "compute", uint64(0), hour}, []string{compute},
		},
		"a lease on somebody's compute": {
			policy.Compute, []any{"RequestMode", "compute", uint64(0), hour}, []string{compute, desktop},
		},
		"a lease on the overlay, in compute": {
			policy.Compute, []any{"RequestMode", "studio-local", uint64(0), hour}, []string{studio, desktop},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			if c.in != "" {
				h.inMode(c.in)
			}
			call := func() *dbus.Call { return h.call(c.call[0].(string), c.call[1:]...) }
			h.authorizer.as(1000, c.asked...)
			require.NoError(t, call().Err)
			require.Equal(t, c.asked, h.authorizer.questions())
			r := h.controller.asked()[0]
			require.Equal(t, c.in != policy.Desktop && c.in != policy.StudioLocal && r.Mode != policy.Compute, r.LeaveCompute)
			for i := range c.asked { // each of them is needed
				h.authorizer.as(1000, slices.Delete(slices.Clone(c.asked), i, i+1)...)
				refused(t, call(), busapi.ErrAccessDenied, c.asked[i]+" was not granted")
			}
			require.Len(t, h.controller.asked(), 1)
		})
	}
}

// Whoever renews the terms of their own request ends nobody else's.
func TestOnesOwnLeaseIsRenewedWithoutMore(t *testing.T) {
	h := newHost(t)
	h.inMode(policy.StudioLocal)
	h.authorizer.as(1000, busapi.ActionRequest(policy.StudioLocal))
	h.controller.with(func(c *fakeController) {
		c.view.Lease = &status.Lease{ID: 5, Mode: policy.StudioLocal, BackTo: policy.Desktop, UID: 1000, For: time.Hour}
	})
	hour := busapi.Dict{busapi.OptionFor: dbus.MakeVariant(uint32(3600))}
	require.NoError(t, h.call("RequestMode", "studio-local", uint64(0), hour).Err)
	h.authorizer.as(1001, busapi.ActionRequest(policy.StudioLocal))
	refused(
		t, h.call("RequestMode", "studio-local", uint64(0), hour), busapi.ErrAccessDenied,
		"the terms end with a transition to desktop",
	)
}

// A request for the mode that another user's terms are on ends them, as a confirmation
// does.
func TestWhoEndsAnothersTermsNeedsTheRightForTheWayBack(t *testing.T) {
	studio, desktop := busapi.ActionRequest(policy.StudioLocal), busapi.ActionRequest(policy.Desktop)
	cases := map[string]struct {
		lessee uint32
		call   []any
		asked  []string
	}{
		"another's, by a request": {1001, []any{"RequestMode", "studio-local"}, []string{studio, desktop}},
		"another's, by force": {
			1001, []any{"ForceMode", "studio-local", []string{"check_cpu_load_safe"}}, []string{busapi.ActionForce, desktop},
		},
		"another's, kept":           {1001, []any{"Reconcile"}, []string{studio}},
		"one's own":                 {1000, []any{"RequestMode", "studio-local"}, []string{studio}},
		"root's, by a request":      {0, []any{"RequestMode", "studio-local"}, []string{studio, desktop}},
		"another's on another mode": {1001, []any{"RequestMode", "desktop"}, []string{desktop}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.inMode(policy.StudioLocal)
			h.controller.with(func(f *fakeController) {
				f.view.Desired.Mode = policy.StudioLocal
				f.view.Lease = &status.Lease{
					ID: 5, Mode: policy.StudioLocal, BackTo: policy.Desktop, By: "whoever", UID: c.lessee, For: time.Hour,
				}
			})
			h.authorizer.as(1000, c.asked...)
			require.NoError(t, h.call(c.call[0].(string), c.call[1:]...).Err)
			require.Equal(t, c.asked, h.authorizer.questions())
			if len(c.asked) > 1 {
				h.authorizer.as(1000, c.asked[0])
				refused(
					t, h.call(c.call[0].(string), c.call[1:]...), busapi.ErrAccessDenied,
					"this ends the terms of whoever: "+desktop+" was not granted",
				)
			}
		})
	}
}

// What a request needs is what it needs when the last prompt was answered.
func TestARequestThatNeedsMoreAfterAPromptIsAskedForMore(t *testing.T) {
	compute, desktop := busapi.ActionRequest(policy.Compute), busapi.ActionRequest(policy.Desktop)
	h := newHost(t)
	h.inMode(policy.Desktop)
	h.authorizer.as(1000, compute)
	h.authorizer.with(func(a *fakeAuthorizer) { a.onAsk = func() { h.inMode(policy.Compute) } })
	hour := busapi.Dict{busapi.OptionFor: dbus.MakeVariant(uint32(3600))}
	refused(
		t, h.call("RequestMode", "compute", uint64(0), hour), busapi.ErrAccessDenied,
		"the terms end with a transition to desktop",
	)
	require.Equal(t, []string{compute, desktop}, h.authorizer.questions())
	require.Empty(t, h.controller.asked())

	h.inMode(policy.Desktop)
	h.authorizer.as(1000, compute, desktop)
	require.NoError(t, h.call("RequestMode", "compute", uint64(0), hour).Err)
	require.Equal(t, status.ByPolkit(compute, desktop), h.controller.asked()[0].Authorization)
}

func TestThePromptSaysWhatItIsFor(t *testing.T) {
	h := newHost(t)
	h.authorizer.as(1000, busapi.ActionForce, busapi.ActionEndOtherSessions)
	h.controller.people(1000, 1001, 1002)
	require.NoError(t, h.call("ForceMode", "compute", []string{"check_cpu_load_safe", "check_user_jobs_safe"}).Err)
	h.authorizer.with(func(a *fakeAuthorizer) {
		require.Equal(t, []map[string]string{
			{"mode": "compute", "guards": "check_cpu_load_safe, check_user_jobs_safe"},
			{"mode": "compute", "sessions": "user1001, user1002"},
		}, a.details)
	})
}

// A flag that only root may set costs nobody a password.
func TestNoWaitIsRefusedBeforeAnybodyIsAsked(t *testing.T) {
	h := newHost(t)
	h.authorizer.as(1000, busapi.ActionRequest(policy.Desktop))
	refused(t, h.call("RequestMode", "desktop", busapi.FlagNoWait), busapi.ErrAccessDenied, "only root")
	require.Empty(t, h.authorizer.questions())
}

func TestARequesterWhoLeftMeanwhileIsDenied(t *testing.T) {
	h := newHost(t)
	h.authorizer.as(1000, busapi.ActionRequest(policy.Desktop))
	leave := func() {
		h.authorizer.with(func(a *fakeAuthorizer) { a.uidErr = errors.New("it has no owner") })
	}
	h.authorizer.with(func(a *fakeAuthorizer) { a.onAsk = leave })
	refused(
		t, h.call("RequestMode", "desktop", uint64(0), noOptions), busapi.ErrAccessDenied,
		"cannot identify the caller: it has no owner",
	)
	require.Empty(t, h.controller.asked())
}

func TestASenderWithoutAUserIsDenied(t *testing.T) {
	h := newHost(t)
	h.authorizer.with(func(a *fakeAuthorizer) { a.uidErr = errors.New("no such name") })
	refused(t, h.call("RequestMode", "desktop", uint64(0), noOptions), busapi.ErrAccessDenied, "cannot identify the caller")
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
	require.NoError(
		t,
		asking.Object(busapi.BusName, busapi.Path).Call(
			busapi.Interface+".RequestMode", 0, "desktop", uint64(0), noOptions,
		).Err,
	)
	require.Equal(
		t, []string{"org.dubnium.mode1.request-desktop", "org.dubnium.mode1.request-desktop?"}, h.authorizer.questions(),
	)
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
	refused(
		t, h.call("RequestMode", "desktop", uint64(0), noOptions), status.ErrTooMany,
		"too many requests wait for authorization, at most 4 per user",
	)
	require.NoError(t, h.call("History").Err, "reads go on meanwhile")
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
