package daemon

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/dubnium/dubnium/daemon/monitor"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// underContract runs f with a controller over a desktop whose policy is changed.
func underContract(t *testing.T, change func(*policy.Policy), f func(*testing.T, *harness)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		p := testPolicy(dir)
		change(&p)
		host := newFakeHost(p)
		r := startHarnessWith(t, host, p, thisBoot)
		defer r.stop()
		r.dir = dir
		r.settle()
		f(t, r)
	})
}

func TestForbiddenUnitStopped(t *testing.T) {
	underContract(t, func(p *policy.Policy) {
		p.Modes.Desktop.Required, p.Modes.Desktop.Forbidden = []string{"cups.service"}, []string{"batch.timer"}
		p.Modes.Desktop.StopForbidden = true
	}, func(t *testing.T, r *harness) {
		require.Equal(t, observer.State("degraded-desktop"), r.View().Observation.State)
		assert.Equal(t, status.Success, r.request(policy.Desktop).Result)
		assert.Equal(t, []string{"apply start-cups.service"}, r.applied())

		r.host.change(func() { r.host.start("batch.timer"); r.host.applied = nil })
		v := r.settle()
		require.Equal(t, observer.State("degraded-desktop"), v.Observation.State, "a signal is enough")
		assert.Equal(t, "forbidden-unit-active", v.Observation.Reasons[0].Code)
		assert.Equal(t, status.Success, r.request(policy.Desktop).Result)
		assert.Equal(t, []string{"apply stop-batch.timer"}, r.applied())
		assert.Contains(t, word(t, r, "current.json"), `"unit:batch.timer": false`)
	})
}

func TestForbiddenUnitKept(t *testing.T) {
	forbid := func(p *policy.Policy) { p.Modes.StudioLocal.Forbidden = []string{"batch.timer"} }
	underContract(t, forbid, func(t *testing.T, r *harness) {
		r.host.change(func() { r.host.start("batch.timer") })
		record := r.request(policy.StudioLocal)
		assert.Equal(t, status.Degraded, record.Result)
		assert.Equal(t, observer.State("degraded-studio-local"), record.Final)
		assert.Contains(t, record.Cause, "batch.timer runs, which studio-local forbids")
		assert.NotContains(t, r.applied(), "apply stop-batch.timer")
	})
}

// TestWayBackUnitHangs: one that cannot be started leaves a degraded
// desktop, and nobody in compute.
func TestWayBackUnitHangs(t *testing.T) {
	for _, when := range []string{"prepare", "apply", "verify"} {
		t.Run(when, func(t *testing.T) {
			needs := func(p *policy.Policy) { p.Modes.Desktop.Required = []string{"cups.service", "late.service"} }
			underContract(t, needs, func(t *testing.T, r *harness) {
				require.Equal(t, status.Success, r.request(policy.Compute).Result)
				r.host.fault = func(_ context.Context, _, what string) error {
					if what == when+" start-cups.service" {
						r.host.change(func() { r.host.stop("cups.service") })
						return errBroken
					}
					return nil
				}
				record := r.request(policy.Desktop)
				require.Equal(t, status.Degraded, record.Result, record.Cause)
				assert.Equal(t, observer.State("degraded-desktop"), record.Final)
				i := slices.IndexFunc(record.Steps, func(s status.Step) bool { return s.ID == "start-cups.service" })
				assert.Equal(t, status.StepFailed, record.Steps[i].Status)
				assert.Contains(t, record.Steps[i].Error, errBroken.Error())
				assert.Equal(t, status.StepDone, record.Steps[i+1].Status, "the rest is done")
				r.host.fault = nil
				assert.Equal(t, status.Success, r.request(policy.Desktop).Result)
			})
		})
	}
}

// TestComputeUnitFails: people were logged out for it.
func TestComputeUnitFails(t *testing.T) {
	underContract(t, func(p *policy.Policy) {
		p.Modes.Compute.Required, p.Modes.Compute.Forbidden = []string{"batch.service"}, []string{"cups.service"}
		p.Modes.Compute.StopForbidden = true
	}, func(t *testing.T, r *harness) {
		r.host.change(func() { r.host.start("cups.service") })
		r.host.fault = func(_ context.Context, _, what string) error {
			if what == "apply start-batch.service" {
				return errBroken
			}
			return nil
		}
		record := r.request(policy.Compute)
		assert.Equal(t, status.RolledBack, record.Result, record.Cause)
		assert.Equal(t, observer.State("desktop"), record.Final)
	})
}

