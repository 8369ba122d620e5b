package observer

import (
	"slices"
	"time"

	"github.com/dubnium/dubnium/policy"
)

// Explanation says why a host is called what it is called, and why it is called
// nothing else.
type Explanation struct {
	State      State       `json:"state"`
	Inferred   policy.Mode `json:"inferred"`
	Confidence Confidence  `json:"confidence"`
	At         time.Time   `json:"at,omitzero"`
	// Rule gave the state its name, Reasons are those of the observation, and
	// Decided are the facts that the rule looked at.
	Rule    Rule      `json:"rule"`
	Reasons []Reason  `json:"reasons"`
	Decided []Finding `json:"decided"`
	// Modes has an entry for each mode.
	Modes []WhyNot `json:"modes"`
	// Contract is that of the one mode that the explanation is about.
	Contract *Contract `json:"contract,omitempty"`
}

// Finding is a fact with what it would have to be.
type Finding struct {
	Signal Signal `json:"signal"`
	// Want is what the mode's contract asks for; unknown when nothing is asked.
	Want Truth `json:"want"`
	Fact
	// Stale: the fact is older than its bound.
	Stale bool `json:"stale"`
}

// WhyNot says what stands against a mode.
type WhyNot struct {
	Mode     policy.Mode `json:"mode"`
	Observed bool        `json:"observed"`
	// Against are the facts of the mode's contract that are not what they would
	// have to be, and Because what is no fact of the host. Both are empty if and
	// only if the mode is observed.
	Against []Finding `json:"against"`
	Because []Reason  `json:"because"`
}

// Explain explains an observation. It is pure: the same rules that classified
// say what they looked at.
func Explain(p policy.Policy, o Observation) Explanation {
	e := Explanation{
		State: o.State, Inferred: o.Inferred, Confidence: o.Confidence, At: o.At, Rule: o.Rule, Reasons: o.Reasons,
	}
	for _, c := range o.decidingClauses(p) {
		e.Decided = append(e.Decided, o.finding(c))
	}
	for _, mode := range policy.Modes() {
		e.Modes = append(e.Modes, o.whyNot(p, mode))
	}
	return e
}

// Of narrows the explanation to one mode: what stands against it, and its contract.
func (e Explanation) Of(p policy.Policy, mode policy.Mode) Explanation {
	e.Contract = ContractOf(p, mode)
	e.Modes = slices.DeleteFunc(slices.Clone(e.Modes), func(w WhyNot) bool { return w.Mode != mode })
	return e
}

func (o Observation) finding(c clause) Finding {
	fact := o.Facts[c.signal]
	return Finding{Signal: c.signal, Want: c.want, Fact: fact, Stale: fact.Stale(o.At)}
}

func (o Observation) whyNot(p policy.Policy, mode policy.Mode) WhyNot {
	w := WhyNot{Mode: mode, Observed: o.Is(mode)}
	for _, c := range requirement(p, mode, o.Facts) {
		if o.Facts.Is(c.signal) != c.want {
			w.Against = append(w.Against, o.finding(c))
		}
	}
	for _, c := range softRequirements(p, mode) {
		if violates(c, o.Facts[c.signal]) {
			w.Against = append(w.Against, o.finding(c))
		}
	}
	w.Because = wrongHost(p, mode)
	if o.Context.InFlight {
		w.Because = append(w.Because, Reason{string(RuleTransition), "a transition runs"})
	}
	if booting(o.Facts) && o.Facts.Is(ManagerStarted) != False {
		w.Because = append(w.Because, bootReasons(o.Facts)...)
	}
	if o.Context.LastFailed && o.Context.Desired != mode {
		w.Because = append(w.Because, notWhereAsked(o.Context))
	}
	return w
}

// requirement is everything that has to hold for a host with these facts to be called
// mode.
func requirement(p policy.Policy, mode policy.Mode, f Facts) []clause {
	return append(indicatorClauses(mode), contract(p, mode, f)...)
}

// decidingClauses are the facts that the observation's rule looked at, with what they
// would have to be.
func (o Observation) decidingClauses(p policy.Policy) []clause {
	switch o.Rule {
	case RuleBoot:
		return asked(decidingSources)
	case RuleConflict:
		found := asked([]Signal{ComputeTarget})
		for _, c := range contradictions(p) {
			if o.Facts.Is(c.signal) == c.want {
				found = append(found, clause{signal: c.signal})
			}
		}
		return found
	case RuleNotWhereAsked, RuleTargetsUnknown, RuleNoTarget:
		return asked(modeIndicators)
	case RuleContract:
		return append(requirement(p, o.Inferred, o.Facts), softRequirements(p, o.Inferred)...)
	}
	return nil
}

func asked(signals []Signal) []clause {
	clauses := make([]clause, len(signals))
	for i, s := range signals {
		clauses[i] = clause{signal: s}
	}
	return clauses
}
