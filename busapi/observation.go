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
	for _, s := range facts.Names() {
		fact, name := facts[s], text(string(s))
		if fact.Truth == observer.Unknown {
			d[name+suffixKnown] = dbus.MakeVariant(false)
			d[name+suffixReason] = textVariant(fact.Reason)
			continue
		}
		if fact.Word != "" {
			d[name] = textVariant(fact.Word)
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
		} else if word, ok := d[key].Value().(string); ok && !strings.HasSuffix(key, suffixReason) {
			facts[observer.Signal(key)] = observer.Fact{Truth: truth(word != policy.ProfileOff), Word: word}
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
	// Snapshot is what the sources saw, and Fingerprint its own before anything
	// was redacted.
	Snapshot    observer.Snapshot
	Fingerprint string
	// Redacted: what other people's processes are is left out.
	Redacted bool
	// Policy is the daemon's, as TOML.
	Policy string
}

// EncodeEvidence is the reply of Observe: the evidence in full.
func EncodeEvidence(e Evidence) Dict {
	o := e.Observation
	facts := Dict{}
	for s, f := range o.Facts {
		facts[text(string(s))] = dbus.MakeVariant(encodeStruct(f))
	}
	d := encodeStruct(e.Snapshot)
	for key, value := range map[string]any{
		"state":       text(string(o.State)),
		"inferred":    text(string(o.Inferred)),
		"confidence":  text(string(o.Confidence)),
		"rule":        text(string(o.Rule)),
		"context":     encodeStruct(o.Context),
		"reasons":     dicts(o.Reasons, encodeReason),
		"conflicts":   dicts(o.Conflicts, encodeReason),
		"facts":       facts,
		"fingerprint": text(e.Fingerprint),
		"redacted":    e.Redacted,
		"policy":      text(e.Policy),
	} {
		d[key] = dbus.MakeVariant(value)
	}
	putTime(d, "at", o.At)
	putTime(d, "since", e.Since)
	putTime(d, "expires", o.Expires)
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
			Rule:       word[observer.Rule](r, "rule"),
			Reasons:    list(r, "reasons", decodeReason),
			Conflicts:  list(r, "conflicts", decodeReason),
			Facts:      observer.Facts{},
			At:         moment(r, "at"),
			Expires:    moment(r, "expires"),
		},
		Since:       moment(r, "since"),
		Fingerprint: get[string](r, "fingerprint"),
		Redacted:    get[bool](r, "redacted"),
		Policy:      get[string](r, "policy"),
	}
	r.structure(decodeStruct(get[Dict](r, "context"), &e.Observation.Context))
	r.structure(decodeStruct(d, &e.Snapshot))
	facts := &reader{dict: get[Dict](r, "facts")}
	for name := range facts.dict {
		var fact observer.Fact
		if err := decodeStruct(get[Dict](facts, name), &fact); err != nil {
			r.fail(fmt.Errorf("%s: %w", name, err))
		}
		e.Observation.Facts[observer.Signal(name)] = fact
	}
	r.structure(facts.err)
	return e, r.finish("the evidence")
}
