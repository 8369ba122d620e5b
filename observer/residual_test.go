package observer

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/dubnium/dubnium/policy"
)

// TestResidualOnDisplay: only display GPUs are measured, and only if their release is proved.
func TestResidualOnDisplay(t *testing.T) {
	left := []GPUMemory{{displayPCI, 80 << 20}}
	cases := map[string]struct {
		change func(*policy.Policy, *Snapshot)
		want   []GPUMemory
	}{
		"nobody holds it": {func(*policy.Policy, *Snapshot) {}, left},
		"a permitted holder": {func(_ *policy.Policy, s *Snapshot) {
			s.Processes.Holders = []Holder{{GPU: displayPCI, PID: 3, Unit: "nvidia-persistenced.service"}}
		}, left},
		"somebody holds it": {func(_ *policy.Policy, s *Snapshot) {
			s.Processes.Holders = []Holder{{GPU: displayPCI, PID: 3, Command: "sway", Unit: "session-2.scope"}}
		}, nil},
		"who holds it is not known": {func(_ *policy.Policy, s *Snapshot) { s.Processes.Reason = "refused" }, nil},
		"a graphics context":        {func(_ *policy.Policy, s *Snapshot) { context(&s.GPU.Cards[0].Graphics) }, nil},
		"a compute context":         {func(_ *policy.Policy, s *Snapshot) { context(&s.GPU.Cards[0].Compute) }, nil},
		"contexts that are not known": {func(_ *policy.Policy, s *Snapshot) {
			s.GPU.Cards[0].Compute.Reason = "no permission"
		}, nil},
		"memory that is not known": {func(_ *policy.Policy, s *Snapshot) {
			s.GPU.Cards[0].MemoryUsed = Measure{Reason: "not supported"}
		}, nil},
		"NVML fails":                {func(_ *policy.Policy, s *Snapshot) { s.GPU.Reason = "version mismatch" }, nil},
		"the policy names no GPU":   {func(p *policy.Policy, _ *Snapshot) { p.GPU.Display = nil }, nil},
		"on the way out of compute": {func(p *policy.Policy, s *Snapshot) { active(p.Units.ComputeTarget, s) }, nil},
		"two display GPUs, one silent": {func(p *policy.Policy, _ *Snapshot) {
			p.GPU.Display = append(p.GPU.Display, aiPCI)
		}, left},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			p, s := described(), withNVIDIA(Snapshot{
				Systemd:   Systemd{Reading: Reading{At: readAt}, Units: map[string]Unit{}},
				Processes: ProcessScan{Reading: Reading{At: readAt}},
			})
			s.GPU.Cards[0].MemoryUsed = measured(80 << 20)
			c.change(&p, &s)
			assert.Equal(t, c.want, ResidualOnDisplay(p, s))
		})
	}
}

func context(of *CardProcesses) { of.Processes = []CardProcess{{PID: 9, Command: "game"}} }

func active(unit string, s *Snapshot) { s.Systemd.Units[unit] = Unit{ID: unit, ActiveState: "active"} }
