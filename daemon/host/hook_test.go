package host_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/internal/testhost/sim"
	"github.com/dubnium/dubnium/plans"
)

const hook = "dubnium-session-end@1000.service"

func asks(grace time.Duration, users ...uint32) plans.Step {
	return plans.Step{Kind: plans.AskSessions, Grace: grace, Users: users}
}

// hooks counts how often each unit ran.
func hooks(ran chan<- string) testhost.Unit {
	return testhost.Unit{
		Name: "dubnium-session-end@.service", Oneshot: true,
		OnActive: func(*sim.Model) { ran <- "hook" },
	}
}

func TestHookOfEachUser(t *testing.T) {
	ran := make(chan string, 8)
	h := newHandlers(t, testhost.Options{Units: []testhost.Unit{hooks(ran)}})
	step := asks(time.Minute, 1000, 1001)
	h.prepare(step)
	require.NoError(t, h.apply(step))
	require.NoError(t, h.verify(step))
	require.Len(t, ran, 2)
	require.Equal(t, "inactive", h.state(hook))
	require.NoError(t, h.apply(step), "it may be asked again")
	require.Len(t, ran, 4)
}

func TestHookHangs(t *testing.T) {
	h := newHandlers(t, testhost.Options{})
	require.NoError(t, h.host.SetFault(hook, testhost.Fault{HangStart: true}))
	err := h.apply(asks(50*time.Millisecond, 1000))
	require.ErrorContains(
		t, err, "the end hook of uid 1000 failed ("+hook+"): it took longer than 50ms",
	)
	require.NoError(t, h.host.WaitUnit(bounded(t), hook, "inactive"))
}

func TestHookFails(t *testing.T) {
	ran := make(chan string, 8)
	h := newHandlers(t, testhost.Options{Units: []testhost.Unit{hooks(ran)}})
	require.NoError(t, h.host.Fail(hook))
	err := h.apply(asks(time.Minute, 1000, 1001))
	require.ErrorContains(t, err, "failed ("+hook+"): cannot start "+hook+": job failed (exit-code)")
	require.NotContains(t, err.Error(), "uid 1001")
	require.Len(t, ran, 1)
}

func TestHookWithoutUnit(t *testing.T) {
	h := newHandlers(t, testhost.Options{Units: []testhost.Unit{{Name: "dubnium-session-end@.service", Masked: true}}})
	require.ErrorContains(t, h.apply(asks(time.Minute, 1000)), "end hook of uid 1000")
}
