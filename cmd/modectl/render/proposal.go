package render

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// Proposal is a first policy: sections of keys, with comments.
type Proposal []section

// section is a table of the policy. Its name is empty for the keys at the top level.
type section struct {
	name  string
	notes []string
	keys  []assignment
}

// assignment is a key, which may be dotted, with a value: a string, a bool or a list of
// strings. A section has at most one dotted key below each name.
type assignment struct {
	key   string
	value any
	note  string
}

// Propose returns a first policy for the host of the snapshot. p is the policy of the
// daemon, which names the units. transitions begins at "observe": only an operator
// raises it.
func Propose(p policy.Policy, s observer.Snapshot) Proposal {
	return Proposal{
		{
			notes: []string{"A first policy for this host. Check it, then install it."},
			keys: []assignment{
				{"transitions", string(policy.TrustObserve), `then "overlay", then "all"`},
				{"default_mode", string(p.DefaultMode), ""},
			},
		},
		units(p, s), vllm(p, s), gpus(s),
	}
}

func units(p policy.Policy, s observer.Snapshot) section {
	found := section{name: "units"}
	for _, u := range []struct{ key, unit string }{
		{"desktop_target", p.Units.DesktopTarget},
		{"compute_target", p.Units.ComputeTarget},
		{"display_manager", p.Units.DisplayManager},
		{"studio_policy", p.Units.StudioPolicy},
		{"audio_priority", p.Units.AudioPriority},
		{"k3s", p.Units.K3s},
	} {
		state := s.Systemd.Units[u.unit]
		switch {
		case !s.Systemd.Known():
		case !state.Loaded():
			found.notes = append(found.notes, u.unit+" ("+u.key+") is not installed")
		case state.ID != u.unit:
			found.keys = append(found.keys, assignment{u.key, u.unit, "an alias of " + state.ID})
		default:
			found.keys = append(found.keys, assignment{u.key, u.unit, ""})
		}
	}
	if !s.Systemd.Known() {
		found.notes = []string{"The units of this host are unknown: " + s.Systemd.Reason}
	}
	return found
}

func vllm(p policy.Policy, s observer.Snapshot) section {
	found := section{name: "vllm"}
	if !s.Systemd.Known() {
		return found
	}
	unit := p.VLLM.Profiles[policy.ProfileDefault].Unit
	state := s.Systemd.Units[unit]
	found.keys = []assignment{{"enabled", state.Loaded(), "whether compute serves inference"}}
	switch {
	case !state.Loaded():
		found.notes = []string{unit + " is not installed"}
	case state.ID != unit:
		found.keys = append(found.keys, assignment{"profiles.default.unit", unit, "an alias of " + state.ID})
	default:
		found.keys = append(found.keys, assignment{"profiles.default.unit", unit, ""})
	}
	return found
}

func gpus(s observer.Snapshot) section {
	found := section{name: "gpu"}
	if !s.Processes.Known() {
		found.notes = []string{"The GPUs of this host are unknown: " + s.Processes.Reason}
		return found
	}
	display, ai := []string{}, []string{}
	for _, g := range s.Processes.GPUs {
		found.notes = append(found.notes, describe(g, s.GPU.Cards))
		if !policy.IsPCI(g.PCI) || g.Hidden {
			continue
		}
		if g.Display {
			display = append(display, g.PCI)
		}
		if g.Driver == "nvidia" {
			ai = append(ai, g.PCI)
		}
	}
	found.keys = []assignment{
		{"display", display, "compute takes these from the desktop"},
		{"ai", ai, "compute gives these to inference"},
	}
	return found
}

func describe(g observer.GPU, cards []observer.Card) string {
	text := g.PCI
	if i := slices.IndexFunc(cards, func(c observer.Card) bool { return c.PCI == g.PCI }); i >= 0 && cards[i].Name != "" {
		text += ", " + cards[i].Name
	}
	switch {
	case g.Hidden:
		text += ": no driver of this host uses it"
	case g.Driver != "":
		text += ": driver " + g.Driver
	}
	if g.Display {
		text += ", can drive a display"
	}
	return text
}

// TOML is the proposal as a policy file.
func (p Proposal) TOML() string {
	var b strings.Builder
	for i, s := range p {
		if i > 0 {
			b.WriteString("\n")
		}
		for _, note := range s.notes {
			fmt.Fprintf(&b, "# %s\n", clean(note))
		}
		if s.name != "" {
			fmt.Fprintf(&b, "[%s]\n", s.name)
		}
		for _, a := range s.keys {
			fmt.Fprintf(&b, "%s = %s%s\n", a.key, literal(a.value, `"`, ", "), comment(a.note))
		}
	}
	return b.String()
}

// Nix is the proposal as an attribute set.
func (p Proposal) Nix() string {
	var b strings.Builder
	b.WriteString("{\n")
	for _, s := range p {
		indent := "  "
		for _, note := range s.notes {
			fmt.Fprintf(&b, "  # %s\n", clean(note))
		}
		if s.name != "" {
			fmt.Fprintf(&b, "  %s = {\n", s.name)
			indent = "    "
		}
		for _, a := range s.keys {
			fmt.Fprintf(&b, "%s%s = %s;%s\n", indent, a.key, literal(a.value, `"$`, " "), comment(a.note))
		}
		if s.name != "" {
			b.WriteString("  };\n")
		}
	}
	return b.String() + "}\n"
}

// JSON is `modectl policy init --json`: the keys and values of the proposal.
func (p Proposal) JSON() string {
	all := map[string]any{}
	for _, s := range p {
		into := all
		if s.name != "" {
			into = map[string]any{}
			all[s.name] = into
		}
		for _, a := range s.keys {
			assign(into, strings.Split(a.key, "."), a.value)
		}
	}
	return marshal(all)
}

// assign sets a dotted key, as TOML and Nix read it.
func assign(into map[string]any, path []string, value any) {
	if len(path) == 1 {
		into[path[0]] = value
		return
	}
	table := map[string]any{}
	into[path[0]] = table
	assign(table, path[1:], value)
}

func comment(note string) string {
	if note == "" {
		return ""
	}
	return " # " + clean(note)
}

// literal writes a value. special are the characters that the language escapes in
// strings beside the backslash, separator what separates the elements of a list.
func literal(value any, special, separator string) string {
	switch v := value.(type) {
	case string:
		text := strings.ReplaceAll(clean(v), `\`, `\\`)
		for _, c := range special {
			text = strings.ReplaceAll(text, string(c), `\`+string(c))
		}
		return `"` + text + `"`
	case []string:
		elements := make([]string, len(v))
		for i, e := range v {
			elements[i] = literal(e, special, separator)
		}
		if separator == " " && len(elements) > 0 { // as Nix is written
			return "[ " + strings.Join(elements, separator) + " ]"
		}
		return "[" + strings.Join(elements, separator) + "]"
	}
	return fmt.Sprint(value)
}
