package policy

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// VLLM is the section [vllm]: whether modes have inference, how vLLM is run, and how
// to tell that it serves.
type VLLM struct {
	// Enabled lets modes have inference. If false, no mode has it, whatever its
	// vllm_profile.
	Enabled bool `toml:"enabled"`
	// Profiles are the ways to run vLLM by name; modes.MODE.vllm_profile selects one.
	// The profile "default" exists even if the file has only others.
	Profiles map[string]Profile `toml:"profiles"`
	// HealthURL answers 200 when the server is ready. Its host is a loopback address.
	HealthURL string `toml:"health_url"`
	// MetricsURL is the Prometheus page with the requests in flight. Its host is a
	// loopback address.
	MetricsURL string `toml:"metrics_url"`
	// StartTimeout bounds the wait for health. Loading a model takes minutes.
	StartTimeout Duration `toml:"start_timeout"`
	// DrainTimeout bounds the wait for requests in flight to end.
	DrainTimeout Duration `toml:"drain_timeout"`
	// OnDrainTimeout is what to do with requests that outlast DrainTimeout.
	OnDrainTimeout DrainAction `toml:"on_drain_timeout"`
}

// Profile is one way to run vLLM.
type Profile struct {
	// Unit is the unit that runs vLLM. If it is an instance of a template, every other
	// instance of that template counts as vLLM as well, and is stopped when a mode runs
	// another profile.
	Unit string `toml:"unit" json:"unit"`
	// WorkerUnits are services and scopes beside the unit that run only workers of this
	// profile. One whose processes keep a GPU after vLLM has stopped is killed as a whole.
	WorkerUnits []string `toml:"worker_units,omitempty" json:"worker_units,omitempty"`
}

// The profile of a mode without vLLM, and the one that always exists.
const (
	ProfileOff     = "off"
	ProfileDefault = "default"
)

// DrainAction is what happens when requests outlast the drain.
type DrainAction string

// The drain actions.
const (
	DrainFail DrainAction = "fail" // end the transition, keep serving
	DrainStop DrainAction = "stop" // stop the unit all the same
)

// UnmarshalText rejects a word that is not a drain action.
func (a *DrainAction) UnmarshalText(text []byte) error {
	return oneOf(a, "drain action", text, DrainFail, DrainStop)
}

func defaultVLLM() VLLM {
	return VLLM{
		Enabled:        true,
		Profiles:       defaultProfiles(),
		HealthURL:      "http://127.0.0.1:8000/health",
		MetricsURL:     "http://127.0.0.1:8000/metrics",
		StartTimeout:   Duration(20 * time.Minute),
		DrainTimeout:   Duration(5 * time.Minute),
		OnDrainTimeout: DrainFail,
	}
}

func defaultProfiles() map[string]Profile {
	return map[string]Profile{ProfileDefault: {Unit: "vllm.service"}}
}

// addDefaultProfile completes a table that has only other profiles. compute.target may
// start the default unit whatever the file says, so it must be known as vLLM.
func (v *VLLM) addDefaultProfile() {
	if _, named := v.Profiles[ProfileDefault]; !named {
		v.Profiles[ProfileDefault] = defaultProfiles()[ProfileDefault]
	}
}

// ProfileNames lists the profiles, the default one first.
func (v VLLM) ProfileNames() []string {
	names := slices.Sorted(maps.Keys(v.Profiles))
	if i := slices.Index(names, ProfileDefault); i >= 0 {
		names = slices.Insert(slices.Delete(names, i, i+1), 0, ProfileDefault)
	}
	return names
}

// VLLMUnits lists the unit of every profile, that of the default one first. A template
// has further ones: see InstanceOfVLLM.
func (p Policy) VLLMUnits() []string {
	var units []string
	for _, name := range p.VLLM.ProfileNames() {
		units = append(units, p.VLLM.Profiles[name].Unit)
	}
	return units
}

// splitInstance returns the template of a unit and which instance of it the unit is,
// empty for a unit of no template.
func splitInstance(unit string) (template, instance string) {
	stem, rest, found := strings.Cut(unit, "@")
	dot := strings.LastIndexByte(rest, '.')
	if !found || dot <= 0 {
		return "", ""
	}
	return stem + "@" + rest[dot:], rest[:dot]
}

