package server

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
	obs "github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

func (h *host) plan(t *testing.T, mode string) status.Preview {
	t.Helper()
	var reply busapi.Dict
	require.NoError(t, h.call("Plan", mode).Store(&reply))
	p, err := busapi.DecodePreview(reply)
	require.NoError(t, err)
	return p
}

func TestPlanTellsWhatTheSenderWouldAskFor(t *testing.T) {
	h := newHost(t)
	h.looked()
	p := h.plan(t, "compute")
	require.Equal(t, policy.Compute, p.To)
	require.Len(t, p.Guards, 2)
	h.authorizer.as(1000)
	h.plan(t, "desktop")
	h.controller.with(func(c *fakeController) {
		require.Equal(
			t, []status.Request{{Mode: policy.Compute, EndOthers: true}, {Mode: policy.Desktop, UID: 1000}}, c.judged,
		)
		require.Empty(t, c.requests)
	})
	require.Empty(t, h.authorizer.questions(), "nobody is asked for a password")

	refused(t, h.call("Plan", "sauna"), busapi.ErrUnknownMode, `unknown mode "sauna"`)
	unknown := busapi.Dict{"slices": dbus.MakeVariant(true)}
	refused(t, h.call("Plan", "compute", uint64(0), unknown), busapi.ErrBadOption, `unknown option "slices"`)
	h.authorizer.as(0)
	h.controller.with(func(c *fakeController) { c.fail = status.ErrBusy })
	refused(t, h.call("Plan", "compute"), status.ErrBusy, "another transition is running")
	h.controller.with(func(c *fakeController) { c.fail = errors.New("no logind") })
	require.ErrorContains(t, h.call("Plan", "compute").Err, "cannot make a plan: no logind")
}

func TestPlansAreRedacted(t *testing.T) {
	h := newHost(t)
	h.looked()
	for uid, told := range map[uint32]bool{0: true, 1001: true, 1000: false} {
		h.authorizer.as(uid)
		p := h.plan(t, "compute")
		require.Equal(t, told, strings.Contains(fmt.Sprint(p), "secretgame"), "for uid %d", uid)
		require.Equal(t, !told, p.Holders[0].Redacted)
		require.Equal(t, "0000:01:00.0", p.Holders[0].GPU, "that somebody holds it is no secret")
		require.Equal(t, !told, p.Unseen[0].Redacted)
		require.EqualValues(t, 1001, p.Unseen[0].UID)
		require.Equal(t, policy.Code(11), p.Guards[1].Code, "the verdict is the same for everybody")
	}
}

func TestARequestForOnePlanCarriesItsFingerprint(t *testing.T) {
	h := newHost(t)
	fingerprint := strings.Repeat("0a", 16)
	options := func(plan any) busapi.Dict {
		return busapi.Dict{busapi.OptionPlan: dbus.MakeVariant(plan), busapi.OptionReason: dbus.MakeVariant("agreed")}
	}
	require.NoError(t, h.call("RequestMode", "compute", uint64(0), options(fingerprint)).Err)
	asked := h.controller.asked()
	require.Equal(t, []string{fingerprint, "agreed"}, []string{asked[0].Plan, asked[0].Why})
	refused(
		t, h.call("RequestMode", "compute", uint64(0), options("latest")), busapi.ErrBadOption,
		"is not the fingerprint of a plan",
	)
	refused(
		t, h.call("RequestMode", "compute", uint64(0), options("")), busapi.ErrBadOption, "is not the fingerprint of a plan",
	)
	refused(t, h.call("RequestMode", "compute", uint64(0), options(uint32(7))), busapi.ErrBadOption, "of type u, not s")
	require.Len(t, h.controller.asked(), 1)
	h.controller.with(func(c *fakeController) { c.fail = status.ErrStalePlan })
	refused(t, h.call("RequestMode", "compute", uint64(0), options(fingerprint)), status.ErrStalePlan, "dry-run")
}

// aPreview is what the fake controller's host would need: its holders have to go.
func aPreview(r status.Request, s obs.Snapshot) status.Preview {
	unseen := obs.Unseen{
		Process: obs.Process{PID: 8, Command: "secretgame", UID: 1001}, Slices: []string{"secretgame.slice"},
	}
	return status.Preview{To: r.Mode, Holders: s.Processes.Holders, Unseen: []obs.Unseen{unseen}}
}
