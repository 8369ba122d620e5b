package daemon

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/internal/stepreport"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// progress lists the events of the steps that take long.
func (r *harness) progress() (texts []string) {
	for _, e := range r.seen.all() {
		if e.Progress != nil {
			texts = append(texts, e.Progress.Step+": "+e.Progress.Text)
		}
	}
	return texts
}

// inFlight gives vLLM requests; a read that is under way keeps the number that it has.
func (r *harness) inFlight(n float64) { r.host.change(func() { r.host.now.Inference.Running = &n }) }

func stepOf(t *testing.T, r status.Record, id string) status.Step {
	t.Helper()
	i := slices.IndexFunc(r.Steps, func(s status.Step) bool { return s.ID == id })
	require.GreaterOrEqual(t, i, 0, "%+v", r.Steps)
	return r.Steps[i]
}

func TestProgressOfModel(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		r.host.unhealthy = true
		r.submit(status.Request{Mode: policy.Compute, UID: 1000})
		time.Sleep(12 * time.Second)
		synctest.Wait()
		running := r.View().Running
		require.NotNil(t, running)
		assert.Equal(t, "await-vllm-healthy", running.Step)
		assert.Equal(t, "loading, 10 s of 1200 s", running.Progress)
		r.host.change(func() { r.host.now.Inference.Healthy = true })
		require.Equal(t, status.Success, r.settle().Last.Result)
		assert.Equal(t, []string{
			"await-vllm-healthy: loading, 0 s of 1200 s", "await-vllm-healthy: loading, 5 s of 1200 s",
			"await-vllm-healthy: loading, 10 s of 1200 s",
		}, r.progress(), "once each, and not for each read in between")
	})
}

func TestProgressOfDrain(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		require.Equal(t, status.Success, r.request(policy.Compute).Result)
		r.inFlight(3)
		r.submit(status.Request{Mode: policy.Desktop, UID: 1000, LeaveCompute: true})
		time.Sleep(time.Second)
		assert.Equal(t, "draining, 3 requests in flight, 0 s of 300 s", r.View().Running.Progress)
		r.inFlight(0)
		require.Equal(t, status.Success, r.settle().Last.Result)
	})
}

// What a step noted although it was done is in the record, and shows other users
// as little as its errors do.
func TestNotesRedacted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		host := newFakeHost(testPolicy(dir))
		r := startHarness(t, host, dir, thisBoot)
		r.settle()
		require.Equal(t, status.Success, r.request(policy.Compute).Result)
		host.fault = func(ctx context.Context, when, what string) error {
			if what == "apply stop-vllm" {
				stepreport.Note(
					ctx, game+" outlived vllm.service", []observer.Secret{{UID: 1001, Text: game, Instead: "a process of uid 1001"}},
				)
			}
			return nil
		}
		record := r.request(policy.Desktop)
		require.Equal(t, status.Success, record.Result, record.Cause)
		assert.Equal(t, []string{game + " outlived vllm.service"}, stepOf(t, record, "stop-vllm").Notes, "once")
		assert.Equal(t, status.StepDone, stepOf(t, record, "stop-vllm").Status)
		r.requirePublic(t)
		assert.Contains(t, word(t, r, "last-transition.json"), "a process of uid 1001 outlived vllm.service")
		kept, err := r.Record(t.Context(), record.ID)
		require.NoError(t, err)
		assert.Equal(t, stepOf(t, record, "stop-vllm").Notes, stepOf(t, kept, "stop-vllm").Notes)
		assert.Equal(t, []string{"a process of uid 1001 outlived vllm.service"}, stepOf(t, kept.For(1000), "stop-vllm").Notes)
		r.stop()
	})
}

// withEndHook is a desktop whose policy has a hook.
func withEndHook(t *testing.T, run func(*testing.T, *harness)) {
	t.Helper()
	underContract(t, func(p *policy.Policy) { p.Sessions.EndHook = []string{"uwsm", "stop"} }, run)
}

// Nothing that a hook does or does not leaves the session standing.
func TestHookFails(t *testing.T) {
	faults := map[string]func(ctx context.Context) error{
		"that fails": func(context.Context) error { return errBroken },
		"that hangs": func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			withEndHook(t, func(t *testing.T, r *harness) {
				r.host.fault = func(ctx context.Context, when, what string) error {
					if when == "before" && what == "apply ask-sessions" {
						return fault(ctx)
					}
					return nil
				}
				record := r.request(policy.Compute)
				require.Equal(t, status.Success, record.Result, record.Cause)
				step := stepOf(t, record, "ask-sessions")
				assert.Equal(t, status.StepFailed, step.Status)
				assert.Contains(t, step.Error, "step ask-sessions failed: ")
				assert.LessOrEqual(t, step.Finished.Sub(step.Started), 40*time.Second)
				assert.Empty(t, r.host.now.Logind.Sessions)
			})
		})
	}
	withEndHook(t, func(t *testing.T, r *harness) {
		require.Equal(t, status.Success, r.request(policy.Compute).Result)
		applied := r.applied()
		assert.Equal(t, []string{"apply ask-sessions", "apply stop-display-manager", "apply end-sessions"}, applied[:3])
	})
}

