package render

import (
	"fmt"
	"strings"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/policy"
)

// PlanDot is `modectl dry-run --dot`: a graph in the DOT language of the guards, the
// steps in their order, and the sessions, processes and units that they end.
func PlanDot(p status.Preview) string {
	g := dot{}
	g.b.WriteString("digraph plan {\n  rankdir=LR;\n  node [shape=box];\n")
	g.node("from", string(p.From), "shape", "ellipse")
	g.node("to", string(p.To), "shape", "ellipse", "tooltip", "fingerprint "+p.Fingerprint)
	last := "from"
	for _, v := range p.Guards {
		id := "guard " + string(v.Guard)
		g.node(
			id, fmt.Sprintf("%s\n%s (%d)", v.Guard, verdictWord(v), v.Code), "shape", "diamond", "color", colorOf(v.OK),
			"tooltip", v.Reason,
		)
		g.edge(last, id)
		last = id
	}
	for i, s := range p.Steps {
		id := "step " + s.ID
		label := fmt.Sprintf("%d. %s\n%s\nat most %s", i+1, s.ID, s.Does, s.Timeout)
		g.node(id, strings.Join(append([]string{label}, s.Changes...), "\n"), "tooltip", s.Undo)
		g.edge(last, id)
		last = id
	}
	g.edge(last, "to")
	g.costs(p)
	g.b.WriteString("}\n")
	return g.b.String()
}

// costs attaches the sessions, processes and units to the steps that end them.
func (g *dot) costs(p status.Preview) {
	for _, s := range p.Sessions {
		id := "session " + s.ID
		g.node(id, fmt.Sprintf("session %s\n%s (uid %d)", s.ID, s.User, s.UID), "shape", "note")
		g.cost(p, id, func(step status.PlannedStep) bool { return step.Kind == "end-sessions" }, "ends")
	}
	for i, h := range p.Holders {
		id := fmt.Sprintf("holder %s %d", h.GPU, i)
		g.node(id, h.String()+"\nholds "+h.GPU, "shape", "note")
		g.cost(
			p, id, func(step status.PlannedStep) bool { return step.Guard == policy.CheckGPUDisplayReleased },
			"waits for release",
		)
	}
	for _, c := range p.Stops {
		label := c.Unit
		if c.Transient {
			label += "\ncannot be started again"
		}
		g.node("stop "+c.Unit, label, "shape", "note")
		g.cost(p, "stop "+c.Unit, func(step status.PlannedStep) bool {
			return step.Kind == "isolate" || step.Kind == "stop-unit" && step.Unit == c.By
		}, c.Why())
	}
}

// cost draws an edge to id from the first step that matches.
func (g *dot) cost(p status.Preview, id string, matches func(status.PlannedStep) bool, label string) {
	for _, s := range p.Steps {
		if matches(s) {
			g.edge("step "+s.ID, id, "style", "dotted", "label", label)
			return
		}
	}
}

func colorOf(ok bool) string {
	if ok {
		return "darkgreen"
	}
	return "red"
}

// dot writes statements of the language. Every ID is a quoted string.
type dot struct{ b strings.Builder }

func (g *dot) node(id, label string, attributes ...string) {
	fmt.Fprintf(&g.b, "  %s%s;\n", quote(id), list(append([]string{"label", label}, attributes...)))
}

func (g *dot) edge(from, to string, attributes ...string) {
	fmt.Fprintf(&g.b, "  %s -> %s%s;\n", quote(from), quote(to), list(attributes))
}

// list is an attribute list of alternating names and values. Empty values are left out.
func list(attributes []string) string {
	var parts []string
	for i := 0; i+1 < len(attributes); i += 2 {
		if attributes[i+1] != "" {
			parts = append(parts, attributes[i]+"="+quote(attributes[i+1]))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return " [" + strings.Join(parts, ", ") + "]"
}

// quote is a double-quoted ID. Labels have escapes (\n, \l, \N for the name of the
// node), so a backslash is doubled. Lines are separated by \n.
func quote(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(clean(line))
	}
	return `"` + strings.Join(lines, `\n`) + `"`
}
