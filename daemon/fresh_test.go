package daemon

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/observer"
)

// No look, no signal and no call tells the engine that time has passed.
func TestAStateThatNobodyLooksAtLosesConfidence(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *rig) {
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		require.Equal(
			t, observer.High, r.View().Observation.Confidence,
			"a desktop rests on what is signalled, and on audio, which is asked now and then",
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

func TestAViewHasTheEvidenceOfItsOwnObservation(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *rig) {
		before := r.View()
		time.Sleep(time.Second)
		after, err := r.Observe(t.Context())
		require.NoError(t, err)
		require.Equal(t, before.Snapshot.Fingerprint(), after.Snapshot.Fingerprint())
		require.True(t, after.Observation.At.After(before.Observation.At), "it was looked at again")
		require.Equal(
			t, observer.Classify(r.host.policy, after.Snapshot, after.Context(), after.Observation.At), after.Observation,
		)
	})
}
