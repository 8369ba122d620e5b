package observer

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dubnium/dubnium/policy"
)

// Contract is what a mode promises and what is judged on the way to it, by the
// policy alone: nothing is looked at for it.
type Contract struct {
	Target string `json:"target"`
	// Overlay is the unit that marks the mode on top of the target; empty for none.
	Overlay string `json:"overlay"`
	// Isolates: the target is isolated from whatever other target; EndsSessions: people
	// at the screen are logged out before that.
	Isolates     bool `json:"isolates"`
	EndsSessions bool `json:"ends_sessions"`
	// Trusted: the stage of trust includes the mode, from a desktop.
	Trusted bool `json:"trusted"`
	// Expected are the units that run in the mode beside its target, Forbidden those
	// that do not.
	Expected  []string `json:"expected"`
	Forbidden []string `json:"forbidden"`
	// StopForbidden: a plan to the mode stops those of the policy's forbidden units that
	// run.
	StopForbidden bool `json:"stop_forbidden"`
	// Requirements are facts with what they have to be.
	Requirements []Requirement `json:"promises"`
	// Guards are those of a request, from whatever mode, and Gates those that are
	// judged again once others have let go.
	Guards []policy.GuardID `json:"guards"`
	Gates  []policy.GuardID `json:"gates"`
	// Ownership says who has what of the machine in the mode.
	Ownership []Owned `json:"ownership"`
	// VLLMProfile is how vLLM runs in the mode.
	VLLMProfile string `json:"vllm_profile"`
	// Latency and Security describe the mode for people.
	Latency  string `json:"latency"`
	Security string `json:"security"`
	// The GPUs that policy names. Where it names no display GPU, every one that could
	// drive a display is one.
	DisplayGPUs []string `json:"display_gpus"`
	AIGPUs      []string `json:"ai_gpus"`
	PlannedGPUs []string `json:"planned_gpus"`
	// Place is which machine has what the mode is for, and Assumptions what else has
	// to be so for the mode to make sense here.
	Place       policy.Place `json:"place"`
	Assumptions []string     `json:"assumptions"`
}

// Requirement is a fact with what it has to be.
type Requirement struct {
	Signal Signal `json:"signal"`
	Want   Truth  `json:"want"`
}

// Owned is a resource with whom it is for in a mode, and on which terms.
type Owned struct {
	Resource string   `json:"resource"` // gpu, cpu, memory, storage or audio
	Owner    string   `json:"owner"`
	Terms    []string `json:"terms"`
}

// latency says whose time counts in a mode, security who can get at the machine.
var (
	latency = map[policy.Mode]string{
		policy.Desktop:     "interactive: the person at the screen comes first",
		policy.StudioLocal: "low: audio deadlines come before everything else",
		policy.Compute:     "throughput: nobody waits at a screen",
	}
	security = map[policy.Mode]string{
		policy.Desktop:     "somebody is logged in at the screen, or a greeter waits for them",
		policy.StudioLocal: "somebody is logged in at the screen",
		policy.Compute:     "headless: neither a graphical session nor a greeter",
	}
)

// ContractOf is the contract of one mode, for a machine with somebody at it.
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
	clauses := requirement(p, mode, Facts{GraphicalSession: {Truth: True}})
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

// unitsOf are the units whose state is a clause's signal.
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

// ownership says whom each resource is for. Slices carry it: interactive.slice and
// user.slice have what people run, ai.slice has inference.
func ownership(p policy.Policy, mode policy.Mode) []Owned {
	session, first := "the person at the screen", "interactive.slice, user.slice"
	owner, cpu, audio := session, first, session
	var audioTerms []string
	switch mode {
	case policy.Compute:
		owner, cpu, audio = "inference", "ai.slice", "nobody"
		audioTerms = []string{"nothing plays or records when the mode is entered"}
	case policy.StudioLocal:
		audioTerms = []string{p.Units.AudioPriority + " holds latency down"}
		fallthrough
	default:
		if p.Audio.Required {
			audioTerms = append(audioTerms, "their audio server runs")
		}
	}
	return []Owned{
		{"gpu", owner, gpuTerms(p, mode)},
		{"cpu", cpu, sliceTerms(p, mode, policy.CPUWeight, policy.AllowedCPUs)},
		{"memory", cpu, append(sliceTerms(p, mode, policy.MemoryHigh, policy.MemoryLow),
			some("%d MiB available when the mode is entered", p.Guards.MinMemoryMiB.Of(mode))...)},
		{"storage", owner, storageTerms(p, mode)},
		{"audio", audio, audioTerms},
	}
}

// sliceTerms are what the mode gives the slices of these properties.
func sliceTerms(p policy.Policy, mode policy.Mode, properties ...string) []string {
	var terms []string
	given := p.Slices.Of(mode)
	for _, name := range slices.Sorted(maps.Keys(given)) {
		for _, property := range properties {
			if value, ok := given[name].Properties()[property]; ok {
				terms = append(terms, fmt.Sprintf("%s: %s=%s", name, property, value))
			}
		}
	}
	return terms
}

func gpuTerms(p policy.Policy, mode policy.Mode) []string {
	display := strings.Join(p.GPU.Display, ", ")
	if display == "" {
		display = "every GPU that could"
	}
	terms := []string{"the display: " + display}
	if mode == policy.Compute {
		terms[0] += ", released"
	}
	inference := strings.Join(p.AIGPUs(mode), ", ")
	switch {
	case inference != "":
	case mode == policy.Compute:
		inference = "whichever it finds"
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
	for _, path := range p.Stores() {
		terms = append(terms, fmt.Sprintf("%s is there, with %d MiB of room", path, p.Guards.MinFreeMiB))
	}
	return terms
}

// some is a term about an amount, none for an amount of nothing.
func some(format string, amount int) []string {
	if amount == 0 {
		return nil
	}
	return []string{fmt.Sprintf(format, amount)}
}

// assumptions are what the placement of the mode rests on.
func assumptions(p policy.Policy, mode policy.Mode) []string {
	switch mode {
	case policy.StudioLocal:
		return []string{fmt.Sprintf("placement.studio is %s, and has to be local", p.Placement.Studio)}
	case policy.Compute:
		all := []string{fmt.Sprintf("placement.ai is %s, and has to be local", p.Placement.AI)}
		list := p.AIGPUs(mode)
		if len(list) == 0 {
			return all
		}
		need := "every one"
		if p.GPU.MinAI > 0 {
			need = fmt.Sprintf("at least %d", p.GPU.MinAI)
		}
		all = append(all, fmt.Sprintf("of the %d GPUs for inference %s can be used", len(list), need))
		for _, pci := range list {
			if slices.Contains(p.GPU.Planned, pci) {
				all = append(all, pci+" is planned: while it is missing, compute can be entered without it")
			}
		}
		return all
	}
	return nil
}
