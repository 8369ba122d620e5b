package daemon

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// TestGuardsOfNoRequest: the same guards with the same answers, and
// nothing is requested or done.
func TestGuardsOfNoRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		host := newFakeHost(testPolicy(dir))
		r := startHarness(t, host, dir, thisBoot)
		defer r.stop()
		before := r.settle()
		evaluate := func(mode policy.Mode, ids ...policy.GuardID) []guards.Verdict {
			t.Helper()
			verdicts, _, err := r.Judge(t.Context(), status.Request{Mode: mode, UID: 1000}, ids)
			require.NoError(t, err)
			return verdicts
		}
		require.Empty(t, guards.Blocking(evaluate(policy.Compute)))
		host.change(func() {
			host.now.Processes.Jobs.List = []observer.Job{{Process: observer.Process{PID: 7, Command: "make"}}}
		})
		verdicts := evaluate(policy.Compute)
		require.Len(t, guards.Blocking(verdicts), 1)
		require.Equal(t, []guards.Verdict{guards.Blocking(verdicts)[0]}, evaluate(policy.Compute, policy.CheckUserJobsSafe))
		require.Len(t, evaluate(policy.Desktop), 2)
		after := r.settle()
		require.Equal(t, before.Desired, after.Desired)
		require.Nil(t, after.Last)
		require.Empty(t, host.appliedSteps())

		record := r.request(policy.Compute)
		require.Equal(t, status.Blocked, record.Result)
		require.Equal(t, verdicts, record.Guards)
		require.Empty(t, host.appliedSteps())
	})
}
