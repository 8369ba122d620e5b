package daemon

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// changed is the harness's policy with a change.
func changed(r *harness, change func(*policy.Policy)) policy.Document {
	d := r.View().Policy
	change(&d.Policy)
	return d
}

func distrust(p *policy.Policy) { p.Transitions = policy.TrustObserve }

func TestReload(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		trusting := r.View().Policy
		later, err := r.Reload(t.Context(), changed(r, distrust))
		require.NoError(t, err)
		require.Nil(t, later)
		assert.Equal(t, policy.TrustObserve, r.View().Policy.Transitions)
		assert.Empty(t, r.View().Warnings)
		assert.Equal(t, status.Blocked, r.request(policy.StudioLocal).Result)

		_, err = r.Reload(t.Context(), trusting)
		require.NoError(t, err)
		assert.Equal(t, status.Success, r.request(policy.StudioLocal).Result)
		p, err := policy.Load(filepath.Join(r.dir, "run", "policy.toml"))
		require.NoError(t, err)
		assert.Equal(t, trusting.Policy, p, "the probes read what is in force")
	})
}

// held stops the first step of the next transition until it is let go.
func held(r *harness) (begun <-chan struct{}, letGo func()) {
	started, gate := make(chan struct{}), make(chan struct{})
	var once sync.Once
	r.failing(func(ctx context.Context, when, _ string) error {
		once.Do(func() { close(started) })
		select {
		case <-gate:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	return started, func() { close(gate) }
}

func TestReloadWaits(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		begun, letGo := held(r)
		_, err := r.Request(t.Context(), status.Request{Mode: policy.StudioLocal, Origin: status.OriginOperator, By: "test"})
		require.NoError(t, err)
		<-begun
		first, err := r.Reload(t.Context(), changed(r, func(p *policy.Policy) { p.Timeouts.Verify++ }))
		require.NoError(t, err)
		second, err := r.Reload(t.Context(), changed(r, distrust))
		require.NoError(t, err)
		require.ErrorIs(t, <-first, ErrSuperseded)
		synctest.Wait()
		assert.Empty(t, second, "the transition runs")
		assert.Equal(t, policy.TrustAll, r.View().Policy.Transitions)

		require.NoError(t, r.PolicyRefused(t.Context(), "a third one is bad"))
		letGo()
		require.NoError(t, <-second)
		v := r.View()
		require.Len(t, v.Warnings, 1, "the file is the third one, and not in force")
		assert.Equal(t, observer.Reason{Code: status.WarnPolicy, Text: "a third one is bad"}, v.Warnings[0])
		assert.Equal(t, status.Success, v.Last.Result, "it went on by the policy that it began with")
		assert.Equal(t, policy.TrustObserve, v.Policy.Transitions)
		assert.Equal(t, observer.State("studio-local"), v.Observation.State)
	})
}

func TestReloadWaitsAndStop(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		begun, letGo := held(r)
		defer letGo()
		_, err := r.Request(t.Context(), status.Request{Mode: policy.StudioLocal, Origin: status.OriginOperator, By: "test"})
		require.NoError(t, err)
		<-begun
		later, err := r.Reload(t.Context(), changed(r, distrust))
		require.NoError(t, err)
		r.stop()
		require.ErrorIs(t, <-later, status.ErrShuttingDown)
		_, err = r.Reload(t.Context(), changed(r, distrust))
		require.ErrorIs(t, err, status.ErrShuttingDown)
	})
}

func TestReloadRefused(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		old := r.View().Policy
		_, err := r.Reload(t.Context(), changed(r, func(p *policy.Policy) {
			distrust(p)
			p.Paths.State, p.Paths.Probes = "/elsewhere", "/elsewhere"
		}))
		require.Len(t, policy.Findings(err), 2)
		require.ErrorContains(t, err, "while dubniumd runs: restart it")
		assert.Equal(t, old, r.View().Policy)

		inForce := filepath.Join(r.dir, "run", "policy.toml")
		require.NoError(t, os.Remove(inForce))
		require.NoError(t, os.MkdirAll(filepath.Join(inForce, "in the way"), 0o755))
		_, err = r.Reload(t.Context(), changed(r, distrust))
		require.ErrorContains(t, err, "cannot adopt the policy")
		assert.Equal(t, old, r.View().Policy)
		assert.Equal(t, status.Success, r.request(policy.StudioLocal).Result)
	})
}

// A unit that was not read would count as one that is not there: nothing
// may be classified by the new policy before everything was read by it.
func TestReloadReadsFirst(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		var mu sync.Mutex
		var notes []string
		r.host.change(func() {
			r.host.onSource = func(what string) {
				mu.Lock()
				defer mu.Unlock()
				notes = append(notes, what+" under "+string(r.View().Policy.Transitions))
			}
		})
		synctest.Wait()
		mu.Lock()
		notes = nil
		mu.Unlock()
		_, err := r.Reload(
			t.Context(), changed(r, func(p *policy.Policy) { distrust(p); p.Timeouts.Look = policy.Duration(time.Minute) }),
		)
		require.NoError(t, err)
		mu.Lock()
		defer mu.Unlock()
		assert.Equal(t, []string{"adopts under all", "reads under all"}, notes)
		assert.Equal(t, time.Minute, r.monitor.Timeout())
		assert.Equal(t, policy.TrustObserve, r.View().Policy.Transitions)
	})
}