func fast(p *policy.Policy) {
	p.VLLM.Profiles = map[string]policy.Profile{"default": {Unit: "vllm.service"}, "fast": {Unit: "vllm-fast.service"}}
	p.Modes.Compute.VLLMProfile = "fast"
}

// TestComputeProfile: although its target brings another along.
func TestComputeProfile(t *testing.T) {
	underContract(t, fast, func(t *testing.T, r *harness) {
		record := r.request(policy.Compute)
		require.Equal(t, status.Success, record.Result, record.Cause)
		assert.False(t, r.host.now.Systemd.Units["vllm.service"].Active())
		assert.True(t, r.host.now.Systemd.Units["vllm-fast.service"].Active())
		assert.Equal(t, "fast", r.View().Observation.Facts[observer.AIProfile].Word)

		r.host.change(func() { r.host.stop("vllm-fast.service"); r.host.start("vllm.service"); r.host.applied = nil })
		v := r.settle()
		require.Equal(t, observer.State("degraded-compute"), v.Observation.State)
		assert.Equal(t, "vllm-other-profile", v.Observation.Reasons[0].Code)
		require.Equal(t, status.Success, r.request(policy.Compute).Result)
		assert.Equal(t, []string{"apply stop-vllm", "apply start-vllm-fast"}, r.applied())
		require.Equal(t, status.Success, r.request(policy.Desktop).Result)
		assert.False(t, r.host.now.Systemd.Units["vllm-fast.service"].Active())
	})
}

// TestDesktopProfile: each mode has its own, one at a time.
func TestDesktopProfile(t *testing.T) {
	underContract(t, func(p *policy.Policy) {
		fast(p)
		p.Modes.Desktop.VLLMProfile, p.Modes.Compute.VLLMProfile = "fast", policy.ProfileDefault
	}, func(t *testing.T, r *harness) {
		serves := func(unit string) {
			t.Helper()
			for _, u := range r.View().Policy.VLLMUnits() {
				assert.Equal(t, u == unit, r.host.now.Systemd.Units[u].Active(), u)
			}
		}
		for range 2 {
			require.Equal(t, status.Success, r.request(policy.Desktop).Result)
			serves("vllm-fast.service")
			require.Equal(t, status.Success, r.request(policy.StudioLocal).Result)
			serves("")
			require.Equal(t, status.Success, r.request(policy.Desktop).Result)
			require.Equal(t, status.Success, r.request(policy.Compute).Result)
			serves("vllm.service")
		}
	})
}

// TestProfileChangeDrains: it is drained before it is stopped.
func TestProfileChangeDrains(t *testing.T) {
	underContract(t, fast, func(t *testing.T, r *harness) {
		require.Equal(t, status.Success, r.request(policy.Compute).Result)
		r.host.change(func() {
			r.host.stop("vllm-fast.service")
			r.host.start("vllm.service")
			*r.host.now.Inference.Running = 1
			r.host.applied = nil
		})
		record := r.request(policy.Compute)
		assert.Equal(t, status.TimedOut, record.Result, record.Cause)
		assert.Contains(t, record.Cause, "vLLM has 1 requests in flight")
		assert.Empty(t, r.applied())
	})
}

// TestExternalStudio: a reload that puts the studio on another
// machine while it is on degrades it, and only the way to desktop is open.
func TestExternalStudio(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		require.Equal(t, status.Success, r.request(policy.StudioLocal).Result)
		_, err := r.Reload(t.Context(), changed(r, func(p *policy.Policy) { p.Placement.Studio = policy.Remote }))
		require.NoError(t, err)
		v := r.View()
		require.Equal(t, observer.State("degraded-studio-local"), v.Observation.State)
		assert.Equal(t, "studio-externalized", v.Observation.Reasons[0].Code)
		assert.False(t, v.Converged())
		r.host.applied = nil
		for mode, guard := range map[policy.Mode]policy.GuardID{
			policy.StudioLocal: policy.CheckStudioCapabilityLocal, policy.Compute: policy.CheckComputeCapabilityLocal,
		} {
			record := r.request(mode)
			require.Equal(t, status.Blocked, record.Result)
			require.Len(t, r.View().BlockedBy, 1)
			assert.Equal(t, guard, r.View().BlockedBy[0].Guard)
			assert.Equal(t, policy.Code(19), r.View().BlockedBy[0].Code)
		}
		assert.Empty(t, r.applied())
		assert.Equal(t, status.Success, r.request(policy.Desktop).Result)
		assert.Equal(t, status.Success, r.request(policy.Compute).Result, "from a desktop it is open again")
	})
}

