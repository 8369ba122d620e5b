package daemon

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/daemon/intent"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// leased requests a mode on terms, and returns once it is reached.
func (r *harness) leased(mode policy.Mode, terms status.Terms) uint64 {
	r.t.Helper()
	id, err := r.Request(
		r.t.Context(),
		status.Request{
			Mode: mode, Origin: status.OriginOperator, By: "uid 1000 (alice)", UID: 1000, LeaveCompute: true, Terms: terms,
		},
	)
	require.NoError(r.t, err)
	require.Equal(r.t, status.Success, r.settle().Last.Result)
	synctest.Wait()
	return id
}

// pass lets time go by, and everybody get to rest.
func (r *harness) advance(d time.Duration) status.View {
	r.t.Helper()
	time.Sleep(d)
	synctest.Wait()
	return r.View()
}

// failing makes f the host's fault, for what begins by the clock as well: whoever
// changes the host notifies the controller.
func (r *harness) failing(f func(ctx context.Context, when, what string) error) {
	r.host.change(func() { r.host.fault = f })
}

// applied lists what was done so far.
func (r *harness) applied() []string {
	return r.host.appliedSteps()
}

// leaseFile is the lease that a restart would take up.
func (r *harness) leaseFile() (l intent.Lease, there bool) {
	r.t.Helper()
	data, err := os.ReadFile(filepath.Join(r.dir, "run", "intent.json"))
	require.NoError(r.t, err)
	var d intent.Document
	require.NoError(r.t, json.Unmarshal(data, &d))
	if d.Lease == nil {
		return l, false
	}
	return *d.Lease, true
}

func TestLeaseExpires(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		begun := time.Now()
		id := r.leased(policy.Compute, status.Terms{For: 4 * time.Hour})
		v := r.View()
		require.NotNil(t, v.Lease)
		assert.Equal(t, id, v.Lease.ID)
		assert.Equal(t, policy.Desktop, v.Lease.BackTo)
		assert.WithinDuration(t, begun.Add(4*time.Hour), v.Lease.Until, time.Minute)
		assert.True(t, v.Lease.ConfirmBy.IsZero())

		v = r.advance(time.Until(v.Lease.Until) - time.Second)
		assert.Equal(t, observer.State("compute"), v.Observation.State)
		assert.Equal(t, id, v.Last.ID, "nothing was requested before its time")

		r.advance(2 * time.Second)
		v = r.settle()
		assert.Equal(t, observer.State("desktop"), v.Observation.State)
		assert.Equal(t, status.Success, v.Last.Result)
		assert.Equal(t, status.OriginLease, v.Last.Origin)
		assert.Equal(t, byDaemon, v.Last.By)
		assert.Equal(t, status.ByPolicy, v.Last.Authorization)
		assert.Equal(
			t, "the lease of compute, transition 1 of uid 1000 (alice), has expired: it was requested for 4h0m0s", v.Last.Why,
		)
		assert.Equal(t, policy.Desktop, v.Desired.Mode)
		assert.Equal(t, status.OriginLease, v.Desired.Origin)
		assert.Nil(t, v.Lease)
		_, there := r.leaseFile()
		assert.False(t, there)
		assert.Equal(t, observer.State("desktop"), r.advance(24*time.Hour).Observation.State)
		assert.Equal(t, v.Last.ID, r.View().Last.ID, "it is over once")
	})
}

// A machine that sleeps through the end finds it when it wakes up, though no timer
// ran; a clock that somebody sets moves nothing, since nothing reads it.
func TestLeaseDuringSleep(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		r.leased(policy.Compute, status.Terms{For: 4 * time.Hour})
		r.host.change(func() { r.host.slept += 3 * time.Hour })
		synctest.Wait()
		v := r.View()
		assert.Equal(t, observer.State("compute"), v.Observation.State)
		assert.WithinDuration(t, time.Now().Add(time.Hour), v.Lease.Until, time.Minute, "the new time is published")
		r.host.change(func() { r.host.slept += 2 * time.Hour })
		synctest.Wait()
		assert.Equal(t, observer.State("desktop"), r.settle().Observation.State)
	})
}

func TestLeaseAfterRestart(t *testing.T) {
	cases := map[string]struct {
		boot  string
		away  time.Duration
		state observer.State
		lease bool
	}{
		"a restart in time":          {thisBoot, time.Minute, "compute", true},
		"a restart after its end":    {thisBoot, 5 * time.Hour, "desktop", false},
		"another boot forgets it":    {"boot-2", 5 * time.Hour, "compute", false}, // the fake host does not boot
		"a restart while it is late": {thisBoot, 4 * time.Hour, "desktop", false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				host := newFakeHost(testPolicy(dir))
				r := startHarness(t, host, dir, thisBoot)
				r.settle()
				r.leased(policy.Compute, status.Terms{For: 4 * time.Hour})
				until := r.View().Lease.Until
				r.stop()
				time.Sleep(c.away)
				r = startHarness(t, host, dir, c.boot)
				defer r.stop()
				r.settle()
				r.advance(time.Minute)
				v := r.settle()
				assert.Equal(t, c.state, v.Observation.State)
				require.Equal(t, c.lease, v.Lease != nil)
				if c.lease {
					assert.WithinDuration(t, until, v.Lease.Until, 2*time.Second)
				}
			})
		})
	}
}

