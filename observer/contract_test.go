package observer

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/dubnium/dubnium/policy"
)

func TestContractOf(t *testing.T) {
	p := policy.Default()
	c := ContractOf(p, policy.Compute)
	assert.Equal(t, "compute.target", c.Target)
	assert.Equal(t, []string{"vllm.service"}, c.Expected)
	assert.Equal(t, []string{"desktop.target", "studio-local-policy.service", "display-manager.service"}, c.Forbidden)
	assert.Contains(t, c.Requirements, Requirement{VLLMHealthy, True})
	assert.Contains(t, c.Gates, policy.CheckGPUDisplayReleased)

	p.VLLM.Enabled, p.GPU.AI, p.Placement.AI = false, []string{"0000:41:00.0"}, policy.Remote
	c = ContractOf(p, policy.Compute)
	assert.Empty(t, c.Expected)
	assert.Contains(t, c.Requirements, Requirement{AIPresent, True})
	assert.Equal(t, policy.Remote, c.Place)
	assert.Equal(t, p.GPU.AI, c.AIGPUs)

	c = ContractOf(p, policy.StudioLocal)
	assert.Equal(t, "desktop.target", c.Target)
	assert.Equal(t, []string{"studio-local-policy.service", "audio-priority.service"}, c.Expected)
	assert.Equal(t, []string{"compute.target", "vllm.service"}, c.Forbidden)
	assert.Contains(t, ContractOf(p, policy.Desktop).Requirements, Requirement{AudioStack, True})
	p.Audio.Required = false
	assert.NotContains(t, ContractOf(p, policy.Desktop).Requirements, Requirement{AudioStack, True})
}

// TestContractObserved: if all requirements of the contract hold, the mode is observed.
func TestContractObserved(t *testing.T) {
	for _, p := range []policy.Policy{policy.Default(), contracted()} {
		requireObserved(t, p)
	}
}

func requireObserved(t *testing.T, p policy.Policy) {
	t.Helper()
	for _, mode := range policy.Modes() {
		facts := Facts{}
		for _, s := range Signals() {
			facts[s] = Fact{Truth: False, At: readAt}
		}
		facts[ManagerStarted] = Fact{Truth: True, At: readAt}
		for _, promise := range ContractOf(p, mode).Requirements {
			facts[promise.Signal] = Fact{Truth: promise.Want, At: readAt}
		}
		if mode != policy.Compute {
			facts[GraphicalSession] = Fact{Truth: True, At: readAt}
		}
		assert.Equal(t, Of(mode), decide(p, facts, Context{}, readAt).State)
	}
}
