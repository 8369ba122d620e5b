//go:build integration

package integration

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/policy"
)

// TestSomebodyWhoLogsInDuringTheWayBackIsNotPutUnderCompute: the desktop target
// hangs, so that a way out of compute is taken back, and alice logs in while its
// display manager is being stopped.
func TestSomebodyWhoLogsInDuringTheWayBackIsNotPutUnderCompute(t *testing.T) {
	w := start(
		t, testhost.Options{NoAutoLogin: true},
		func(p *policy.Policy) { shorten(slow, &p.Timeouts.Isolate, &p.Timeouts.Verify) },
	)
	reach(t, w, policy.Compute)
	require.NoError(t, w.SetFault("desktop.target", testhost.Fault{HangStart: true}))
	require.NoError(t, w.EditUnit("greetd.service", func(u *testhost.Unit) { u.StopTakes = time.Second }))
	asked := background(t, w.ModectlCommand(bounded(t), "request", "desktop"))
	require.NoError(t, w.Wait(bounded(t), "undo", unitIs("greetd.service", "deactivating")))
	_, err := w.Login("alice")
	require.NoError(t, err)
	answer := soon(t, "the answer", asked)
	t.Log(answer.code, answer.stdout, hostOf(w))
	requireHonest(t, w)
	require.True(t, hostOf(w).has("user"), "alice is still there")
	require.False(t, hostOf(w).active("compute.target"), "compute under a session")
	require.False(t, hostOf(w).active("vllm.service"), "vLLM under a session")
	require.True(t, hostOf(w).active("greetd.service"), "who logs out can log in again")
}
