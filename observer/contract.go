package observer

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dubnium/dubnium/policy"
)

// Contract is the contract of a mode, and the guards on the way to it. It is computed from the
// policy alone, without reading the host.
type Contract struct {
	Target string `json:"target"`
	// Overlay is the unit that distinguishes the mode from another one with the same target;
	// empty for none.
	Overlay string `json:"overlay"`
	// Isolates: the target is isolated, which stops all other units. EndsSessions: graphical
	// sessions are ended before that.
	Isolates     bool `json:"isolates"`
	EndsSessions bool `json:"ends_sessions"`
	// Trusted: the policy allows the transition from desktop (transitions).
	Trusted bool `json:"trusted"`
	// Expected are the units that must run in the mode beside its target, Forbidden those
	// that must not.
	Expected  []string `json:"expected"`
	Forbidden []string `json:"forbidden"`
	// StopForbidden: a plan to the mode stops the units that the policy forbids.
	StopForbidden bool `json:"stop_forbidden"`
	// Requirements are facts with the values that they must have.
	Requirements []Requirement `json:"promises"`
	// Guards are evaluated for a request, and Gates again once the holders of the GPUs have
	// been stopped.
	Guards []policy.GuardID `json:"guards"`
	Gates  []policy.GuardID `json:"gates"`
	// Ownership lists the resources of the machine with their users in the mode.
	Ownership []Owned `json:"ownership"`
	// VLLMProfile is the profile in which vLLM runs in the mode, or "off".
	VLLMProfile string `json:"vllm_profile"`
	// Latency and Security describe the mode for people.
	Latency  string `json:"latency"`
	Security string `json:"security"`
	// The GPUs that the policy names. If it names no display GPU, every GPU with a display
	// output is one.
	DisplayGPUs []string `json:"display_gpus"`
	AIGPUs      []string `json:"ai_gpus"`
	PlannedGPUs []string `json:"planned_gpus"`
	// Place is the machine on which the policy places the purpose of the mode. Assumptions
	// are further conditions of the placement, for people.
	Place       policy.Place `json:"place"`
	Assumptions []string     `json:"assumptions"`
}

// Requirement is a fact with the value that it must have.
type Requirement struct {
	Signal Signal `json:"signal"`
	Want   Truth  `json:"want"`
}

// Owned is a resource with the user that it serves in a mode, and the terms.
type Owned struct {
	Resource string   `json:"resource"` // gpu, cpu, memory, storage or audio
	Owner    string   `json:"owner"`
	Terms    []string `json:"terms"`
}

// The texts of Contract.Latency and Contract.Security.
var (
	latency = map[policy.Mode]string{
		policy.Desktop:     "interactive: the user of the screen comes first",
		policy.StudioLocal: "low: audio deadlines come first",
		policy.Compute:     "throughput: there is no interactive user",
	}
	security = map[policy.Mode]string{
		policy.Desktop:     "a graphical session, or a greeter",
		policy.StudioLocal: "a graphical session",
		policy.Compute:     "headless: neither a graphical session nor a greeter",
	}
)

// ContractOf returns the contract of a mode. Clauses that apply only while somebody is logged in
// are included.
func ContractOf(p policy.Policy, mode policy.Mode) *Contract {
	own := p.Contract(mode)
	c := &Contract{
		Target: p.Target(mode), Isolates: mode == policy.Compute, EndsSessions: mode == policy.Compute,
		Trusted: p.Transitions.Allows(mode, false), StopForbidden: own.StopForbidden,
		Ownership: ownership(p, mode), VLLMProfile: policy.ProfileOff, Latency: latency[mode], Security: security[mode],
		DisplayGPUs: p.GPU.Display, AIGPUs: p.AIGPUs(mode), PlannedGPUs: p.GPU.Planned,
		Place: p.Location(mode), Assumptions: assumptions(p, mode),
	}
	if mode == policy.StudioLocal {
		c.Overlay = p.Units.StudioPolicy
	}
	if p.VLLMUnit(mode) != "" {
		c.VLLMProfile = own.VLLMProfile
	}
	c.Guards, c.Gates = p.GuardsTo(mode)
	clauses := requirements(p, mode, Facts{GraphicalSession: {Truth: True}})
	for _, clause := range append(clauses, softRequirements(p, mode)...) {
		c.Requirements = append(c.Requirements, Requirement{clause.signal, clause.want})
		list := &c.Forbidden
		if clause.want == True {
			list = &c.Expected
		}
		for _, unit := range unitsOf(p, mode, clause) {
			if unit != c.Target && !slices.Contains(*list, unit) {
				*list = append(*list, unit)
			}
		}
	}
	return c
}

