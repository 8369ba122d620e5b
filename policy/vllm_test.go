package policy

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTheDefaultProfileExistsBesideOthers(t *testing.T) {
	p, err := Parse("p.toml", []byte(`[vllm.profiles.fast]
unit = "vllm-fast.service"
worker_units = ["ray.service"]`))
	require.NoError(t, err)
	assert.Equal(t, map[string]Profile{
		"default": {Unit: "vllm.service"}, "fast": {Unit: "vllm-fast.service", WorkerUnits: []string{"ray.service"}},
	}, p.VLLM.Profiles)
	assert.Equal(t, []string{"default", "fast"}, p.VLLM.ProfileNames())
	assert.Equal(t, "vllm.service", p.VLLMUnit(Compute))

	p, err = Parse("p.toml", []byte(`[vllm.profiles]
default = { unit = "llm.service" }
a = { unit = "a.service" }`))
	require.NoError(t, err)
	assert.Equal(t, []string{"llm.service", "a.service"}, p.VLLMUnits(), "the default one is first")
	assert.Equal(t, map[string]Profile{"default": {Unit: "vllm.service"}}, Default().VLLM.Profiles,
		"policies do not share a table")
}

func TestProfilesAsInstancesOfATemplate(t *testing.T) {
	p := Default()
	p.VLLM.Profiles = map[string]Profile{
		"default": {Unit: "vllm.service"}, "slow": {Unit: "vllm-slow.service"}, "fast": {Unit: "vllm@big.fast.service"},
	}
	for profile, unit := range map[string]string{
		"fast": "vllm@big.fast.service", "slow": "vllm-slow.service", ProfileDefault: "vllm.service", ProfileOff: "",
	} {
		p.Modes.Compute.VLLMProfile = profile
		assert.Equal(t, unit, p.VLLMUnit(Compute), profile)
		if unit != "" {
			assert.Contains(t, p.VLLMUnits(), unit)
			assert.NotContains(t, p.OtherVLLMUnits(Compute), unit)
			assert.Equal(t, profile, p.ProfileOf(unit))
		}
	}
	assert.Equal(t, "stray", p.ProfileOf("vllm@stray.service"), "an instance that no profile names")
	assert.Equal(t, "vllm@*.service", p.VLLMInstances())
	for unit, want := range map[string]string{
		"vllm@fast.service": "fast", "vllm@big.fast.service": "big.fast", "vllm@a@b.service": "a@b",
		"vllm@.service": "", "vllm.service": "", "vllm@fast.timer": "", "xvllm@fast.service": "", "vllm@": "",
	} {
		instance, ok := p.InstanceOfVLLM(unit)
		assert.Equal(t, want != "", ok, unit)
		if ok {
			assert.Equal(t, want, instance)
		}
	}
	_, ok := Default().InstanceOfVLLM("vllm@fast.service")
	assert.False(t, ok, "no profile is an instance")
	_, ok = Default().InstanceOfVLLM("vllm.service")
	assert.False(t, ok)
	assert.Empty(t, Default().VLLMInstances())
}

func TestWorkersOfTheProfileThatKeepsRunningAreSpared(t *testing.T) {
	p := Default()
	p.VLLM.Profiles = map[string]Profile{
		"default": {Unit: "vllm.service", WorkerUnits: []string{"ray.service", "dask.service"}},
		"fast":    {Unit: "vllm-fast.service", WorkerUnits: []string{"ray.service"}},
	}
	assert.Equal(t, []string{"dask.service", "ray.service"}, p.VLLMWorkerUnits(""))
	assert.Equal(t, []string{"dask.service"}, p.VLLMWorkerUnits("vllm-fast.service"))
	assert.Empty(t, p.VLLMWorkerUnits("vllm.service"))
}