func TestUnconfirmed(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		r.host.change(func() { r.host.unhealthy = true })
		id, err := r.Request(
			t.Context(), status.Request{Mode: policy.Compute, UID: 1000, Terms: status.Terms{Confirm: 5 * time.Minute}},
		)
		require.NoError(t, err)
		v := r.advance(10 * time.Minute)
		require.NotNil(t, v.Running, "vLLM loads its model")
		assert.True(t, v.Lease.ConfirmBy.IsZero(), "the clock starts when the target is reached")
		assert.ErrorIs(t, r.Confirm(t.Context(), id, status.Confirmation{By: "test"}), status.ErrBusy)
		r.host.change(func() { r.host.unhealthy = false; r.host.now.Inference.Healthy = true })
		v = r.settle()
		require.Equal(t, status.Success, v.Last.Result)
		assert.WithinDuration(t, time.Now().Add(5*time.Minute), v.Lease.ConfirmBy, 2*time.Second)
		r.advance(5*time.Minute + time.Second)
		v = r.settle()
		assert.Equal(t, observer.State("desktop"), v.Observation.State)
		assert.Contains(t, v.Last.Why, "nobody confirmed it within 5m0s")
	})
}

func TestConfirmed(t *testing.T) {
	cases := map[string]struct {
		terms status.Terms
		stays bool
	}{
		"for ever":                     {status.Terms{Confirm: 5 * time.Minute}, true},
		"for as long as it was leased": {status.Terms{Confirm: 5 * time.Minute, For: time.Hour}, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			onDesktop(t, func(t *testing.T, r *harness) {
				id := r.leased(policy.Compute, c.terms)
				alice := status.Confirmation{By: "uid 1000 (alice)", UID: 1000, Authorization: status.ByPolkit("x")}
				assert.ErrorIs(t, r.Confirm(t.Context(), id+1, alice), status.ErrNoSuchTransition)
				require.NoError(t, r.Confirm(t.Context(), id, alice))
				assert.ErrorIs(t, r.Confirm(t.Context(), id, alice), status.ErrNoSuchTransition, "once is enough")
				events, err := os.ReadFile(filepath.Join(r.dir, "state", "events.jsonl"))
				require.NoError(t, err)
				assert.Contains(t, string(events),
					`"transition":1,"mode":"compute","by":"uid 1000 (alice)","uid":1000,"authorization":"polkit x"`)

				v := r.advance(10 * time.Minute)
				assert.Equal(t, observer.State("compute"), v.Observation.State)
				assert.Equal(t, c.stays, v.Lease == nil)
				r.advance(24 * time.Hour)
				v = r.settle()
				assert.Equal(t, c.stays, v.Observation.Is(policy.Compute))
			})
		})
	}
}

func TestLeaseEndsOrIsReplaced(t *testing.T) {
	hour := status.Terms{For: time.Hour}
	cases := map[string]struct {
		first policy.Mode
		then  func(t *testing.T, r *harness)
		mode  policy.Mode // of the lease afterwards, empty for none
		back  policy.Mode
	}{
		"another mode": {policy.Compute, func(_ *testing.T, r *harness) { r.request(policy.Desktop) }, "", ""},
		"the same mode, without an end": {
			policy.Compute, func(_ *testing.T, r *harness) { r.request(policy.Compute) }, "", "",
		},
		"the same mode on other terms keeps the way back": {
			policy.StudioLocal,
			func(t *testing.T, r *harness) { r.requestOn(policy.StudioLocal, status.Terms{Confirm: time.Hour}) },
			policy.StudioLocal, policy.Desktop,
		},
		"a mode that is left for another on terms": {
			policy.StudioLocal, func(t *testing.T, r *harness) { r.requestOn(policy.Compute, hour) },
			policy.Compute, policy.StudioLocal,
		},
		"a mode that is not reached": {
			policy.StudioLocal, func(t *testing.T, r *harness) {
				r.host.unhealthy = true
				require.Equal(t, status.RolledBack, r.requestOn(policy.Compute, hour).Result)
			}, "", "",
		},
		"a request that is canceled changes nothing": {
			policy.StudioLocal, func(t *testing.T, r *harness) {
				id := r.submit(compute)
				require.Nil(t, r.View().Lease)
				require.NoError(t, r.Cancel(t.Context(), id, "uid 0"))
				require.Equal(t, status.Canceled, r.settle().Last.Result)
			}, policy.StudioLocal, policy.Desktop,
		},
		"a request for the way back that is refused": {
			policy.Compute, func(t *testing.T, r *harness) {
				r.inhibit(status.Inhibitor{How: status.Block, Who: "backup", Why: "a snapshot", Holder: ":1.9"})
				require.Equal(t, status.Inhibited, r.request(policy.Desktop).Result)
			}, policy.Compute, policy.Desktop,
		},
		"a request for elsewhere that is refused": {
			policy.Compute, func(t *testing.T, r *harness) {
				r.inhibit(status.Inhibitor{How: status.Block, Who: "backup", Why: "a snapshot", Holder: ":1.9"})
				require.Equal(t, status.Inhibited, r.request(policy.StudioLocal).Result)
			}, "", "",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			onDesktop(t, func(t *testing.T, r *harness) {
				r.leased(c.first, hour)
				c.then(t, r)
				synctest.Wait()
				l := r.View().Lease
				kept, there := r.leaseFile()
				require.Equal(t, c.mode != "", l != nil)
				require.Equal(t, c.mode != "", there)
				if l != nil {
					assert.Equal(t, c.mode, l.Mode)
					assert.Equal(t, c.back, l.BackTo)
					assert.Equal(t, c.back, kept.BackTo)
				}
			})
		})
	}
}

