//go:build integration

package integration

import (
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/policy"
)

// Whoever sits at the machine has the overlay without a password, but is not led out of
// compute by it.
func TestTheOverlayIsNoWayOutOfComputeWithoutAPassword(t *testing.T) {
	t.Parallel()
	g := startGuarded(t)
	at := caller{alice, atSeat}
	reach(t, g.Workstation, policy.Compute)
	awaitGone(t, g.Workstation, alice)
	g.requireRefused(t, "needs authentication", at, "studio-local", "--no-ask-password")
	g.requireRefused(t, "needs authentication", at, "studio-local", "--for", "1s", "--no-ask-password")
	alices := g.person(t, at)
	before := g.settled(t)
	_, err := alices.call(
		bounded(t), ask("Reconcile", 0, busapi.Dict{busapi.OptionTarget: dbus.MakeVariant(string(policy.StudioLocal))}),
		false,
	)
	require.ErrorIs(t, err, busapi.ErrInteractionRequired)
	require.Equal(t, before, everythingOf(t, g.Workstation))
	requireHost(t, g.Workstation, policy.Compute)

	reach(t, g.Workstation, policy.Desktop)
	require.NoError(t, g.WaitSession(bounded(t), "user", true))
	require.Zero(t, g.modectl(t, at, "request", "studio-local").code)
	requireHost(t, g.Workstation, policy.StudioLocal)
}

// Nor does it end what somebody else has asked for.
func TestAnothersOverlayIsNotEndedWithoutAPassword(t *testing.T) {
	t.Parallel()
	g := startGuarded(t)
	at := caller{alice, atSeat}
	reach(t, g.Workstation, policy.StudioLocal)
	g.requireRefused(t, "needs authentication", at, "studio-local", "--for", "1s", "--no-ask-password")

	// Nor is it made to stay.
	require.Zero(t, modectl(t, g.Workstation, "request", "studio-local", "--for", "1h", "--confirm", "1h").code)
	g.requireRefused(t, "this ends the terms of uid 0 (root)", at, "studio-local", "--no-ask-password")
	alices := g.person(t, at)
	before := g.settled(t)
	lease := watch(t, g.Workstation).properties(t).View.Lease
	_, err := alices.call(bounded(t), ask("ConfirmMode", 0, busapi.Dict{}, lease.ID), false)
	require.ErrorIs(t, err, busapi.ErrInteractionRequired)
	require.Equal(t, before, everythingOf(t, g.Workstation))

	// What one has asked for oneself one ends oneself.
	reach(t, g.Workstation, policy.Desktop)
	require.Zero(t, g.modectl(t, at, "request", "studio-local", "--for", "1h").code)
	require.Zero(t, g.modectl(t, at, "request", "studio-local", "--for", "1s").code)
	watch(t, g.Workstation).ended(t)
	requireHost(t, g.Workstation, policy.Desktop)
}