func topologyOnDisk(t *testing.T, r *harness) (topology observer.Topology) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(word(t, r, "hardware-topology.json")), &topology))
	return topology
}

func TestPlacementPublished(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		assert.JSONEq(t, `{"studio":"local","ai":"local"}`, word(t, r, "capability-placement.json"))
		assert.Equal(t, r.View().Topology, topologyOnDisk(t, r))
		assert.Equal(t, []string{displayGPU}, r.View().Topology.Present)

		_, err := r.Reload(t.Context(), changed(r, func(p *policy.Policy) {
			p.Placement.Studio, p.GPU.Planned = policy.Remote, []string{"0000:41:00.0"}
		}))
		require.NoError(t, err)
		assert.JSONEq(t, `{"studio":"remote","ai":"local"}`, word(t, r, "capability-placement.json"))
		assert.Equal(t, []string{"0000:41:00.0"}, topologyOnDisk(t, r).Missing)
		assert.Equal(t, observer.State("desktop"), r.View().Observation.State, "what is only planned breaks nothing")

		r.host.change(func() {
			r.host.now.Processes.GPUs = append(slices.Clone(r.host.now.Processes.GPUs), observer.GPU{PCI: "0000:41:00.0"})
		})
		r.settle()
		assert.Equal(t, []string{displayGPU, "0000:41:00.0"}, topologyOnDisk(t, r).Present)
		assert.Empty(t, topologyOnDisk(t, r).Missing)

		r.host.change(func() { r.host.now.Processes.Reason = "no probe" })
		r.settle()
		assert.False(t, topologyOnDisk(t, r).Known)
		assert.Equal(t, "no probe", topologyOnDisk(t, r).Reason)
		assert.Equal(t, r.View().Topology, topologyOnDisk(t, r))
	})
}

// TestFilesWrittenOnChange: a read that finds the same writes nothing, and
// one that could not be written is written with the next.
func TestFilesWrittenOnChange(t *testing.T) {
	onDesktop(t, func(t *testing.T, r *harness) {
		path := filepath.Join(r.dir, "run", "hardware-topology.json")
		before, err := os.Stat(path)
		require.NoError(t, err)
		r.settle()
		after, err := os.Stat(path)
		require.NoError(t, err)
		assert.True(t, os.SameFile(before, after), "it was not replaced")

		require.NoError(t, os.Remove(path))
		require.NoError(t, os.MkdirAll(filepath.Join(path, "in the way"), 0o755))
		r.host.change(func() { r.host.now.Processes.GPUs = nil })
		assert.Empty(t, r.settle().Topology.Present, "the view is right all the same")
		require.NoError(t, os.RemoveAll(path))
		r.settle()
		assert.Empty(t, topologyOnDisk(t, r).Present)
	})
}

// TestTopologyBeforeFirstRead: least of all that there are none.
func TestTopologyBeforeFirstRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		p := testPolicy(dir)
		for _, d := range []string{p.Paths.Runtime, p.Paths.State} {
			require.NoError(t, os.MkdirAll(d, 0o755))
		}
		log := zap.New(zaptest.NewLogger(t, zaptest.Level(zapQuiet)).Core())
		controller, err := New(
			Config{Policy: policy.Document{Policy: p}, Monitor: monitor.New(time.Second, log), BootID: thisBoot, Log: log},
		)
		require.NoError(t, err)
		r := &harness{Controller: controller, t: t, dir: dir}
		assert.False(t, topologyOnDisk(t, r).Known)
		assert.Equal(t, "not read yet", topologyOnDisk(t, r).Reason)
	})
}