// A hook that failed is no reason to go back behind what was reached since, and is not
// run again.
func TestHookFailsThenRecovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := testPolicy(t.TempDir())
		p.Sessions.EndHook = []string{"uwsm", "stop"}
		host := newFakeHost(p)
		host.unhealthy = true
		host.fault = func(_ context.Context, _, what string) error {
			if what == "apply ask-sessions" {
				return errBroken
			}
			return nil
		}
		r := startHarnessWith(t, host, p, thisBoot)
		r.settle()
		r.submit(status.Request{Mode: policy.Compute, UID: 1000})
		time.Sleep(5 * time.Second)
		require.Equal(t, "await-vllm-healthy", r.View().Running.Step)
		r.stop()
		host.change(func() { host.applied, host.fault = nil, nil })
		r = startHarnessWith(t, host, p, thisBoot)
		time.Sleep(time.Second)
		host.change(func() { host.now.Inference.Healthy = true })
		v := r.settle()
		assert.Equal(t, status.Interrupted, v.Last.Result, v.Last.Cause)
		assert.Equal(t, observer.State("compute"), v.Last.Final, v.Last.Cause)
		assert.Empty(t, host.appliedSteps())
		r.stop()
	})
}

func TestDrainTimeoutStops(t *testing.T) {
	underContract(t, func(p *policy.Policy) { p.VLLM.OnDrainTimeout = policy.DrainStop }, func(t *testing.T, r *harness) {
		require.Equal(t, status.Success, r.request(policy.Compute).Result)
		r.inFlight(1)
		begun := time.Now()
		record := r.request(policy.Desktop)
		require.Equal(t, status.Success, record.Result, record.Cause)
		assert.GreaterOrEqual(t, time.Since(begun), 5*time.Minute)
		assert.Contains(t, stepOf(t, record, "drain-vllm").Error, "vLLM has 1 requests in flight")
	})
}

// Whose sessions end is checked again right before the point of no return, although
// nothing took time since the first check.
func TestLoginAfterCommit(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		came := false
		r.host.read = func() {
			if came {
				return
			}
			came = true
			r.host.change(func() {
				r.host.now.Logind.Sessions = append(r.host.now.Logind.Sessions,
					observer.Session{ID: "7", UID: 1001, User: "bob", Class: "user", Type: "wayland", Seat: "seat0"})
			})
		}
		record := r.request(policy.Compute)
		require.True(t, came)
		require.Equal(t, status.Blocked, record.Result, record.Cause)
		assert.True(
			t, strings.HasPrefix(record.Cause, "check_graphical_session_terminable: session 7 belongs to bob"), record.Cause,
		)
		assert.Empty(t, r.applied())
	})
}

// instances is a policy whose compute runs in an instance of a template.
func instances(p *policy.Policy) {
	p.VLLM.Profiles["fast"] = policy.Profile{Unit: "vllm@fast.service"}
	p.Modes.Compute.VLLMProfile = "fast"
}

// TestOtherInstanceStopped: one that no policy names.
func TestOtherInstanceStopped(t *testing.T) {
	underContract(t, instances, func(t *testing.T, r *harness) {
		require.Equal(t, status.Success, r.request(policy.Compute).Result)
		require.True(t, r.host.now.Systemd.Units["vllm@fast.service"].Active())
		assert.Equal(t, "fast", r.View().Observation.Facts[observer.AIProfile].Word)
		r.host.change(func() {
			r.host.now.Systemd.Units["vllm@stray.service"] = observer.Unit{
				ID: "vllm@stray.service", LoadState: "loaded", ActiveState: "active",
			}
			r.host.applied = nil
		})
		v := r.settle()
		require.Equal(t, observer.State("degraded-compute"), v.Observation.State)
		assert.Equal(t, "vllm-other-profile", v.Observation.Reasons[0].Code)
		assert.Equal(t, "fast+stray", v.Observation.Facts[observer.AIProfile].Word)
		require.Equal(t, status.Success, r.request(policy.Compute).Result)
		assert.Equal(t, []string{"apply stop-vllm@stray"}, r.applied())
	})
}
