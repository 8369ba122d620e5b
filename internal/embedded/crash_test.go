//go:build faultpoints

package embedded_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/embedded"
	"github.com/dubnium/dubnium/internal/fault"
	"github.com/dubnium/dubnium/policy"
)

// TestCrashOfTheRealDaemon: the points that DUBNIUM_FAULT arms are in the program, and
// what dies or breaks there leaves what the crash matrix says.
func TestCrashOfTheRealDaemon(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	t.Setenv("GOFLAGS", "-tags=faultpoints")
	programs, err := embedded.Build(ctx, t.TempDir())
	require.NoError(t, err)
	for arm, want := range map[string]string{
		"transition.json.save:4=die":                                "interrupted",
		"transition.json.rename:2=die":                              "interrupted",
		"step.isolate-compute.applied=die":                          "interrupted",
		"org.freedesktop.login1.Manager.TerminateSession.call=die":  "interrupted",
		"org.freedesktop.systemd1.Manager.StopUnit.answered=die":    "interrupted",
		"last-transition.json.rename=die":                           "success",
		"step.isolate-compute.apply=fail":                           "rolled-back",
		"org.freedesktop.systemd1.Manager.StopUnit.call=hang":       "rolled-back",
		"transition.json.save:3=fail":                               "",
		"org.freedesktop.login1.Manager.TerminateSession.call=fail": "",
	} {
		t.Run(arm, func(t *testing.T) {
			t.Setenv(fault.Variable, arm)
			var said strings.Builder
			w, err := embedded.Start(ctx, programs, embedded.Options{Log: &said, Policy: func(p *policy.Policy) {
				p.Timeouts.Unit, p.Sessions.TerminateTimeout = policy.Duration(3*time.Second), policy.Duration(2*time.Second)
			}})
			require.NoError(t, err)
			defer func() { assert.NoError(t, w.Close()) }()
			_, _, code, err := w.Modectl(ctx, "request", "compute")
			require.NoError(t, err)
			if strings.HasSuffix(arm, "=die") {
				require.NotZero(t, code, "there is nobody to answer")
				exit, err := w.AwaitDaemonExit(ctx)
				require.NoError(t, err)
				require.Equal(t, -1, exit, "a signal")
				t.Setenv(fault.Variable, "")
				require.NoError(t, w.StartDaemon(ctx))
			}
			require.Contains(t, said.String(), "fault point ", "the point is met")
			settles(t, ctx, w)
			out, errs, _, err := w.Modectl(ctx, "last-transition")
			require.NoError(t, err)
			assert.Contains(t, out, want, errs)
			t.Log(out)
			request(t, ctx, w, "desktop", 0)
			becomes(t, ctx, w, "desktop")
		})
	}
}

// settles waits for the end of the recovery; each turn is one program.
func settles(t *testing.T, ctx context.Context, w *embedded.Workstation) {
	t.Helper()
	for {
		out, errs, _, err := w.Modectl(ctx, "current")
		require.NoError(t, err, errs)
		if !strings.HasPrefix(out, "transitioning") {
			return
		}
		require.NoError(t, ctx.Err(), "it is %s", out)
	}
}