// unitsOf lists the units whose state the signal of a clause is.
func unitsOf(p policy.Policy, mode policy.Mode, c clause) []string {
	if unit, ok := ofUnit(c.signal); ok {
		return []string{unit}
	}
	switch c.signal {
	case VLLMActive:
		if c.want == True {
			return []string{p.VLLMUnit(mode)}
		}
		return p.VLLMUnits()
	case DesktopTarget:
		return []string{p.Units.DesktopTarget}
	case ComputeTarget:
		return []string{p.Units.ComputeTarget}
	case StudioPolicy:
		return []string{p.Units.StudioPolicy}
	case AudioPriority:
		return []string{p.Units.AudioPriority}
	case DisplayManager:
		return []string{p.Units.DisplayManager}
	}
	return nil
}

// ownership lists the resources with their users. interactive.slice and user.slice contain the
// processes of people, ai.slice inference.
func ownership(p policy.Policy, mode policy.Mode) []Owned {
	session, first := "the graphical session", "interactive.slice, user.slice"
	owner, cpu, audio := session, first, session
	var audioTerms []string
	switch mode {
	case policy.Compute:
		owner, cpu, audio = "inference", "ai.slice", "nobody"
		audioTerms = []string{"nothing plays or records when the mode is entered"}
	case policy.StudioLocal:
		audioTerms = []string{p.Units.AudioPriority + " keeps the latency low"}
		fallthrough
	default:
		if p.Audio.Required {
			audioTerms = append(audioTerms, "the audio server runs")
		}
	}
	return []Owned{
		{"gpu", owner, gpuTerms(p, mode)},
		{"cpu", cpu, sliceTerms(p, mode, policy.CPUWeight, policy.AllowedCPUs)},
		{"memory", cpu, append(sliceTerms(p, mode, policy.MemoryHigh, policy.MemoryLow),
			amountTerm("%d MiB available when the mode is entered", p.Guards.MinMemoryMiB.Of(mode))...)},
		{"storage", owner, storageTerms(p, mode)},
		{"audio", audio, audioTerms},
	}
}

// sliceTerms lists the values that the mode sets for these properties of slices.
func sliceTerms(p policy.Policy, mode policy.Mode, properties ...string) []string {
	var terms []string
	set := p.Slices.Of(mode)
	for _, name := range slices.Sorted(maps.Keys(set)) {
		for _, property := range properties {
			if value, ok := set[name].Properties()[property]; ok {
				terms = append(terms, fmt.Sprintf("%s: %s=%s", name, property, value))
			}
		}
	}
	return terms
}

func gpuTerms(p policy.Policy, mode policy.Mode) []string {
	display := strings.Join(p.GPU.Display, ", ")
	if display == "" {
		display = "every GPU with an output"
	}
	terms := []string{"the display: " + display}
	if mode == policy.Compute {
		terms[0] += ", released"
	}
	inference := strings.Join(p.AIGPUs(mode), ", ")
	switch {
	case inference != "":
	case mode == policy.Compute:
		inference = "any"
	default:
		inference = "none"
	}
	return append(terms, "for inference: "+inference)
}

func storageTerms(p policy.Policy, mode policy.Mode) []string {
	if mode != policy.Compute {
		return nil
	}
	var terms []string
	for _, path := range p.Directories() {
		terms = append(terms, fmt.Sprintf("%s exists and has %d MiB free", path, p.Guards.MinFreeMiB))
	}
	return terms
}

// amountTerm returns one term about an amount, none if the amount is 0.
func amountTerm(format string, amount int) []string {
	if amount == 0 {
		return nil
	}
	return []string{fmt.Sprintf(format, amount)}
}

// assumptions lists the conditions under which the mode can be used on this machine.
func assumptions(p policy.Policy, mode policy.Mode) []string {
	switch mode {
	case policy.StudioLocal:
		return []string{fmt.Sprintf("placement.studio is %s and must be local", p.Placement.Studio)}
	case policy.Compute:
		all := []string{fmt.Sprintf("placement.ai is %s and must be local", p.Placement.AI)}
		list := p.AIGPUs(mode)
		if len(list) == 0 {
			return all
		}
		need := len(list)
		if p.GPU.MinAI > 0 {
			need = p.GPU.MinAI
		}
		all = append(all, fmt.Sprintf("at least %d of %d GPUs for inference can be used", need, len(list)))
		for _, pci := range list {
			if slices.Contains(p.GPU.Planned, pci) {
				all = append(all, pci+" is planned: compute can be entered while it is missing")
			}
		}
		return all
	}
	return nil
}
