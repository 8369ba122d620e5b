package observer

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dubnium/dubnium/policy"
)

// Classify derives the observed state from a snapshot, as of at. It is pure and total: every
// snapshot has a state, and the state is never a mode while a fact of that mode's contract
// contradicts it or is unknown.
func Classify(p policy.Policy, s Snapshot, c Context, at time.Time) Observation {
	f := Derive(p, s)
	end := f.grace(p, s, at)
	o := decide(p, f, c, at)
	if !end.IsZero() && (o.Expires.IsZero() || end.Before(o.Expires)) {
		o.Expires = end
	}
	return o
}

// decide applies the rules of docs/architecture.md, "Observed state". The first one that matches
// determines the state.
func decide(p policy.Policy, f Facts, c Context, at time.Time) Observation {
	o := Observation{Facts: f, At: at, Confidence: High, Context: c}
	var targets Truth
	o.Inferred, targets = infer(f)
	unsafe := conflicts(p, f)
	o.Conflicts = append(slices.Clone(unsafe), disagreements(p, f)...)

	switch {
	case c.InFlight:
		o.State, o.Rule = Transitioning, RuleTransition
	case booting(f):
		o.State, o.Rule, o.Confidence = Boot, RuleBoot, Low
		o.Reasons = bootReasons(f)
	case len(unsafe) > 0 && c.LastFailed:
		o.State, o.Rule = FailedTransition, RuleConflict
		o.Reasons = unsafe
	case len(unsafe) > 0:
		o.State, o.Rule = StateUnknown, RuleConflict
		o.Reasons = unsafe
	case c.LastFailed && o.Inferred != c.Desired:
		o.State, o.Rule = FailedTransition, RuleNotWhereAsked
		o.Reasons = []Reason{notWhereAsked(c)}
	case targets == Unknown:
		o.State, o.Rule, o.Confidence = StateUnknown, RuleTargetsUnknown, Low
		o.Reasons = unknownReasons(f)
	case o.Inferred == "":
		o.State, o.Rule = StateUnknown, RuleNoTarget
		o.Reasons = []Reason{
			{"no-mode-target", fmt.Sprintf("neither %s nor %s is active", p.Units.DesktopTarget, p.Units.ComputeTarget)},
		}
	default:
		o.Rule = RuleContract
		o.judgeContract(p)
	}
	o.judgeAge(p)
	return o
}

func notWhereAsked(c Context) Reason {
	return Reason{
		"not-where-asked", fmt.Sprintf("the last transition did not reach %s and the host is not in it", c.Desired),
	}
}

// judgeAge lowers the confidence if a deciding fact is stale; otherwise it sets Expires to the
// time at which the first one becomes stale.
func (o *Observation) judgeAge(p policy.Policy) {
	for _, c := range o.decidingClauses(p) {
		fact := o.Facts[c.signal]
		if fact.Bound <= 0 || fact.At.IsZero() {
			continue
		}
		if fact.Stale(o.At) {
			o.Confidence = Low
		} else if end := fact.At.Add(fact.Bound); o.Expires.IsZero() || end.Before(o.Expires) {
			o.Expires = end
		}
	}
}

// modeIndicators are the facts that determine which mode the host is in, if any.
var modeIndicators = []Signal{ManagerStarted, DesktopTarget, ComputeTarget, StudioPolicy}

// indicated lists the modes with the indicators that are true in them beside ManagerStarted; all
// others are false. The inferred mode is the first one whose indicators are all true.
var indicated = []struct {
	mode policy.Mode
	by   []Signal
}{
	{policy.Compute, []Signal{ComputeTarget}},
	{policy.StudioLocal, []Signal{DesktopTarget, StudioPolicy}},
	{policy.Desktop, []Signal{DesktopTarget}},
}

// infer returns the mode that the indicators determine, empty for none. It returns Unknown if any
// indicator is unknown.
func infer(f Facts) (policy.Mode, Truth) {
	if slices.ContainsFunc(modeIndicators, func(s Signal) bool { return f.Is(s) == Unknown }) {
		return "", Unknown
	}
	for _, m := range indicated {
		if !slices.ContainsFunc(m.by, func(s Signal) bool { return f.Is(s) != True }) {
			return m.mode, True
		}
	}
	return "", True
}

// indicatorClauses returns the values that a mode requires of the indicators.
func indicatorClauses(mode policy.Mode) []clause {
	var all []clause
	for _, m := range indicated {
		if m.mode != mode {
			continue
		}
		for _, s := range modeIndicators {
			want := truth(s == ManagerStarted || slices.Contains(m.by, s))
			all = append(all, clause{signal: s, want: want, deciding: true})
		}
	}
	return all
}

