package daemon

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/observer"
)

// No read, no signal and no call makes the controller notice that time has passed.
func TestConfidenceExpires(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		require.Equal(
			t, observer.High, r.View().Observation.Confidence,
			"a desktop rests on what is signalled, and on audio, which is polled",
		)

		r.request("compute")
		require.Equal(t, observer.High, r.View().Observation.Confidence)
		p := r.host.policy
		time.Sleep(p.Timeouts.Recheck.D() + 2*p.Timeouts.Look.D() + 2*time.Millisecond)
		synctest.Wait()
		require.Equal(t, observer.Low, r.View().Observation.Confidence)
		require.Equal(t, observer.State("compute"), r.View().Observation.State)

		v, err := r.Observe(t.Context())
		require.NoError(t, err)
		require.Equal(t, observer.High, v.Observation.Confidence)
	})
}

func TestViewHasItsEvidence(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		before := r.View()
		time.Sleep(time.Second)
		after, err := r.Observe(t.Context())
		require.NoError(t, err)
		require.Equal(t, before.Snapshot.Fingerprint(), after.Snapshot.Fingerprint())
		require.True(t, after.Observation.At.After(before.Observation.At), "it was read again")
		require.Equal(
			t, observer.Classify(r.host.policy, after.Snapshot, after.Context(), after.Observation.At), after.Observation,
		)
	})
}
