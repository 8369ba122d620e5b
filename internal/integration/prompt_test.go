//go:build integration

package integration

import (
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/observer/audio"
	"github.com/dubnium/dubnium/policy"
)

// What a person reads who is asked for a password has the mode, the people and the
// guards that it is about: polkit fills in what dubniumd knows of the request.
func TestAPromptSaysWhatItIsAbout(t *testing.T) {
	t.Parallel()
	g := startGuarded(t)
	g.lendAudio(t, dave)
	g.AddSession(
		testhost.Session{UID: dave, User: "dave", Class: "user", Type: "wayland", Seat: "seat1", Service: "login"},
	)
	require.NoError(t, g.WaitUnit(bounded(t), audio.SocketUnit(dave), "active")) // now the daemon knows
	g.root(t).awaitPossible(t, policy.Compute)
	bobs := g.person(t, caller{bob, atSeat})
	const (
		required  = "Authentication is required to "
		toDesktop = required + "switch this workstation to desktop mode, which leaves the mode that it is in."
		toStudio  = required + "switch this workstation to studio mode."
		leaving   = required + "switch this workstation to studio-local mode, which leaves the mode that it is in."
		toCompute = required + "switch this workstation to compute mode. This ends the graphical session."
		ending    = required + "switch this workstation to compute mode, which ends the graphical sessions of alice, dave."
		forcing   = required + "switch this workstation to compute mode against the advice of check_cpu_load_safe, check_user_jobs_safe."
	)
	prompted := func(a asked, messages ...string) {
		t.Helper()
		before := g.settled(t)
		bobs.agent.grant(len(messages) - 1) // the last one is canceled
		_, err := bobs.call(bounded(t), a, true)
		require.ErrorIs(t, err, busapi.ErrAccessDenied)
		require.Equal(t, before, everythingOf(t, g.Workstation))
		var seen []string
		for _, p := range bobs.agent.seen() {
			seen = append(seen, p.message)
		}
		require.Equal(t, messages, seen, a)
	}
	request := func(mode policy.Mode) asked { return ask("RequestMode", 0, busapi.Dict{}, string(mode)) }
	prompted(request(policy.Desktop), toDesktop)
	prompted(request(policy.StudioLocal), toStudio)
	prompted(request(policy.Compute), toCompute, ending)
	prompted(
		ask("ForceMode", 0, busapi.Dict{}, string(policy.Compute), []string{"check_cpu_load_safe", "check_user_jobs_safe"}),
		forcing, ending,
	)
	prompted(
		ask("Inhibit", 0, busapi.Dict{}, "", "backup", "a snapshot", "block"),
		required+"keep this workstation from changing its mode.",
	)

	reach(t, g.Workstation, policy.Compute)
	awaitGone(t, g.Workstation, alice)
	awaitGone(t, g.Workstation, dave)
	prompted(request(policy.StudioLocal), toStudio, leaving)
	prompted(
		ask("RequestMode", 0, busapi.Dict{busapi.OptionFor: dbus.MakeVariant(uint32(1))}, string(policy.Compute)), toCompute,
		toDesktop,
	)
}

// A password for what the table calls kept is asked for once, for anything else each
// time.
func TestAPasswordIsKeptWhereTheTableSaysSo(t *testing.T) {
	t.Parallel()
	g := startGuarded(t)
	daves := g.person(t, caller{dave, atSeat})
	twice := func(a asked) (prompts []string) {
		t.Helper()
		daves.agent.grant(every)
		for range 2 {
			_, err := daves.call(bounded(t), a, true)
			require.NoError(t, err)
			watch(t, g.Workstation).settled(t)
		}
		return daves.agent.seenActions()
	}
	require.Equal(
		t, []string{busapi.ActionRequest(policy.Desktop)},
		twice(ask("RequestMode", 0, busapi.Dict{}, string(policy.Desktop))),
	)
	force := ask("ForceMode", 0, busapi.Dict{}, string(policy.Desktop), []string{string(policy.CheckCPULoadSafe)})
	require.Equal(t, []string{busapi.ActionForce, busapi.ActionForce}, twice(force))
	require.Equal(
		t, []string{busapi.ActionInhibitBlock}, twice(ask("Inhibit", 0, busapi.Dict{}, "", "backup", "a snapshot", "block")),
	)
}