// contradictions are the facts that must not hold while the compute target is active. A host with
// one of them is not called by any mode.
func contradictions(p policy.Policy) []clause {
	all := []clause{
		{DesktopTarget, True, true, "two-mode-targets", "the desktop target and the compute target are both active"},
		{GraphicalSession, True, true, "compute-with-session", "the compute target is active with a graphical session"},
		{
			DisplayReleased, False, true, "compute-with-display-holder",
			"the compute target is active with a display GPU in use",
		},
		{StudioPolicy, True, true, "compute-with-studio", "the compute target is active with the studio overlay"},
	}
	if len(p.GPU.Display) > 0 {
		all = append(
			all,
			clause{
				DisplayGraphics, True, true, "compute-with-display-graphics",
				"the compute target is active with graphics on a display GPU",
			},
		)
	}
	return all
}

// conflicts lists the contradictions that hold.
func conflicts(p policy.Policy, f Facts) []Reason {
	if f.Is(ComputeTarget) != True {
		return nil
	}
	var found []Reason
	for _, c := range contradictions(p) {
		if fact := f[c.signal]; fact.Truth == c.want {
			found = append(found, Reason{c.code, c.text + ": " + fact.Reason})
		}
	}
	return found
}

// decidingSources has a fact of each source that must have been read once before the state can be
// anything but Boot.
var decidingSources = []Signal{ManagerStarted, GraphicalSession, DisplayReleased, AudioStack}

func booting(f Facts) bool {
	for _, s := range decidingSources {
		if f[s].At.IsZero() {
			return true
		}
	}
	return f.Is(ManagerStarted) == False
}

func bootReasons(f Facts) []Reason {
	if f.Is(ManagerStarted) == False {
		return []Reason{{"manager-starting", f[ManagerStarted].Reason}}
	}
	return []Reason{{"not-looked-yet", "not every source has been read since the daemon started"}}
}

func unknownReasons(f Facts) []Reason {
	var reasons []Reason
	for _, s := range modeIndicators {
		if f.Is(s) == Unknown {
			reasons = append(reasons, Reason{code(s) + "-unknown", f[s].Reason})
		}
	}
	return reasons
}

func code(s Signal) string {
	if _, ok := ofUnit(s); ok {
		return "unit-active" // the text names the unit
	}
	return strings.ReplaceAll(string(s), "_", "-")
}

// clause requires one value of one fact. If a deciding clause is unknown, the state is unknown;
// every other violation or unknown degrades the mode.
type clause struct {
	signal   Signal
	want     Truth
	deciding bool
	code     string
	text     string
}

// contract lists what a mode requires beyond its indicators. It depends on the facts because some
// clauses apply only while somebody is logged in.
func contract(p policy.Policy, mode policy.Mode, f Facts) []clause {
	return append(ownContract(p, mode, f), unitClauses(p, mode)...)
}

// ownContract is the part of the contract that the policy cannot change.
func ownContract(p policy.Policy, mode policy.Mode, f Facts) []clause {
	vllm := vllmClauses(p, mode, f)
	switch mode {
	case policy.Compute:
		return append([]clause{
			{GraphicalSession, False, true, "session-present", "a graphical session exists"},
			{DisplayReleased, True, true, "display-held", "a display GPU is in use"},
			{Greeter, False, true, "greeter-present", "a graphical greeter is up"},
			{DisplayManager, False, true, "display-manager-active", "the display manager runs"},
		}, vllm...)
	case policy.StudioLocal:
		return slices.Concat([]clause{{GraphicalSession, True, true, "no-session", "nobody is logged in"}}, vllm, []clause{
			{AudioPriority, True, false, "audio-priority-not-active", "the audio priority helper does not run"},
		}, audioClause(p, f))
	default:
		return slices.Concat([]clause{
			{DesktopPresence, True, true, "no-session-or-greeter", "nobody is logged in and nobody can log in"},
		}, vllm, []clause{
			{AudioPriority, False, false, "audio-priority-active", "the audio priority helper runs without its overlay"},
		}, freshAudioClause(p, f))
	}
}

// judgeContract sets the state of a host whose inferred mode is known.
func (o *Observation) judgeContract(p policy.Policy) {
	for _, c := range contract(p, o.Inferred, o.Facts) {
		fact := o.Facts[c.signal]
		switch {
		case fact.Truth == c.want:
		case fact.Truth == Unknown && c.deciding:
			o.State, o.Confidence = StateUnknown, Low
			o.Reasons = append(o.Reasons, Reason{code(c.signal) + "-unknown", fact.Reason})
		case fact.Truth == Unknown:
			o.Confidence = Medium
			o.Reasons = append(o.Reasons, Reason{code(c.signal) + "-unknown", fact.Reason})
		default:
			o.Reasons = append(o.Reasons, Reason{c.code, c.text + ": " + fact.Reason})
		}
	}
	o.judgeSecondary(p)
	o.Reasons = append(o.Reasons, wrongHost(p, o.Inferred)...)
	switch {
	case o.State == StateUnknown:
	case len(o.Reasons) > 0:
		o.State = DegradedOf(o.Inferred)
	default:
		o.State = Of(o.Inferred)
	}
}
