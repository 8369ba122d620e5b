package observer

import (
	"slices"
	"time"

	"github.com/dubnium/dubnium/policy"
)

// Explanation explains the observed state: the facts that decided it, and for each mode the facts
// that violate its contract.
type Explanation struct {
	State      State       `json:"state"`
	Inferred   policy.Mode `json:"inferred"`
	Confidence Confidence  `json:"confidence"`
	At         time.Time   `json:"at,omitzero"`
	// Rule determined the state, Reasons are those of the observation, and Decided are the
	// facts that the rule evaluated.
	Rule    Rule      `json:"rule"`
	Reasons []Reason  `json:"reasons"`
	Decided []Finding `json:"decided"`
	// Modes has an entry for each mode.
	Modes []WhyNot `json:"modes"`
	// Contract is set by Of only: the contract of that mode.
	Contract *Contract `json:"contract,omitempty"`
}

// Finding is a fact with the value that it should have.
type Finding struct {
	Signal Signal `json:"signal"`
	// Want is the value that the contract requires, Unknown for none.
	Want Truth `json:"want"`
	Fact
	// Stale: the fact is older than its bound.
	Stale bool `json:"stale"`
}

// WhyNot lists what keeps the host from being observed in a mode.
type WhyNot struct {
	Mode     policy.Mode `json:"mode"`
	Observed bool        `json:"observed"`
	// Against are the facts that violate the contract, and Because the reasons that are not
	// facts of the host. Both are empty if and only if the mode is observed.
	Against []Finding `json:"against"`
	Because []Reason  `json:"because"`
}

// Explain explains an observation. It is pure, and applies the same rules as Classify.
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

// Of narrows the explanation to one mode, and adds the contract of the mode.
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
	for _, c := range requirements(p, mode, o.Facts) {
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
		w.Because = append(w.Because, Reason{string(RuleTransition), "a transition is running"})
	}
	if booting(o.Facts) && o.Facts.Is(ManagerStarted) != False {
		w.Because = append(w.Because, bootReasons(o.Facts)...)
	}
	if o.Context.LastFailed && o.Context.Desired != mode {
		w.Because = append(w.Because, notWhereAsked(o.Context))
	}
	return w
}

// requirements lists everything that must hold for a host with these facts to be observed in mode.
func requirements(p policy.Policy, mode policy.Mode, f Facts) []clause {
	return append(indicatorClauses(mode), contract(p, mode, f)...)
}

// decidingClauses lists the facts that the rule of the observation evaluated, with the values that
// it requires.
func (o Observation) decidingClauses(p policy.Policy) []clause {
	switch o.Rule {
	case RuleBoot:
		return anyValue(decidingSources)
	case RuleConflict:
		found := anyValue([]Signal{ComputeTarget})
		for _, c := range contradictions(p) {
			if o.Facts.Is(c.signal) == c.want {
				found = append(found, clause{signal: c.signal})
			}
		}
		return found
	case RuleNotWhereAsked, RuleTargetsUnknown, RuleNoTarget:
		return anyValue(modeIndicators)
	case RuleContract:
		return append(requirements(p, o.Inferred, o.Facts), softRequirements(p, o.Inferred)...)
	}
	return nil
}

// anyValue returns clauses that require no value.
func anyValue(signals []Signal) []clause {
	clauses := make([]clause, len(signals))
	for i, s := range signals {
		clauses[i] = clause{signal: s}
	}
	return clauses
}