func (r *harness) requestOn(mode policy.Mode, terms status.Terms) status.Record {
	r.t.Helper()
	r.submit(
		status.Request{Mode: mode, Origin: status.OriginOperator, By: "test", UID: 1000, LeaveCompute: true, Terms: terms},
	)
	return *r.settle().Last
}

// A request for what is desired anyway changes no terms.
func TestReconcileKeepsTerms(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		hour := status.Terms{For: time.Hour}
		r.leased(policy.StudioLocal, hour)
		before := r.View()
		r.submit(status.Request{Mode: policy.StudioLocal, Origin: status.OriginOperator, By: "test", KeepTerms: true})
		after := r.settle()
		require.Equal(t, status.Noop, after.Last.Result)
		assert.Equal(t, before.Lease, after.Lease)
		assert.Equal(t, before.Desired, after.Desired)

		r.submit(status.Request{Mode: policy.Desktop, Origin: status.OriginOperator, By: "test", KeepTerms: true})
		after = r.settle()
		assert.Nil(t, after.Lease, "it was not what was desired")
		assert.Equal(t, policy.Desktop, after.Desired.Mode)
	})
}

func TestLeaseNeverToCompute(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		hour := status.Terms{For: time.Hour}
		_, err := r.Request(t.Context(), status.Request{Mode: policy.Desktop, Terms: hour})
		require.ErrorContains(t, err, "needs another mode to go back to")
		r.request(policy.Compute)
		_, err = r.Request(t.Context(), status.Request{Mode: policy.Desktop, Terms: hour})
		require.ErrorContains(t, err, "needs another mode to go back to")
		assert.Equal(t, policy.Compute, r.View().Desired.Mode, "nothing was written")
		r.leased(policy.StudioLocal, hour)
		assert.Equal(t, policy.Desktop, r.View().Lease.BackTo, "and not compute, where it came from")
		_, err = r.Request(t.Context(), status.Request{Mode: policy.StudioLocal, Terms: status.Terms{UntilIdle: time.Hour}})
		require.ErrorContains(t, err, "vLLM does not run in studio-local")
	})
}

func TestLeaseUntilIdle(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		serves := func(n float64) {
			r.host.change(func() {
				running := n
				r.host.now.Inference.Running = &running
			})
		}
		observe := func(until time.Duration) status.View {
			for range until / (20 * time.Second) {
				time.Sleep(20 * time.Second)
				_, err := r.Observe(t.Context())
				require.NoError(t, err)
			}
			return r.settle()
		}
		r.leased(policy.Compute, status.Terms{UntilIdle: 30 * time.Minute})
		observe(20 * time.Minute)
		serves(1)
		v := observe(40 * time.Minute)
		assert.Equal(t, observer.State("compute"), v.Observation.State)
		assert.True(t, v.Lease.IdleSince.IsZero())
		serves(0)
		v = observe(29 * time.Minute)
		assert.Equal(t, observer.State("compute"), v.Observation.State)
		assert.WithinDuration(t, time.Now().Add(-29*time.Minute), v.Lease.IdleSince, time.Minute)
		r.host.change(func() { r.host.now.Inference.Running = nil })
		observe(time.Hour)
		assert.True(t, r.View().Observation.Is(policy.Compute), "what is not known is not idle")
		serves(0)
		r.host.change(func() { r.host.slept += 8 * time.Hour })
		v = observe(29 * time.Minute)
		assert.True(t, v.Observation.Is(policy.Compute), "a machine that slept was not idle")
		v = observe(2 * time.Minute)
		assert.Equal(t, observer.State("desktop"), v.Observation.State)
		assert.Contains(t, v.Last.Why, "vLLM has had no request for 30m0s")
	})
}

// A request whose lease cannot be written is refused as a whole.
func TestLeaseUnwritable(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		inTheWay := filepath.Join(r.dir, "run", "intent.json")
		require.NoError(t, os.Remove(inTheWay))
		require.NoError(t, os.MkdirAll(filepath.Join(inTheWay, "in the way"), 0o755))
		_, err := r.Request(t.Context(), status.Request{Mode: policy.Compute, Terms: status.Terms{For: time.Hour}})
		require.ErrorContains(t, err, "cannot record what was requested")
		assert.Equal(t, policy.Desktop, r.View().Desired.Mode)
		assert.Nil(t, r.View().Lease)
		assert.Empty(t, r.applied())
	})
}
