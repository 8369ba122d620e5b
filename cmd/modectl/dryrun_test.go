package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

const fingerprint = "0123456789abcdef0123456789abcdef"

var wouldEnd = status.Preview{
	From: "desktop", Fingerprint: fingerprint,
	Steps: []status.PlannedStep{
		{ID: "end-sessions", Kind: "end-sessions", Does: "end 1 session", Timeout: time.Second},
	},
	Sessions: []observer.Session{
		{ID: "2", UID: uint32(os.Getuid()), User: "me", Class: "user", Type: "wayland", Seat: "seat0"},
	},
}

func TestADryRunPrintsThePlanAndAsksForNothing(t *testing.T) {
	e := &engine{preview: wouldEnd, verdicts: []guards.Verdict{{Guard: policy.CheckTargetReachable, OK: true}}}
	serve(t, e, authorizer{})
	dir, _ := env(t)
	socket := filepath.Join(dir, "sway.sock")
	t.Setenv("HYPRLAND_INSTANCE_SIGNATURE", "")
	t.Setenv("SWAYSOCK", socket)
	listening(t, socket, answerSway(swayTree, 4))

	r := modectl(t.Context(), "dry-run", "compute")
	require.Zero(t, r.code)
	require.Empty(t, r.stderr)
	require.Contains(t, r.stdout, "desktop -> compute: a request would run 1 step and end 1 session")
	require.Contains(t, r.stdout, "pavucontrol: mixer (workspace 1)")
	require.Contains(t, r.stdout, "modectl request compute --plan "+fingerprint)

	var got struct {
		Fingerprint string
		Runs        bool
		Windows     struct{ List []struct{ Title string } }
	}
	require.NoError(t, json.Unmarshal([]byte(modectl(t.Context(), "dry-run", "compute", "--json").stdout), &got))
	require.Equal(t, fingerprint, got.Fingerprint)
	require.True(t, got.Runs)
	require.Equal(t, "~", got.Windows.List[0].Title)
	require.True(t, strings.HasPrefix(modectl(t.Context(), "dry-run", "compute", "--dot").stdout, "digraph plan {"))
	require.Empty(t, e.asked())

	require.NoError(t, os.Remove(socket))
	r = modectl(t.Context(), "dry-run", "compute")
	require.Zero(t, r.code, "the plan does not hang on the windows")
	require.Contains(t, r.stdout, "its windows are unknown: cannot read from sway")
}

// TestOnlyTheCallersOwnCompositorIsAsked: where their session stays, or there is none,
// nobody is.
func TestOnlyTheCallersOwnCompositorIsAsked(t *testing.T) {
	t.Setenv("HYPRLAND_INSTANCE_SIGNATURE", "")
	t.Setenv("SWAYSOCK", "/nonexistent/sway.sock")
	own := wouldEnd.Sessions[0]
	other, greeter := own, own
	other.UID, greeter.Class = own.UID+1, "greeter"
	require.Nil(t, ownWindows(t.Context(), nil))
	require.Nil(t, ownWindows(t.Context(), []observer.Session{other, greeter}))
	require.NotEmpty(t, ownWindows(t.Context(), []observer.Session{other, own}).Fault)
	t.Setenv("SWAYSOCK", "")
	require.Nil(t, ownWindows(t.Context(), []observer.Session{own}))
}

func TestADryRunExitsAsTheFirstGuardThatStandsInTheWay(t *testing.T) {
	passes := guards.Verdict{Guard: policy.CheckTargetReachable, OK: true, Hard: true, Reason: "it can be reached"}
	unknown := guards.Verdict{Guard: policy.CheckCPULoadSafe, Code: 22, Reason: "no PSI", Remedy: "fix that"}
	for code, verdicts := range map[int][]guards.Verdict{
		0: {passes}, 22: {passes, unknown}, 18: {{Guard: policy.CheckTargetReachable, Code: 18}, unknown},
	} {
		serve(
			t, &engine{preview: status.Preview{From: "desktop", Fingerprint: fingerprint}, verdicts: verdicts}, authorizer{},
		)
		for _, form := range [][]string{nil, {"--json"}, {"--dot"}} {
			r := modectl(t.Context(), append([]string{"dry-run", "compute"}, form...)...)
			require.Equal(t, code, r.code, form)
			require.Empty(t, r.stderr)
			require.NotEmpty(t, r.stdout)
		}
	}
	serve(t, &engine{refuses: status.ErrBusy}, authorizer{})
	oneLine(t, modectl(t.Context(), "dry-run", "compute"), exitBusy, "another transition is running")
	oneLine(t, modectl(t.Context(), "dry-run", "sauna"), exitMisuse, "unknown mode")
	oneLine(t, modectl(t.Context(), "dry-run"), exitMisuse, "dry-run needs one mode")
	r := modectl(t.Context(), "dry-run", "compute", "--dot", "--json")
	oneLine(t, r, exitMisuse, "--json and --dot exclude each other")
}

func TestARequestForOnePlan(t *testing.T) {
	e := &engine{ends: status.Record{ID: 7, From: "desktop", To: policy.Compute, Final: "compute", Result: status.Success}}
	serve(t, e, authorizer{})
	require.Zero(t, modectl(t.Context(), "request", "compute", "--plan", fingerprint).code)
	require.Equal(t, fingerprint, e.asked()[0].Plan)
	for _, wrong := range []string{"", "latest", fingerprint[1:]} {
		oneLine(
			t, modectl(t.Context(), "request", "compute", "--plan", wrong), exitMisuse, "is not the fingerprint of a plan",
		)
	}
	require.Len(t, e.asked(), 1)
	serve(t, &engine{refuses: status.ErrStalePlan}, authorizer{})
	oneLine(t, modectl(t.Context(), "request", "compute", "--plan", fingerprint), exitStalePlan, "modectl dry-run")
	oneLine(
		t, modectl(t.Context(), "request", "compute", "--plan", fingerprint, "--no-wait"), exitStalePlan, "modectl dry-run",
	)
}
