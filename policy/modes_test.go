package policy

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestAProfileIsAnInstanceOfTheTemplate(t *testing.T) {
	p := Default()
	p.VLLM.Template, p.VLLM.Profiles = "vllm@.service", map[string]string{"slow": "vllm-slow.service"}
	for profile, unit := range map[string]string{
		"fast": "vllm@fast.service", "slow": "vllm-slow.service", ProfileDefault: "vllm.service", ProfileOff: "",
	} {
		p.Modes.Compute.VLLMProfile = profile
		assert.Equal(t, unit, p.VLLMUnit(Compute), profile)
		if unit != "" {
			assert.Contains(t, p.VLLMUnits(), unit)
			assert.NotContains(t, p.OtherVLLMUnits(Compute), unit)
		}
	}
	assert.Equal(t, "vllm@*.service", p.VLLMInstances())
	for unit, want := range map[string]string{
		"vllm@fast.service": "fast", "vllm@.service": "", "vllm.service": "", "vllm@fast.timer": "", "xvllm@fast.service": "",
	} {
		profile, ok := p.InstanceOfVLLM(unit)
		assert.Equal(t, want != "", ok, unit)
		if ok {
			assert.Equal(t, want, profile)
		}
	}
	_, ok := Default().InstanceOfVLLM("vllm@fast.service")
	assert.False(t, ok, "there is no template")
	assert.Empty(t, Default().VLLMInstances())
}
