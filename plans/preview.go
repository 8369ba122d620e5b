package plans

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/observer/unitgraph"
	"github.com/dubnium/dubnium/policy"
)

// Context is a plan with the facts that it was built from.
type Context struct {
	Plan
	// Reached: the mode is observed, and nothing is to be done.
	Reached  bool
	Snapshot observer.Snapshot
	Impact   unitgraph.Impact
}

// UnitOperations lists the units that the plan starts, stops or isolates, for unitgraph.ComputeImpact. needed
// reports whether the impact has to be computed. That requires reading all units, which costs much more than a
// snapshot; it is needed only where a step can reach beyond the units that it names, or where a queued job may
// conflict with it. Quiesce is excluded: it stops jobs that these units started themselves.
func (p Plan) UnitOperations(pol policy.Policy, s observer.Snapshot) (ops unitgraph.UnitOperations, needed bool) {
	for _, step := range p.Steps {
		switch {
		case step.Kind == Isolate:
			ops.Isolate = step.Unit
		case step.Kind == StartUnit:
			ops.Starts = append(ops.Starts, step.Unit)
		case step.Kind == StopUnit && p.EndsSessions() && step.Unit == pol.Units.DisplayManager:
			ops.SessionUnits = append(ops.SessionUnits, step.Unit)
		case step.Kind == StopUnit, step.Kind == StopVLLM:
			ops.Stops = append(ops.Stops, step.Unit)
		}
	}
	for _, session := range p.Ends(s) {
		ops.SessionUnits = append(ops.SessionUnits, session.Scope)
	}
	queued := false
	for _, u := range s.Systemd.Units {
		queued = queued || u.Job != 0
	}
	changes := len(ops.Starts)+len(ops.Stops) > 0
	return ops, ops.Isolate != "" || p.EndsSessions() || changes && queued ||
		len(ops.Stops) > 0 && len(pol.MustSurvive) > 0
}

// Ends lists the sessions of the snapshot that the plan ends.
func (p Plan) Ends(s observer.Snapshot) []observer.Session {
	if !p.EndsSessions() {
		return nil
	}
	return append(s.Logind.Graphical(), s.Logind.Greeters()...)
}

// Judged is the verdict of one guard on a plan.
type Judged struct {
	Guard policy.GuardID `json:"guard"`
	Code  policy.Code    `json:"code"`
}

// Fingerprint identifies what the requester agrees to: the steps with their timeouts, the codes of the guards,
// the sessions that end and the units that stop. Anything else may change between two snapshots without
// changing the fingerprint: other sessions and processes, measured values, which process of a session holds the
// GPU, the units that start (polkit is started whenever it is called), and texts.
func (c Context) Fingerprint(judged []Judged) string {
	type session struct {
		ID, Seat, Class, Type string
		UID                   uint32
	}
	type stopped struct {
		Unit      string
		Transient bool
	}
	content := struct {
		Format   int // raised when the same plan gets another fingerprint
		To       policy.Mode
		Reached  bool
		Steps    []Step
		Judged   []Judged
		Sessions []session
		Stops    []stopped
		Refused  string
		Unread   bool
	}{Format: 2, To: c.To, Reached: c.Reached, Steps: c.Steps, Judged: judged, Unread: !c.Impact.Known()}
	for _, s := range c.Ends(c.Snapshot) {
		content.Sessions = append(content.Sessions, session{s.ID, s.Seat, s.Class, s.Type, s.UID})
	}
	for _, u := range c.Impact.StoppedUnits() {
		if !c.Started(u.Unit) {
			content.Stops = append(content.Stops, stopped{u.Unit, u.Transient})
		}
	}
	if i := c.Impact.Isolation; i != nil {
		content.Refused = i.Refused
	}
	data, err := json.Marshal(content)
	if err != nil {
		panic("a plan cannot be marshaled: " + err.Error())
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:16])
}

// Started reports whether a step of the plan starts the unit of that Id.
func (c Context) Started(unit string) bool {
	return slices.ContainsFunc(c.Steps, func(s Step) bool { return s.Kind == StartUnit && c.Impact.ID(s.Unit) == unit })
}

// Words describe a step to people.
type Words struct {
	Does string
	// Undo is what reverts it when a later step fails; empty when it changes nothing.
	Undo string
	// Changes has a line like "CPUWeight of user.slice: 100 -> 20" for each change, where Does is not enough.
	Changes []string
}

