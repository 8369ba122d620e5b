package busapi

import (
	"reflect"
	"strings"

	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// Properties is everything the interface's properties say, at one moment. Of
// the facts only their truth travels, and of unknown ones the reason; Observe
// returns the rest.
type Properties struct {
	Version string
	Modes   []policy.Mode
	View    status.View
}

// unannounced are the properties that EmitsChangedSignal says nothing is sent for.
var unannounced = map[string]bool{"Version": true, "ObservedAt": true}

// EncodeProperties is the reply of GetAll.
func EncodeProperties(p Properties) Dict {
	v, o := p.View, p.View.Observation
	return Dict{
		"Version":        textVariant(p.Version),
		"Modes":          dbus.MakeVariant(words(p.Modes)),
		"DesiredMode":    textVariant(v.Desired.Mode),
		"DesiredOrigin":  textVariant(v.Desired.Origin),
		"DesiredBy":      textVariant(v.Desired.By),
		"DesiredSince":   dbus.MakeVariant(micros(v.Desired.Since)),
		"ObservedState":  textVariant(o.State),
		"ObservedSince":  dbus.MakeVariant(micros(v.ObservedSince)),
		"ObservedAt":     dbus.MakeVariant(micros(o.At)),
		"Confidence":     textVariant(o.Confidence),
		"Degraded":       dbus.MakeVariant(dicts(o.Reasons, encodeReason)),
		"Conflicts":      dbus.MakeVariant(dicts(o.Conflicts, encodeReason)),
		"Signals":        dbus.MakeVariant(encodeSignals(o.Facts)),
		"Converged":      dbus.MakeVariant(v.Converged()),
		"Transition":     dbus.MakeVariant(EncodeTransition(v.Running)),
		"LastTransition": dbus.MakeVariant(EncodeRecord(v.Last)),
		"BlockedBy":      dbus.MakeVariant(dicts(v.BlockedBy, encodeVerdict)),
		"Inhibitors":     dbus.MakeVariant(dicts(v.Inhibitors, encodeInhibitor)),
		"Placement":      dbus.MakeVariant(encodePlacement(v.Placement)),
		"Topology":       dbus.MakeVariant(encodeStruct(v.Topology)),
		"Lease":          dbus.MakeVariant(encodeLease(v.Lease)),
		"AutoReconcile":  dbus.MakeVariant(encodeStruct(v.Reconcile)),
		"Warnings":       dbus.MakeVariant(dicts(v.Warnings, encodeReason)),
	}
}

// DecodeProperties reads what EncodeProperties wrote. Converged is not read: the
// view computes it from the same two words.
func DecodeProperties(d Dict) (Properties, error) {
	r := &reader{dict: d}
	p := Properties{Version: get[string](r, "Version"), Modes: readWords[policy.Mode](r, "Modes")}
	p.View = status.View{
		Desired: status.Desired{
			Mode:   word[policy.Mode](r, "DesiredMode"),
			Origin: word[status.Origin](r, "DesiredOrigin"),
			By:     get[string](r, "DesiredBy"),
			Since:  moment(r, "DesiredSince"),
		},
		Observation: observer.Observation{
			State:      word[observer.State](r, "ObservedState"),
			Confidence: word[observer.Confidence](r, "Confidence"),
			Reasons:    list(r, "Degraded", decodeReason),
			Conflicts:  list(r, "Conflicts", decodeReason),
			At:         moment(r, "ObservedAt"),
		},
		ObservedSince: moment(r, "ObservedSince"),
		BlockedBy:     list(r, "BlockedBy", decodeVerdict),
		Inhibitors:    list(r, "Inhibitors", decodeInhibitor),
		Placement:     decodePlacement(get[map[string]string](r, "Placement")),
		Warnings:      list(r, "Warnings", decodeReason),
	}
	p.View.Observation.Inferred = modeOf(p.View.Observation.State)
	p.decodeNested(r)
	return p, r.finish("the properties")
}

func (p *Properties) decodeNested(r *reader) {
	var err error
	if p.View.Observation.Facts, err = decodeSignals(get[Dict](r, "Signals")); err != nil {
		r.fail(err)
	}
	r.structure(decodeStruct(get[Dict](r, "Topology"), &p.View.Topology))
	r.structure(decodeStruct(get[Dict](r, "AutoReconcile"), &p.View.Reconcile))
	if lease := get[Dict](r, "Lease"); len(lease) > 0 {
		p.View.Lease = new(status.Lease)
		r.structure(decodeStruct(lease, p.View.Lease))
	}
	if p.View.Running, err = DecodeTransition(get[Dict](r, "Transition")); err != nil {
		r.fail(err)
	}
	if p.View.Last, err = DecodeRecord(get[Dict](r, "LastTransition")); err != nil {
		r.fail(err)
	}
}

// modeOf is the mode that a state's own word names, healthy or degraded; empty
// for a state that is neither. The inferred mode of other states does not travel
// in the properties.
func modeOf(s observer.State) policy.Mode {
	mode, err := policy.ParseMode(strings.TrimPrefix(string(s), "degraded-"))
	if err != nil {
		return ""
	}
	return mode
}

// encodeLease is the property Lease; nil is empty.
func encodeLease(l *status.Lease) Dict {
	if l == nil {
		return Dict{}
	}
	return encodeStruct(*l)
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

func encodePlacement(places map[string]policy.Place) map[string]string {
	out := make(map[string]string, len(places))
	for capability, place := range places {
		out[text(capability)] = text(string(place))
	}
	return out
}

// decodePlacement reads what encodePlacement wrote; one of nothing is nil.
func decodePlacement(words map[string]string) map[string]policy.Place {
	var places map[string]policy.Place
	for capability, place := range words {
		if places == nil {
			places = map[string]policy.Place{}
		}
		places[capability] = policy.Place(place)
	}
	return places
}
