package host_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/stepreport"
	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/plans"
	"github.com/dubnium/dubnium/policy"
)

const (
	vllm = "vllm.service"
	card = "0000:01:00.0"
)

func stopVLLM() plans.Step { return plans.Step{Kind: plans.StopVLLM, Unit: vllm} }

// serving is a host on which vLLM runs.
func serving(t *testing.T, units ...testhost.Unit) *handlers {
	t.Helper()
	h := newHandlers(t, testhost.Options{Units: units})
	require.NoError(t, h.apply(plans.Step{Kind: plans.StartUnit, Unit: vllm}))
	return h
}

// doing does the whole of a step, and returns what it had to tell.
func (h *handlers) doing(s plans.Step) (notes []string, err error) {
	h.t.Helper()
	h.prepare(s)
	var recorded noteRecorder
	ctx := stepreport.With(bounded(h.t), &recorded)
	if err = h.byKind[s.Kind].Apply(ctx, s); err == nil {
		err = h.byKind[s.Kind].Verify(ctx, s)
	}
	return recorded.notes, err
}

// worker is the process of that command.
func (h *handlers) worker(command string) testhost.Process {
	h.t.Helper()
	for _, p := range h.host.Processes() {
		if p.Comm == command {
			return p
		}
	}
	require.Fail(h.t, "no such process", command)
	return testhost.Process{}
}

func (h *handlers) runs(pid int) bool {
	for _, p := range h.host.Processes() {
		if p.PID == pid {
			return true
		}
	}
	return false
}

// moves puts a process into another control group, as one that forks away does.
func (h *handlers) moves(p testhost.Process, cgroup string) {
	h.host.RemoveProcess(p.PID)
	p.Cgroup = cgroup
	h.host.AddProcess(p)
}

func TestVLLMStops(t *testing.T) {
	h := serving(t)
	before := h.prepare(stopVLLM())
	require.Contains(t, string(before), `"up":true`)
	require.Contains(t, string(before), `"unit":"vllm.service"`, "who had the GPU is in the journal")
	notes, err := h.doing(stopVLLM())
	require.NoError(t, err)
	require.Empty(t, notes)
	require.Equal(t, "inactive", h.state(vllm))
	require.NoError(t, h.undo(stopVLLM(), before))
	require.Equal(t, "active", h.state(vllm))
}

func TestWorkerKilled(t *testing.T) {
	h := serving(t)
	require.NoError(t, h.host.SetFault(vllm, testhost.Fault{LeavesWorker: true}))
	worker := h.worker("vllm")
	notes, err := h.doing(stopVLLM())
	require.NoError(t, err)
	require.False(t, h.runs(worker.PID))
	require.Len(t, notes, 1)
	require.Regexp(t, `^vllm \(pid \d+, vllm\.service\) outlived vllm\.service with `+card+
		`, and vllm\.service was killed$`, notes[0])
}

// A GPU is not free while a process that cannot or must not be killed has it open.
func TestWorkerStays(t *testing.T) {
	for name, c := range map[string]struct {
		fault  testhost.Fault
		cgroup string
		want   string
	}{
		"one in D state":           {testhost.Fault{Unkillable: true}, "", `vllm.service) has ` + card},
		"one in a foreign service": {testhost.Fault{}, "/system.slice/cron.service", `cron.service) has ` + card},
		"one of a person's": {
			testhost.Fault{},
			"/user.slice/user-1000.slice/user@1000.service/app.slice/x.service",
			`user@1000.service/x.service) has ` + card,
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := serving(t)
			require.NoError(t, h.host.SetFault(vllm, c.fault))
			worker := h.worker("vllm")
			h.prepare(stopVLLM())
			if c.cgroup != "" {
				h.moves(worker, c.cgroup)
			}
			ctx := newExpiring(t)
			done := h.applying(ctx, stopVLLM())
			require.NoError(t, h.host.WaitUnit(bounded(t), vllm, "inactive"))
			require.ErrorContains(t, h.verify(stopVLLM()), "the GPUs of vllm.service are not free: vllm (pid ")
			ctx.expire()
			err := receive(t, done)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.ErrorContains(t, err, "vllm.service has stopped, but vllm (pid ")
			require.ErrorContains(t, err, c.want)
			require.True(t, h.runs(worker.PID))
		})
	}
}

