package policy

import (
	"slices"
	"strings"
)

// Contracts is the section [modes]: what each contract requires beyond the definition of
// its mode.
type Contracts struct {
	Desktop     Contract `toml:"desktop"`
	StudioLocal Contract `toml:"studio-local"`
	Compute     Contract `toml:"compute"`
}

// Contract is what the policy requires of one mode.
type Contract struct {
	// Required are units that must run in the mode. One that does not run degrades the
	// mode; a plan to the mode starts it.
	Required []string `toml:"required"`
	// Forbidden are units that must not run in the mode. One that runs degrades the mode.
	Forbidden []string `toml:"forbidden"`
	// StopForbidden lets a plan to the mode stop forbidden units.
	StopForbidden bool `toml:"stop_forbidden"`
	// AIGPUs are the GPUs of gpu.ai that inference may use in the mode. Empty means all of
	// them in compute, and none elsewhere.
	AIGPUs []string `toml:"ai_gpus"`
	// VLLMProfile is the profile of vLLM in the mode: a name of vllm.profiles, or "off".
	VLLMProfile string `toml:"vllm_profile"`
}

func defaultContracts() Contracts {
	contract := func(profile string) Contract {
		return Contract{Required: []string{}, Forbidden: []string{}, AIGPUs: []string{}, VLLMProfile: profile}
	}
	return Contracts{Desktop: contract(ProfileOff), StudioLocal: contract(ProfileOff), Compute: contract(ProfileDefault)}
}

// Contract returns what the policy requires of a mode.
func (p Policy) Contract(mode Mode) Contract {
	switch mode {
	case Desktop:
		return p.Modes.Desktop
	case StudioLocal:
		return p.Modes.StudioLocal
	case Compute:
		return p.Modes.Compute
	}
	return Contract{}
}

// ContractUnits lists the units that the contracts require or forbid, sorted, each once.
func (p Policy) ContractUnits() []string {
	var units []string
	for _, mode := range Modes() {
		units = append(units, p.Contract(mode).Required...)
		units = append(units, p.Contract(mode).Forbidden...)
	}
	slices.Sort(units)
	return slices.Compact(units)
}

// AIGPUs are the GPUs that inference may use in a mode.
func (p Policy) AIGPUs(mode Mode) []string {
	if own := p.Contract(mode).AIGPUs; len(own) > 0 || mode != Compute {
		return own
	}
	return p.GPU.AI
}

// Location is which machine has the capability that a mode provides.
func (p Policy) Location(mode Mode) Place {
	switch mode {
	case StudioLocal:
		return p.Placement.Studio
	case Compute:
		return p.Placement.AI
	}
	return Local
}

// nameable reports whether systemd accepts a text of the right characters as a name. A
// call with a name that it rejects fails for all units of the call.
func nameable(unit string) bool { return len(unit) < 256 && !strings.HasPrefix(unit, "@") }

// untouchable are units without which the host could not leave a mode.
var untouchable = []string{
	"dubniumd.service", "dbus.service", "dbus-broker.service", "dbus.socket", "systemd-logind.service", "polkit.service",
	"dubnium-probe-holders.socket", "dubnium-probe-inference.socket", "dubnium-probe-gpu.socket",
}

func (p Policy) contractFaults(check checker) {
	for _, mode := range Modes() {
		key := join("modes", string(mode))
		c := p.Contract(mode)
		for name, list := range map[string][]string{"required": c.Required, "forbidden": c.Forbidden} {
			for i, unit := range list {
				at := element(join(key, name), i)
				check(isUnit(unit) && nameable(unit), at, notUnit, unit)
				check(!isTemplate(unit), at, namesTemplate, unit)
				check(!slices.Contains(list[:i], unit), at, duplicate, unit)
			}
		}
		p.unitContradictions(check, mode)
		p.aiFaults(check, mode)
	}
}

// unitContradictions finds units of which a contract says both.
func (p Policy) unitContradictions(check checker, mode Mode) {
	key, c := join("modes", string(mode)), p.Contract(mode)
	needs, without := p.ownUnits(mode)
	for i, unit := range c.Required {
		at := element(join(key, "required"), i)
		check(!slices.Contains(c.Forbidden, unit), at, "%s is forbidden as well", unit)
		check(!slices.Contains(without, unit), at, "%s is stopped on the way to %s", unit, mode)
		_, instance := p.InstanceOfVLLM(unit)
		check(!instance && !slices.Contains(p.VLLMUnits(), unit), at,
			"%s is a unit of vLLM: set vllm_profile instead", unit)
	}
	for i, unit := range c.Forbidden {
		at := element(join(key, "forbidden"), i)
		check(!slices.Contains(needs, unit), at, "%s is part of %s itself", unit, mode)
		check(!slices.Contains(p.MustSurvive, unit), at, "%s is in must_survive", unit)
		check(!slices.Contains(untouchable, unit), at, "the host cannot leave the mode without %s", unit)
		check(unit != p.Units.K3s, at, "%s is units.k3s, which Dubnium never stops", unit)
	}
}

// ownUnits are the units that define a mode, and those that do not run in it.
func (p Policy) ownUnits(mode Mode) (needs, without []string) {
	u := p.Units
	studio := []string{u.StudioPolicy, u.AudioPriority}
	screen := []string{u.DesktopTarget, "graphical.target", u.DisplayManager}
	switch mode {
	case Compute:
		needs, without = []string{u.ComputeTarget, "multi-user.target"}, append(studio, screen...)
	case StudioLocal:
		needs, without = append(screen, studio...), []string{u.ComputeTarget}
	default:
		needs, without = screen, append(studio, u.ComputeTarget)
	}
	if unit := p.VLLMUnit(mode); unit != "" {
		needs = append(needs, unit)
	}
	return needs, without
}

// aiFaults checks the GPUs and the profile of inference in a mode.
func (p Policy) aiFaults(check checker, mode Mode) {
	key, c := join("modes", string(mode)), p.Contract(mode)
	for i, pci := range c.AIGPUs {
		at := element(join(key, "ai_gpus"), i)
		check(slices.Contains(p.GPU.AI, pci), at, "%q is not in gpu.ai", pci)
		check(!slices.Contains(c.AIGPUs[:i], pci), at, duplicate, pci)
		check(mode == Compute || !slices.Contains(p.GPU.Display, pci), at, "%s drives the display in %s", pci, mode)
	}
	_, named := p.VLLM.Profiles[c.VLLMProfile]
	check(named || c.VLLMProfile == ProfileOff, join(key, "vllm_profile"), "unknown profile %q: expected one of %s",
		c.VLLMProfile, words(append([]string{ProfileOff}, p.VLLM.ProfileNames()...)))
	check(mode != StudioLocal || c.VLLMProfile == ProfileOff, join(key, "vllm_profile"),
		"must be off: studio-local has no inference")
}
