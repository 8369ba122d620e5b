package busapi

import (
	"fmt"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// Suffixes of the keys that stand in Signals for a signal that is not known.
const (
	suffixKnown  = "_known"
	suffixReason = "_reason"
)

// encodeSignals is the property Signals. It carries neither the times nor the
// words of known facts: they move with every look, and each look would wake
// every subscriber.
func encodeSignals(facts observer.Facts) Dict {
	d := Dict{}
	for _, s := range observer.Signals() {
		fact, name := facts[s], string(s)
		if fact.Truth == observer.Unknown {
			d[name+suffixKnown] = dbus.MakeVariant(false)
			d[name+suffixReason] = textVariant(fact.Reason)
			continue
		}
		d[name] = dbus.MakeVariant(fact.Truth == observer.True)
	}
	return d
}

// decodeSignals reads what encodeSignals wrote; a newer daemon's signals
// included, which a list of our own would lose.
func decodeSignals(d Dict) (observer.Facts, error) {
	r := &reader{dict: d}
	facts := observer.Facts{}
	for key := range d {
		if name, ok := strings.CutSuffix(key, suffixKnown); ok {
			facts[observer.Signal(name)] = observer.Fact{Reason: get[string](r, name+suffixReason)}
		} else if !strings.HasSuffix(key, suffixReason) {
			facts[observer.Signal(key)] = observer.Fact{Truth: truth(get[bool](r, key))}
		}
	}
	return facts, r.finish("the signals")
}

func truth(b bool) observer.Truth {
	if b {
		return observer.True
	}
	return observer.False
}

func encodeReason(r observer.Reason) Dict {
	return Dict{"code": textVariant(r.Code), "text": textVariant(r.Text)}
}

func decodeReason(d Dict) (observer.Reason, error) {
	r := &reader{dict: d}
	reason := observer.Reason{Code: get[string](r, "code"), Text: get[string](r, "text")}
	return reason, r.finish("a reason")
}

// Evidence is the reply of Observe.
type Evidence struct {
	Observation observer.Observation
	// Since is when the observed state last changed.
	Since time.Time
}

// EncodeEvidence is the reply of Observe: the evidence in full.
func EncodeEvidence(e Evidence) Dict {
	o := e.Observation
	facts := Dict{}
	for s, f := range o.Facts {
		facts[text(string(s))] = dbus.MakeVariant(encodeFact(f))
	}
	d := Dict{
		"state":      textVariant(o.State),
		"inferred":   textVariant(o.Inferred),
		"confidence": textVariant(o.Confidence),
		"reasons":    dbus.MakeVariant(dicts(o.Reasons, encodeReason)),
		"conflicts":  dbus.MakeVariant(dicts(o.Conflicts, encodeReason)),
		"facts":      dbus.MakeVariant(facts),
	}
	putTime(d, "at", o.At)
	putTime(d, "since", e.Since)
	return d
}

// DecodeEvidence reads what EncodeEvidence wrote.
func DecodeEvidence(d Dict) (Evidence, error) {
	r := &reader{dict: d}
	e := Evidence{
		Observation: observer.Observation{
			State:      word[observer.State](r, "state"),
			Inferred:   word[policy.Mode](r, "inferred"),
			Confidence: word[observer.Confidence](r, "confidence"),
			Reasons:    list(r, "reasons", decodeReason),
			Conflicts:  list(r, "conflicts", decodeReason),
			Facts:      observer.Facts{},
			At:         moment(r, "at"),
		},
		Since: moment(r, "since"),
	}
	facts := &reader{dict: get[Dict](r, "facts")}
	for name := range facts.dict {
		fact, err := decodeFact(get[Dict](facts, name))
		if err != nil {
			r.fail(fmt.Errorf("%s: %w", name, err))
		}
		e.Observation.Facts[observer.Signal(name)] = fact
	}
	if facts.err != nil {
		r.fail(facts.err)
	}
	return e, r.finish("the evidence")
}

func encodeFact(f observer.Fact) Dict {
	d := Dict{
		"truth":  dbus.MakeVariant(f.Truth.String()),
		"source": textVariant(f.Source),
		"reason": textVariant(f.Reason),
	}
	putTime(d, "at", f.At)
	return d
}

func decodeFact(d Dict) (observer.Fact, error) {
	r := &reader{dict: d}
	f := observer.Fact{Source: get[string](r, "source"), Reason: get[string](r, "reason"), At: moment(r, "at")}
	switch get[string](r, "truth") {
	case observer.True.String():
		f.Truth = observer.True
	case observer.False.String():
		f.Truth = observer.False
	}
	return f, r.finish("a fact")
}