func TestWorkerUnitKilled(t *testing.T) {
	ray := testhost.Unit{Name: "ray.service", Program: &testhost.Program{Comm: "raylet", Opens: []string{"renderD128"}}}
	h := serving(t, ray)
	require.NoError(t, h.apply(plans.Step{Kind: plans.StartUnit, Unit: "ray.service"}))
	raylet := h.worker("raylet")
	notes, err := h.doing(stopVLLM())
	require.NoError(t, err, "it is none of vLLM's, and has not left it either")
	require.Empty(t, notes)
	require.True(t, h.runs(raylet.PID))

	step := stopVLLM()
	step.Units, step.Grace = []string{"ray.service"}, 50*time.Millisecond
	begun := time.Now()
	notes, err = h.doing(step)
	require.NoError(t, err)
	require.GreaterOrEqual(t, time.Since(begun), step.Grace)
	require.Len(t, notes, 1)
	require.Contains(t, notes[0], "and ray.service was killed")
	require.False(t, h.runs(raylet.PID))
}

func TestUnknownIsNotFree(t *testing.T) {
	h := serving(t)
	h.prepare(stopVLLM())
	h.nvml.set("", observer.NVML{}, errors.New("the probe hangs"))
	ctx := newExpiring(t)
	done := h.applying(ctx, stopVLLM())
	require.NoError(t, h.host.WaitUnit(bounded(t), vllm, "inactive"))
	require.ErrorContains(t, h.verify(stopVLLM()), "are unknown: the probe hangs")
	ctx.expire()
	err := receive(t, done)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "it is unknown whether its GPUs are free")
}

// A context without an open node, which only NVML knows of, is a worker too.
func TestNVMLHolder(t *testing.T) {
	h := serving(t)
	pid := h.worker("vllm").PID
	says := observer.NVML{Driver: true, Cards: []observer.Card{{
		PCI: card, Compute: observer.CardProcesses{
			Processes: []observer.CardProcess{{PID: pid, Command: "vllm", Unit: vllm}},
		},
	}}}
	h.nvml.set("nvidia", says, nil)
	h.prepare(stopVLLM())
	ctx := newExpiring(t)
	done := h.applying(ctx, stopVLLM())
	require.NoError(t, h.host.WaitUnit(bounded(t), vllm, "inactive"))
	require.ErrorContains(t, h.verify(stopVLLM()), "vllm.service) has "+card)
	ctx.expire()
	require.ErrorContains(t, receive(t, done), "vllm.service has stopped, but vllm (pid ")
}

// The next vLLM needs the memory, and a desktop does not.
func TestMemoryLeft(t *testing.T) {
	h := serving(t)
	p := policy.Default()
	p.GPU.AI = []string{card}
	p.GPU.ResidualMiB, p.Timeouts.GPURelease = 160, policy.Duration(100*time.Millisecond)
	h.setPolicy(p)
	used := float64(900 << 20)
	h.nvml.set(
		"nvidia",
		observer.NVML{Driver: true, Cards: []observer.Card{{PCI: card, MemoryUsed: observer.Measure{Value: &used}}}},
		nil,
	)
	const residual = "no process holds " + card + ", but 900 MiB of its memory are in use, more than 160"

	require.NoError(t, h.host.SetActive("greetd.service", "inactive"))
	alice, _ := h.host.SessionOf("user")
	require.NoError(t, h.host.Logout(alice.ID))
	strict := stopVLLM()
	strict.NeedsMemory = true
	_, err := h.doing(strict)
	require.ErrorContains(t, err, residual)

	require.NoError(t, h.apply(plans.Step{Kind: plans.StartUnit, Unit: vllm}))
	notes, err := h.doing(stopVLLM())
	require.NoError(t, err)
	require.Equal(t, []string{residual}, notes)

	require.NoError(t, h.apply(plans.Step{Kind: plans.StartUnit, Unit: vllm}))
	h.nvml.set("nvidia", observer.NVML{Reading: observer.Reading{Reason: "Driver/library version mismatch"}}, nil)
	notes, err = h.doing(strict)
	require.NoError(t, err, "the open files are proof")
	require.Equal(t, []string{"NVML does not confirm that " + card + " is free: Driver/library version mismatch"},
		notes)
}