// Describe returns the description of a step of the plan.
func (c Context) Describe(s Step) Words {
	switch s.Kind {
	case StartUnit:
		return Words{Does: "start " + s.Unit, Undo: "stop " + s.Unit}
	case StopUnit:
		return Words{Does: "stop " + s.Unit, Undo: "start " + s.Unit}
	case StopVLLM:
		return Words{
			Does: "stop " + s.Unit + " until none of its processes has a GPU open", Undo: "start " + s.Unit,
			Changes: describeWorkers(s.Units),
		}
	case AskSessions, EndSessions, EndManagers:
		return c.describeSessions(s)
	case Isolate:
		return Words{
			Does: fmt.Sprintf("isolate %s, which stops %s", s.Unit, c.isolatedUnits()),
			Undo: "start what was active before" + c.exceptTransient(),
		}
	case SetSlices:
		return Words{
			Does: "set " + count(len(s.Slices), "slice propert", "y", "ies"), Undo: "restore the previous values",
			Changes: describeSlices(s.Slices),
		}
	case Quiesce:
		return Words{Does: "stop maintenance: " + strings.Join(s.Units, ", "), Undo: "start the units that were active"}
	case Resume:
		return Words{Does: "restart maintenance: " + strings.Join(s.Units, ", "), Undo: "stop the units again"}
	}
	return Words{Does: describeWait(s)}
}

// describeSessions describes a step that ends sessions or user managers.
func (c Context) describeSessions(s Step) Words {
	sessions := count(len(c.Ends(c.Snapshot)), "session", "", "s")
	switch s.Kind {
	case AskSessions:
		return Words{
			Does: fmt.Sprintf("run the end hook of %s, for %s at most", sessions, s.Grace), Undo: s.Kind.Irreversible(),
		}
	case EndSessions:
		return Words{
			Does: fmt.Sprintf("terminate %s, kill after %s", sessions, s.Grace), Undo: s.Kind.Irreversible(),
		}
	}
	return Words{
		Does: fmt.Sprintf("wait until processes of %s release the GPU, stop their user managers after %s",
			count(len(s.Users), "user", "", "s"), s.Grace),
		Undo: "start the user managers that logind keeps",
	}
}

// describeWait describes a step that only waits.
func describeWait(s Step) string {
	switch s.Kind {
	case Gate:
		return fmt.Sprintf("wait until %s passes", s.Guard)
	case Drain:
		return "wait until vLLM has no request in flight"
	case AwaitHealthy:
		return "wait until " + s.Unit + " is healthy"
	}
	return ""
}

func (c Context) isolatedUnits() string {
	if i := c.Impact.Isolation; i != nil {
		return count(len(i.Stops), "unit", "", "s")
	}
	return "an unknown number of units"
}

// exceptTransient counts the units that isolate stops and that cannot be started again.
func (c Context) exceptTransient() string {
	if c.Impact.Isolation == nil {
		return ""
	}
	hasFile := func(u unitgraph.StoppedUnit) bool { return !u.Transient }
	transient := len(slices.DeleteFunc(slices.Clone(c.Impact.Isolation.Stops), hasFile))
	if transient == 0 {
		return ""
	}
	return fmt.Sprintf(", except %s without a unit file", count(transient, "unit", "", "s"))
}

// describeWorkers has a line for each further unit in which workers of vLLM are killed.
func describeWorkers(units []string) []string {
	var lines []string
	for _, unit := range units {
		lines = append(lines, "kill "+unit+" if a process in it still has a GPU open")
	}
	return lines
}

// describeSlices has a line for each change, with the old and the new value.
func describeSlices(changes []SliceChange) []string {
	text := func(value string) string {
		if value == "" {
			return "not set"
		}
		return value
	}
	lines := make([]string, len(changes))
	for i, c := range changes {
		old := "unknown"
		if c.Old != nil {
			old = text(*c.Old)
		}
		lines[i] = fmt.Sprintf("%s of %s: %s -> %s", c.Property, c.Slice, old, text(c.New))
	}
	return lines
}

func count(n int, noun, one, many string) string {
	if n == 1 {
		return "1 " + noun + one
	}
	return fmt.Sprintf("%d %s%s", n, noun, many)
}
