package server

import (
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/policy"
)

func TestTheTermsOfARequest(t *testing.T) {
	h := newHost(t)
	h.authorizer.as(1000, busapi.ActionRequest(policy.Compute))
	request := func(mode, key string, value any) *dbus.Call {
		return h.call("RequestMode", mode, uint64(0), busapi.Dict{key: dbus.MakeVariant(value)})
	}
	for _, key := range []string{busapi.OptionFor, busapi.OptionUntilIdle, busapi.OptionConfirm} {
		refused(t, request("compute", key, int32(1)), busapi.ErrBadOption, "the option "+key+" is of type i, not u")
		refused(t, request("compute", key, uint32(0)), busapi.ErrBadOption, "the option "+key+" is 0, less than 1")
		refused(t, request("compute", key, uint32(busapi.MaxTerm+1)), busapi.ErrBadOption, "more than 2678400")
	}
	refused(
		t, request("desktop", busapi.OptionFor, uint32(60)), busapi.ErrBadOption,
		"a lease on desktop needs another mode to go back to",
	)
	refused(
		t, request("studio-local", busapi.OptionUntilIdle, uint32(60)), busapi.ErrBadOption,
		"vLLM does not run in studio-local",
	)
	require.Empty(t, h.authorizer.questions(), "nobody is asked for a password for that")

	require.NoError(t, h.call("RequestMode", "compute", uint64(0), busapi.Dict{
		busapi.OptionFor: dbus.MakeVariant(uint32(14400)), busapi.OptionUntilIdle: dbus.MakeVariant(uint32(1800)),
		busapi.OptionConfirm: dbus.MakeVariant(uint32(300)),
	}).Err)
	require.Equal(
		t, status.Terms{For: 4 * time.Hour, UntilIdle: 30 * time.Minute, Confirm: 5 * time.Minute},
		h.controller.asked()[0].Terms,
	)
}

func TestWhoMayConfirm(t *testing.T) {
	h := newHost(t)
	confirm := func(id uint64) *dbus.Call { return h.call("ConfirmMode", id) }
	h.authorizer.as(1000)
	refused(t, confirm(5), status.ErrNoSuchTransition, "no transition 5 waits for confirmation")
	lease := func(l status.Lease) { h.controller.with(func(c *fakeController) { c.view.Lease = &l }) }
	lease(status.Lease{ID: 5, Mode: policy.Compute, BackTo: policy.Desktop, UID: 1000, For: time.Hour})
	refused(t, confirm(5), status.ErrNoSuchTransition, "no transition 5 waits for confirmation")
	lease(status.Lease{ID: 5, Mode: policy.Compute, BackTo: policy.Desktop, UID: 1000, Confirm: time.Minute})
	refused(t, confirm(4), status.ErrNoSuchTransition, "no transition 4 waits for confirmation")
	require.Empty(t, h.authorizer.questions())

	refused(t, confirm(5), busapi.ErrAccessDenied, busapi.ActionRequest(policy.Compute)+" was not granted")
	h.authorizer.as(1000, busapi.ActionRequest(policy.Compute))
	require.NoError(t, confirm(5).Err)
	lease(status.Lease{ID: 5, Mode: policy.Compute, BackTo: policy.Desktop, UID: 0, Confirm: time.Minute})
	refused(t, confirm(5), busapi.ErrAccessDenied, busapi.ActionRequest(policy.Desktop)+" was not granted")
	h.authorizer.as(0)
	h.controller.with(func(c *fakeController) { c.fail = status.ErrNotCancellable })
	refused(t, confirm(5), status.ErrNotCancellable, "cannot be canceled")
	h.controller.with(func(c *fakeController) {
		require.Equal(t, []status.Confirmation{
			{By: describe(1000), UID: 1000, Authorization: "polkit org.dubnium.mode1.request-compute"},
			{By: "uid 0 (root)", Authorization: status.ByCredentials},
		}, c.confirms)
	})
}
