package daemon

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/observer"
)

// A person who has just logged in has a whole desktop until their audio server is
// due. No signal says that it is due: the controller sets a timer.
func TestLoginGraceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		host := newFakeHost(testPolicy(dir))
		host.noAudio = true
		host.now.Logind.Sessions[0].Since = time.Now()
		r := startHarness(t, host, dir, thisBoot)
		defer r.stop()
		require.Equal(t, observer.State("desktop"), r.settle().Observation.State)
		host.mu.Lock()
		host.onSource = func(what string) { assert.Fail(t, "nothing needs to be read", what) }
		host.mu.Unlock()
		time.Sleep(9 * time.Second)
		synctest.Wait()
		assert.Equal(t, observer.State("desktop"), r.View().Observation.State)
		time.Sleep(time.Second + time.Millisecond)
		synctest.Wait()
		assert.Equal(t, observer.State("degraded-desktop"), r.View().Observation.State)
		assert.Equal(t, "degraded-desktop", word(t, r, "current"))
	})
}
