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

// UnitOperations is what the plan does to units, for unitgraph.ComputeImpact. needed reports whether the
// impact has to be known: all units are read for it, which costs much more than a look, so that it is
// wanted only where a step can reach beyond the units that it names, or where a job may be in its way.
// Maintenance is not among the operations: a job of its own is what is to be stopped.
func (p Plan) UnitOperations(pol policy.Policy, s observer.Snapshot) (e unitgraph.UnitOperations, needed bool) {
	for _, step := range p.Steps {
		switch {
		case step.Kind == Isolate:
			e.Isolate = step.Unit
		case step.Kind == StartUnit:
			e.Starts = append(e.Starts, step.Unit)
		case step.Kind == StopUnit && p.EndsSessions() && step.Unit == pol.Units.DisplayManager:
			e.SessionUnits = append(e.SessionUnits, step.Unit)
		case step.Kind == StopUnit, step.Kind == StopVLLM:
			e.Stops = append(e.Stops, step.Unit)
		}
	}
	for _, session := range p.Ends(s) {
		e.SessionUnits = append(e.SessionUnits, session.Scope)
	}
	queued := false
	for _, u := range s.Systemd.Units {
		queued = queued || u.Job != 0
	}
	touches := len(e.Starts)+len(e.Stops) > 0
	return e, e.Isolate != "" || p.EndsSessions() || touches && queued || len(e.Stops) > 0 && len(pol.MustSurvive) > 0
}

// Ends lists the sessions that the plan ends, of what is known of them.
func (p Plan) Ends(s observer.Snapshot) []observer.Session {
	if !p.EndsSessions() {
		return nil
	}
	return append(s.Logind.Graphical(), s.Logind.Greeters()...)
}

// Judged is how one guard judged a plan.
type Judged struct {
	Guard policy.GuardID `json:"guard"`
	Code  policy.Code    `json:"code"`
}

// Fingerprint is the same for two outlooks that mean the same to whoever agrees to
// one: the same steps with the same bounds, the same answers of the guards, the
// same sessions that end, the same units that stop. Whatever else the host does
// between two looks is not in it: other sessions and processes, measures, who of
// a session holds the GPU, what starts (polkit does, whenever somebody asks for
// something), and the words.
func (o Context) Fingerprint(judged []Judged) string {
	type session struct {
		ID, Seat, Class, Type string
		UID                   uint32
	}
	type stopped struct {
		Unit      string
		Transient bool
	}
	matters := struct {
		Format   int // raised when the same plan gets another fingerprint
		To       policy.Mode
		Reached  bool
		Steps    []Step
		Judged   []Judged
		Sessions []session
		Stops    []stopped
		Refused  string
		Unread   bool
	}{Format: 2, To: o.To, Reached: o.Reached, Steps: o.Steps, Judged: judged, Unread: !o.Impact.Known()}
	for _, s := range o.Ends(o.Snapshot) {
		matters.Sessions = append(matters.Sessions, session{s.ID, s.Seat, s.Class, s.Type, s.UID})
	}
	for _, c := range o.Impact.StoppedUnits() {
		if o.Started(c.Unit) {
			continue
		}
		matters.Stops = append(matters.Stops, stopped{c.Unit, c.Transient})
	}
	if i := o.Impact.Isolation; i != nil {
		matters.Refused = i.Refused
	}
	data, err := json.Marshal(matters)
	if err != nil {
		panic("a plan is not plain data: " + err.Error())
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:16])
}

// Started reports whether a step of the plan starts the unit of that Id.
func (o Context) Started(unit string) bool {
	return slices.ContainsFunc(o.Steps, func(s Step) bool { return s.Kind == StartUnit && o.Impact.ID(s.Unit) == unit })
}

// Words say what a step does, for people.
type Words struct {
	Does string
	// Undo says how it is taken back when a later step fails; empty when it changes
	// nothing.
	Undo string
	// Changes are what it changes, a line each like "CPUWeight of user.slice: 100 ->
	// 20", where Does is not enough.
	Changes []string
}

// Describe puts a step of the plan into words.
func (o Context) Describe(s Step) Words {
	switch s.Kind {
	case StartUnit:
		return Words{Does: "start " + s.Unit, Undo: "stop " + s.Unit}
	case StopUnit:
		return Words{Does: "stop " + s.Unit, Undo: "start " + s.Unit}
	case EndSessions:
		return Words{
			Does: fmt.Sprintf("end %s: ask, and kill after %s", count(len(o.Ends(o.Snapshot)), "session"), s.Grace),
			Undo: s.Kind.Irreversible(),
		}
	case StopVLLM:
		return Words{
			Does: "stop " + s.Unit + ", until nothing of it has a GPU", Undo: "start " + s.Unit,
			Changes: workerWords(s.Units),
		}
	case AskSessions:
		return Words{
			Does: fmt.Sprintf("ask %s to end, for %s at most", count(len(o.Ends(o.Snapshot)), "session"), s.Grace),
			Undo: s.Kind.Irreversible(),
		}
	case EndManagers:
		return Words{
			Does: fmt.Sprintf("wait until what %s left lets go of the GPU, and stop their user managers after %s",
				count(len(s.Users), "user"), s.Grace),
			Undo: "start again those that logind keeps for somebody",
		}
	case Isolate:
		return Words{
			Does: fmt.Sprintf("isolate %s, which stops %s", s.Unit, o.isolated()),
			Undo: "start again what was there before" + o.forGood(),
		}
	case SetSlices:
		return Words{
			Does: "set " + count(len(s.Slices), "value") + " of slices", Undo: "give them back what they had",
			Changes: sliceWords(s.Slices),
		}
	case Quiesce:
		return Words{Does: "stop maintenance: " + strings.Join(s.Units, ", "), Undo: "start again those that were up"}
	case Resume:
		return Words{Does: "start maintenance again: " + strings.Join(s.Units, ", "), Undo: "stop it again"}
	case Gate:
		return Words{Does: fmt.Sprintf("wait until %s passes", s.Guard)}
	case Drain:
		return Words{Does: "wait until vLLM has nothing in flight"}
	case AwaitHealthy:
		return Words{Does: "wait until " + s.Unit + " is healthy"}
	}
	return Words{}
}

func (o Context) isolated() string {
	if i := o.Impact.Isolation; i != nil {
		return count(len(i.Stops), "unit")
	}
	return "units that could not be told"
}

// forGood says how many of the units that isolate stops do not come back.
func (o Context) forGood() string {
	if o.Impact.Isolation == nil {
		return ""
	}
	hasFile := func(c unitgraph.StoppedUnit) bool { return !c.Transient }
	gone := len(slices.DeleteFunc(slices.Clone(o.Impact.Isolation.Stops), hasFile))
	if gone == 0 {
		return ""
	}
	return fmt.Sprintf(", except %s without a file", count(gone, "unit"))
}

// workerWords are a line for each further unit in which workers of vLLM are ended.
func workerWords(units []string) []string {
	var lines []string
	for _, unit := range units {
		lines = append(lines, "what has a GPU in "+unit+" then is killed with all of it")
	}
	return lines
}

// sliceWords are a line for each change, old and new.
func sliceWords(changes []SliceChange) []string {
	word := func(v string) string {
		if v == "" {
			return "not set"
		}
		return v
	}
	lines := make([]string, len(changes))
	for i, c := range changes {
		old := "unknown"
		if c.Old != nil {
			old = word(*c.Old)
		}
		lines[i] = fmt.Sprintf("%s of %s: %s -> %s", c.Property, c.Slice, old, word(c.New))
	}
	return lines
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
