package sinks

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

func TestWhatTheConsolesShow(t *testing.T) {
	at := time.Date(2026, 11, 22, 14, 30, 0, 0, time.UTC)
	here := func(state observer.State, inferred policy.Mode, session, greeter observer.Truth) status.View {
		return status.View{ObservedSince: at, Observation: observer.Observation{State: state, Inferred: inferred, Facts: observer.Facts{
			observer.GraphicalSession: {Truth: session}, observer.Greeter: {Truth: greeter},
		}}}
	}
	way := here(observer.Transitioning, policy.Desktop, observer.False, observer.False)
	way.Running = &status.Transition{To: policy.Compute, Started: at}
	waits := here("compute", policy.Compute, observer.False, observer.False)
	waits.Lease = &status.Lease{
		BackTo: policy.Desktop, ExpiredReason: "it was requested for 4h0m0s", LastFailure: "blocked by \\n somebody's words",
	}
	goes := waits
	goes.Lease = &status.Lease{BackTo: policy.Desktop, ExpiredReason: "it was requested for 4h0m0s"}
	idle := waits
	idle.Lease = &status.Lease{BackTo: policy.Desktop, UntilIdle: 30 * time.Minute}
	const since = " since 2026-11-22 14:30:00 UTC"
	const back = "; back: log in and run: modectl request desktop\n"
	cases := map[string]struct {
		view status.View
		want string
	}{
		"a desktop with somebody": {here("desktop", policy.Desktop, observer.True, observer.False), ""},
		"a desktop that greets":   {here("desktop", policy.Desktop, observer.False, observer.True), ""},
		"a desktop without a screen": {
			here("degraded-desktop", policy.Desktop, observer.False, observer.False),
			"This machine is in degraded-desktop" + since + back,
		},
		"one of which that is not known": {here("degraded-desktop", policy.Desktop, observer.False, observer.Unknown), ""},
		"compute": {
			here("compute", policy.Compute, observer.False, observer.False), "This machine is in compute" + since + back,
		},
		"compute with somebody": {
			here("unknown", policy.Compute, observer.True, observer.False), "This machine is in no known mode" + since + back,
		},
		"a machine on its way": {
			way, "This machine is on its way to compute" + since + ": modectl status tells how far it is\n",
		},
		"a way back that waits": {
			waits,
			"This machine is in compute" + since +
				back + "It is to go back to desktop by itself and cannot yet: modectl status says why. It tries again.\n",
		},
		"a way back that begins": {
			goes, "This machine is in compute" + since + back + "It goes back to desktop now, by itself.\n",
		},
		"until it is idle": {
			idle,
			"This machine is in compute" + since + back + "It goes back to desktop once vLLM has had no request for 30m0s.\n",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := consoleText(c.view)
			assert.Equal(t, c.want, got)
			assert.False(t, strings.ContainsAny(got, "\\\x1b"), "agetty expands what follows a backslash")
		})
	}
}
