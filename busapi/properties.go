package busapi

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// Properties are the properties of the interface at one moment. Of a fact they have the
// truth, or the reason why it is unknown; Observe returns the rest.
type Properties struct {
	Version string
	Modes   []policy.Mode
	View    status.View
}

// unannounced are the properties whose changes emit no signal (EmitsChangedSignal).
var unannounced = map[string]bool{"Version": true, "ObservedAt": true}

// properties are the properties by their names.
type properties struct {
	Version        string
	Modes          []policy.Mode
	DesiredMode    policy.Mode
	DesiredOrigin  status.Origin
	DesiredBy      string
	DesiredSince   time.Time `bus:",always"`
	ObservedState  observer.State
	ObservedSince  time.Time `bus:",always"`
	ObservedAt     time.Time `bus:",always"`
	Confidence     observer.Confidence
	Degraded       []observer.Reason
	Conflicts      []observer.Reason
	Signals        Dict
	Converged      bool
	Transition     *status.Transition `bus:",always"`
	LastTransition *status.Record     `bus:",always"`
	BlockedBy      []guards.Verdict
	Inhibitors     []status.Inhibitor
	Placement      map[string]policy.Place `bus:"a{ss}"`
	Topology       observer.Topology
	Lease          *status.Lease `bus:",always"`
	AutoReconcile  status.AutoReconcile
	Warnings       []observer.Reason
}

// EncodeProperties is the reply of GetAll.
func EncodeProperties(p Properties) Dict {
	v, o := p.View, p.View.Observation
	return encode(properties{
		Version: p.Version, Modes: p.Modes,
		DesiredMode: v.Desired.Mode, DesiredOrigin: v.Desired.Origin,
		DesiredBy: v.Desired.By, DesiredSince: v.Desired.Since,
		ObservedState: o.State, ObservedSince: v.ObservedSince, ObservedAt: o.At, Confidence: o.Confidence,
		Degraded: o.Reasons, Conflicts: o.Conflicts, Signals: encodeSignals(o.Facts), Converged: v.Converged(),
		Transition: v.Running, LastTransition: v.Last, BlockedBy: v.BlockedBy, Inhibitors: v.Inhibitors,
		Placement: v.Placement, Topology: v.Topology, Lease: v.Lease, AutoReconcile: v.Reconcile, Warnings: v.Warnings,
	})
}

// DecodeProperties decodes what EncodeProperties encoded. Converged is not decoded: the
// view computes it from the state and the desired mode.
func DecodeProperties(d Dict) (Properties, error) {
	p, err := decode[properties](d, "the properties")
	if err != nil {
		return Properties{}, err
	}
	facts, err := decodeSignals(p.Signals)
	return Properties{p.Version, p.Modes, status.View{
		Desired: status.Desired{Mode: p.DesiredMode, Origin: p.DesiredOrigin, By: p.DesiredBy, Since: p.DesiredSince},
		Observation: observer.Observation{
			State: p.ObservedState, Inferred: modeOf(p.ObservedState), Confidence: p.Confidence,
			Reasons: p.Degraded, Conflicts: p.Conflicts, Facts: facts, At: p.ObservedAt,
		},
		ObservedSince: p.ObservedSince, Running: p.Transition, Last: p.LastTransition,
		BlockedBy: p.BlockedBy, Inhibitors: p.Inhibitors, Placement: p.Placement, Topology: p.Topology,
		Lease: p.Lease, Reconcile: p.AutoReconcile, Warnings: p.Warnings,
	}}, err
}

// modeOf is the mode that a state names, healthy or degraded; empty for other states,
// whose inferred mode is not part of the properties.
func modeOf(s observer.State) policy.Mode {
	mode, err := policy.ParseMode(strings.TrimPrefix(string(s), "degraded-"))
	if err != nil {
		return ""
	}
	return mode
}

// Changed lists the properties of now that differ from before and are announced.
func Changed(before, now Dict) Dict {
	changed := Dict{}
	for name, value := range now {
		if !unannounced[name] && !reflect.DeepEqual(before[name].Value(), value.Value()) {
			changed[name] = value
		}
	}
	return changed
}

// Suffixes of the keys of an unknown signal in Signals.
const (
	suffixKnown  = "_known"
	suffixReason = "_reason"
)

// encodeSignals is the property Signals. It has neither the times nor the reasons of
// known facts: they change with every snapshot, which would wake every subscriber.
func encodeSignals(facts observer.Facts) Dict {
	d := Dict{}
	for _, s := range facts.Names() {
		fact, name := facts[s], text(string(s))
		switch value := fact.Value().(type) {
		case nil:
			d[name+suffixKnown], d[name+suffixReason] = dbus.MakeVariant(false), dbus.MakeVariant(text(fact.Reason))
		case string:
			d[name] = dbus.MakeVariant(text(value))
		default:
			d[name] = dbus.MakeVariant(value)
		}
	}
	return d
}

// decodeSignals decodes what encodeSignals encoded, including signals that this version
// does not know.
func decodeSignals(d Dict) (observer.Facts, error) {
	facts := observer.Facts{}
	for key, variant := range d {
		name, unknown := strings.CutSuffix(key, suffixKnown)
		switch value := variant.Value().(type) {
		case bool:
			facts[observer.Signal(name)] = observer.Fact{Truth: truth(value)}
			if unknown {
				reason, _ := d[name+suffixReason].Value().(string)
				facts[observer.Signal(name)] = observer.Fact{Reason: reason}
			}
		case string:
			if !strings.HasSuffix(key, suffixReason) {
				facts[observer.Signal(key)] = observer.Fact{Truth: truth(value != policy.ProfileOff), Word: value}
			}
		default:
			err := within(key, mismatch(value, reflect.TypeFor[bool]()))
			return nil, fmt.Errorf("cannot decode the signals: %w", err)
		}
	}
	return facts, nil
}

func truth(b bool) observer.Truth {
	if b {
		return observer.True
	}
	return observer.False
}
