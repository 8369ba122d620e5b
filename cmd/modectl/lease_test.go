package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/policy"
)

func TestARequestOnTermsSaysWhenItEnds(t *testing.T) {
	e := &engine{ends: ending(status.Success, "compute")}
	serve(t, e, authorizer{})
	r := modectl(t.Context(), "request", "compute", "--for", "4h", "--until-idle", "30m", "--confirm", "5m")
	require.Equal(t, exitOK, r.code, r.stderr)
	require.Equal(
		t, status.Terms{For: 4 * time.Hour, UntilIdle: 30 * time.Minute, Confirm: 5 * time.Minute}, e.asked()[0].Terms,
	)
	require.Equal(t, "compute reached (transition 7)\n"+
		"  ends        unless confirmed within 5m0s: modectl confirm 7\n"+
		"  ends        after 4h0m0s\n"+
		"  ends        when vLLM got no request for 30m0s\n", r.stdout)
	e.mu.Lock()
	e.ends = ending(status.RolledBack, "desktop")
	e.mu.Unlock()
	r = modectl(t.Context(), "request", "compute", "--for", "4h")
	require.Equal(t, exitRolledBack, r.code)
	require.NotContains(t, r.stdout, "ends  ", "it is not there")
}

func TestTermsThatMakeNoSenseAreMisuse(t *testing.T) {
	for _, args := range [][]string{
		{"--for", "0s"}, {"--until-idle", "-1m"}, {"--confirm", "1.5s"}, {"--for", "745h"}, {"--confirm", "soon"},
	} {
		r := modectl(t.Context(), append([]string{"request", "compute"}, args...)...)
		require.Equal(t, exitMisuse, r.code, args)
		require.Contains(t, r.stderr, args[0], "it says which")
	}
	serve(t, &engine{}, authorizer{})
	r := modectl(t.Context(), "request", "desktop", "--for", "1h")
	require.Equal(t, exitMisuse, r.code)
	require.Contains(t, r.stderr, "a lease on desktop needs another mode to go back to")
}

func TestConfirm(t *testing.T) {
	e := &engine{}
	serve(t, e, authorizer{})
	r := modectl(t.Context(), "confirm")
	require.Equal(t, exitMisuse, r.code)
	require.Contains(t, r.stderr, "no mode waits for confirmation")
	require.Equal(t, exitMisuse, modectl(t.Context(), "confirm", "soon").code)
	require.Equal(t, exitMisuse, modectl(t.Context(), "confirm", "7").code, "that does not")

	leased := desktop
	leased.Lease = &status.Lease{ID: 7, Mode: policy.Compute, BackTo: policy.Desktop, Confirm: time.Minute}
	e.mu.Lock()
	e.view = leased
	e.server.Notify(leased, nil)
	e.mu.Unlock()
	for _, args := range [][]string{{"confirm", "7"}, {"confirm"}} {
		require.Eventually(t, func() bool { // the properties are published behind the view
			r = modectl(t.Context(), args...)
			return r.code == exitOK
		}, 10*time.Second, time.Millisecond, r.stderr)
		require.Equal(t, "transition 7 is confirmed\n", r.stdout)
	}
	e.mu.Lock()
	require.Equal(t, []uint64{7, 7}, e.confirmed)
	e.refuses = status.ErrNotCancellable
	e.mu.Unlock()
	require.Equal(t, exitBusy, modectl(t.Context(), "confirm").code)
}
