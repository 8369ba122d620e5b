package observer

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/dubnium/dubnium/policy"
)

const (
	cardOne = "0000:01:00.0"
	cardTwo = "0000:41:00.0"
)

func nvidiaHost(holders ...Holder) Snapshot {
	at := Reading{At: time.Unix(1, 0)}
	return Snapshot{
		Processes: ProcessScan{
			Reading: at, Holders: holders, GPUs: []GPU{{PCI: cardOne, Driver: nvidia}, {PCI: cardTwo, Driver: nvidia}},
		},
		GPU: NVML{Reading: at, Driver: true},
	}
}

func TestWorkers(t *testing.T) {
	s := nvidiaHost(
		Holder{
			PID: 1, Command: "a", Unit: "vllm.service", GPU: cardOne,
		}, Holder{PID: 1, Command: "a", Unit: "vllm.service", GPU: cardTwo},
		Holder{
			PID: 2, Command: "b", Unit: "user@1000.service/vllm.service", GPU: cardOne,
		}, Holder{PID: 3, Command: "c", Unit: "cron.service", GPU: cardOne},
		Holder{PID: 4, Command: "other", Unit: "cron.service", GPU: cardOne},
	)
	s.GPU.Cards = []Card{{
		PCI: cardOne, Compute: CardProcesses{
			Processes: []CardProcess{{PID: 1, Command: "a", Unit: "vllm.service"}, {PID: 5, Command: "d", Unit: "vllm.service"}},
		},
	}}
	pids := func(units []string, before []Worker) (found []int) {
		for _, w := range Workers(s, units, before) {
			found = append(found, w.PID)
		}
		return found
	}
	assert.Equal(
		t, []int{1, 1, 5}, pids([]string{"vllm.service"}, nil), "once for each card, and not a person's unit of that name",
	)
	assert.Equal(
		t, []int{3}, pids(nil, []Worker{{PID: 3, Command: "c"}, {PID: 4, Command: "gone"}}),
		"a pid that is another's by now is not it",
	)
	assert.Equal(
		t, "a (pid 1, vllm.service) has "+cardOne+" and 2 more", GPUsFree(s, []string{"vllm.service"}, nil).Reason,
	)
}

// TestGPUsFree: no GPU is free while a worker of vLLM holds one, or may hold one because not all
// processes could be read.
func TestGPUsFree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := nvidiaHost()
		if rapid.Bool().Draw(t, "blind") {
			s.Processes.Reason = "the probe hangs"
		}
		if rapid.Bool().Draw(t, "never read") {
			s.Processes.At = time.Time{}
		}
		for i := range rapid.IntRange(0, 3).Draw(t, "holders") {
			s.Processes.Holders = append(s.Processes.Holders, Holder{
				PID: i + 10, GPU: rapid.SampledFrom([]string{cardOne, cardTwo}).Draw(t, "card"),
				Unit: rapid.SampledFrom([]string{"vllm.service", "cron.service"}).Draw(t, "unit"),
			})
		}
		s.Processes.Unseen = rapid.SampledFrom([][]Unseen{
			nil,
			{{Process: Process{PID: 20, Unit: "cron.service"}, Truncated: 3}},
			{{Process: Process{PID: 21, Unit: "vllm.service"}}},
			{{Process: Process{PID: 22, Command: "moved", Unit: "cron.service"}}},
		}).Draw(t, "unseen")
		s.Processes.MoreUnseen = rapid.IntRange(0, 1).Draw(t, "unseen and not listed")
		fact := GPUsFree(s, []string{"vllm.service"}, []Worker{{PID: 22, Command: "moved"}})
		held := s.Processes.MoreUnseen > 0
		for _, u := range s.Processes.Unseen {
			held = held || u.PID != 20
		}
		for _, h := range s.Processes.Holders {
			held = held || h.Unit == "vllm.service"
		}
		require.Equal(t, s.Processes.Known() && !held, fact.Truth == True)
		require.NotEmpty(t, fact.Reason)
	})
}

func TestResidualMemory(t *testing.T) {
	p := policy.Default()
	p.GPU.ResidualMiB, p.GPU.AI = 160, []string{cardOne}
	used := func(mib float64) Measure { bytes := mib * (1 << 20); return Measure{Value: &bytes} }
	for name, c := range map[string]struct {
		change        func(*Snapshot, *policy.Policy)
		memory, doubt string
	}{
		"in use without a holder": {
			func(*Snapshot, *policy.Policy) {},
			"no process holds " + cardOne + ", but 900 MiB of its memory are in use, more than 160", "",
		},
		"as little as the policy lets be": {
			func(s *Snapshot, _ *policy.Policy) { s.GPU.Cards[0].MemoryUsed = used(160) }, "", "",
		},
		"not judged": {func(_ *Snapshot, p *policy.Policy) { p.GPU.ResidualMiB = 0 }, "", ""},
		"of another's process": {func(s *Snapshot, _ *policy.Policy) {
			s.Processes.Holders = []Holder{{GPU: cardOne, Unit: "k3s.service"}}
		}, "", ""},
		"of another's context": {func(s *Snapshot, _ *policy.Policy) {
			s.GPU.Cards[0].Compute.Processes = []CardProcess{{PID: 3}}
		}, "", ""},
		"held by a permitted unit": {func(s *Snapshot, _ *policy.Policy) {
			s.Processes.Holders = []Holder{{GPU: cardOne, Unit: "nvidia-persistenced.service"}}
		}, "no process holds", ""},
		"of a card with another driver": {
			func(s *Snapshot, _ *policy.Policy) { s.Processes.GPUs[0].Driver = "amdgpu" }, "", "",
		},
		"not reported": {
			func(s *Snapshot, _ *policy.Policy) { s.GPU.Cards[0].MemoryUsed = Measure{Reason: "no such thing"} }, "",
			"NVML does not confirm that " + cardOne + " is free: no such thing",
		},
		"of a driver that fails where nothing rests on it": {
			func(s *Snapshot, p *policy.Policy) { s.GPU.Reason, p.GPU.AI = "version mismatch", nil }, "", "",
		},
		"of a card that is lost": {
			func(s *Snapshot, _ *policy.Policy) { s.GPU.Cards[0].Reason = "GPU is lost" }, "", "GPU is lost",
		},
		"of a driver that fails": {
			func(s *Snapshot, _ *policy.Policy) { s.GPU.Reason = "version mismatch" }, "", "version mismatch",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, p := nvidiaHost(), p
			s.GPU.Cards = []Card{{PCI: cardOne, MemoryUsed: used(900)}}
			c.change(&s, &p)
			memory, doubt := ResidualMemory(p, s, []string{cardOne})
			for _, told := range [][2]string{{memory, c.memory}, {doubt, c.doubt}} {
				assert.True(
					t, strings.Contains(told[0], told[1]) && (told[0] == "") == (told[1] == ""), "%q is not %q", told[0], told[1],
				)
			}
		})
	}
}