// vllmTemplate is the template whose instances are vLLM, empty for none.
func (p Policy) vllmTemplate() string {
	for _, unit := range p.VLLMUnits() {
		if template, _ := splitInstance(unit); template != "" {
			return template
		}
	}
	return ""
}

// InstanceOfVLLM returns which instance of the profiles' template a unit is, and
// whether it is one.
func (p Policy) InstanceOfVLLM(unit string) (instance string, ok bool) {
	template, instance := splitInstance(unit)
	return instance, template != "" && template == p.vllmTemplate()
}

// VLLMInstances is a pattern that matches every instance of the profiles' template,
// empty without one.
func (p Policy) VLLMInstances() string { return strings.Replace(p.vllmTemplate(), "@.", "@*.", 1) }

// ProfileOf is the name of the profile that a unit runs. An instance that no profile
// names goes by its own name.
func (p Policy) ProfileOf(unit string) string {
	for name, profile := range p.VLLM.Profiles {
		if profile.Unit == unit {
			return name
		}
	}
	instance, _ := p.InstanceOfVLLM(unit)
	return instance
}

// VLLMUnit is the unit that serves in a mode, empty for none.
func (p Policy) VLLMUnit(mode Mode) string {
	if !p.VLLM.Enabled {
		return ""
	}
	return p.VLLM.Profiles[p.Contract(mode).VLLMProfile].Unit
}

// OtherVLLMUnits are the units of the other profiles than a mode's.
func (p Policy) OtherVLLMUnits(mode Mode) []string {
	own := p.VLLMUnit(mode)
	return slices.DeleteFunc(p.VLLMUnits(), func(unit string) bool { return unit == own })
}

// VLLMWorkerUnits lists the worker units of all profiles, each once, without those of
// the profile whose unit keeps running. kept is empty when all of vLLM is stopped.
func (p Policy) VLLMWorkerUnits(kept string) []string {
	var units, running []string
	for _, profile := range p.VLLM.Profiles {
		units = append(units, profile.WorkerUnits...)
		if profile.Unit == kept {
			running = profile.WorkerUnits
		}
	}
	slices.Sort(units)
	return slices.DeleteFunc(slices.Compact(units), func(unit string) bool { return slices.Contains(running, unit) })
}

func (p Policy) vllmFaults(check checker) {
	for key, address := range map[string]string{
		"vllm.health_url": p.VLLM.HealthURL, "vllm.metrics_url": p.VLLM.MetricsURL,
	} {
		check(loopback(address), key, "expected an http URL with a loopback address and a path only, found %q", address)
	}
	for name, profile := range p.VLLM.Profiles {
		key := join("vllm.profiles", name)
		check(isWord(name), key, "the name of a profile consists of letters, digits, - and _")
		check(name != ProfileOff, key, "%q is reserved for modes without vLLM", ProfileOff)
		at := join(key, "unit")
		check(isUnit(profile.Unit) && nameable(profile.Unit), at, notUnit, profile.Unit)
		check(!isTemplate(profile.Unit), at, namesTemplate, profile.Unit)
		for other := range p.VLLM.Profiles {
			check(other >= name || p.VLLM.Profiles[other].Unit != profile.Unit, at,
				"%s is the unit of profile %s as well", profile.Unit, other)
		}
		template, _ := splitInstance(profile.Unit)
		check(template == "" || template == p.vllmTemplate(), at,
			"%s is of another template than %s: profiles share one", profile.Unit, p.vllmTemplate())
		p.workerFaults(check, join(key, "worker_units"), profile.WorkerUnits)
	}
}

func (p Policy) workerFaults(check checker, key string, units []string) {
	for i, unit := range units {
		at := element(key, i)
		check(isWorker(unit) && nameable(unit), at,
			"expected the name of a service or a scope, found %q", unit)
		check(!isTemplate(unit), at, namesTemplate, unit)
		check(!slices.Contains(units[:i], unit), at, duplicate, unit)
		check(!slices.Contains(untouchable, unit) && !isUserUnit(unit), at,
			"%s runs more than workers of vLLM, and would be killed as a whole", unit)
		check(!slices.Contains(p.MustSurvive, unit), at, "%s is in must_survive", unit)
		check(!slices.Contains(p.modeUnits(), unit), at, "%s is a unit of the modes", unit)
	}
}
