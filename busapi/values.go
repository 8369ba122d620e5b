package busapi

import (
	"fmt"
	"reflect"
	"time"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// keyResult tells a finished transition from a running one.
const keyResult = "result"

// KeyMore of the last record of History says that the reply ended at its bound, and that
// there may be older records.
const KeyMore = "more"

// EncodeTransition is the property Transition; nil is empty.
func EncodeTransition(t *status.Transition) Dict { return encodeOptional(t) }

// DecodeTransition reads what EncodeTransition wrote.
func DecodeTransition(d Dict) (*status.Transition, error) {
	return decodeOptional[status.Transition](d, "a transition")
}

// EncodeRecord is the property LastTransition and an entry of History; nil is
// empty.
func EncodeRecord(r *status.Record) Dict { return encodeOptional(r) }

// DecodeRecord reads what EncodeRecord wrote.
func DecodeRecord(d Dict) (*status.Record, error) {
	return decodeOptional[status.Record](d, "the record of a transition")
}

// EncodeHistory is the reply of History.
func EncodeHistory(records []status.Record) []Dict { return encodeAll(records) }

// DecodeHistory reads what EncodeHistory wrote.
func DecodeHistory(records []Dict) ([]status.Record, error) {
	return decodeAll[status.Record](records, "the record of a transition")
}

// Outcome is the reply of GetTransition: exactly one field is set.
type Outcome struct {
	Running  *status.Transition
	Finished *status.Record
}

// DecodeOutcome tells a running transition from a finished one.
func DecodeOutcome(d Dict) (o Outcome, err error) {
	if _, finished := d[keyResult]; finished {
		o.Finished, err = DecodeRecord(d)
	} else {
		o.Running, err = DecodeTransition(d)
	}
	return o, err
}

// EncodeVerdicts is the reply of RunGuards.
func EncodeVerdicts(verdicts []guards.Verdict) []Dict { return encodeAll(verdicts) }

// DecodeVerdicts reads what EncodeVerdicts wrote.
func DecodeVerdicts(list []Dict) ([]guards.Verdict, error) {
	return decodeAll[guards.Verdict](list, "a verdict")
}

// EncodePreview is the reply of Plan.
func EncodePreview(p status.Preview) Dict { return encode(p) }

// DecodePreview reads what EncodePreview wrote.
func DecodePreview(d Dict) (status.Preview, error) { return decode[status.Preview](d, "the plan") }

// EncodeExplanation is the reply of Explain.
func EncodeExplanation(e observer.Explanation) Dict { return encode(e) }

// DecodeExplanation reads what EncodeExplanation wrote.
func DecodeExplanation(d Dict) (observer.Explanation, error) {
	return decode[observer.Explanation](d, "the explanation")
}

// Policy is the reply of GetPolicy.
type Policy struct {
	// File is where the policy comes from; empty for no file.
	File string `json:"file"`
	// Settings are every key with its value, in the order of the schema.
	Settings []policy.Setting `json:"settings"`
}

// EncodePolicy is the reply of GetPolicy.
func EncodePolicy(p Policy) Dict { return encode(p) }

// DecodePolicy reads what EncodePolicy wrote.
func DecodePolicy(d Dict) (Policy, error) { return decode[Policy](d, "the policy") }

// Evidence is the reply of Observe: an observation with what the sources saw.
type Evidence struct {
	observer.Observation
	// Since is when the observed state last changed.
	Since time.Time `json:"since"`
	observer.Snapshot
	// Fingerprint is the snapshot's before anything was redacted.
	Fingerprint string `json:"fingerprint"`
	// Redacted: what other people's processes are is left out.
	Redacted bool `json:"redacted"`
	// Policy is the daemon's, as TOML.
	Policy string `json:"policy"`
}

// EncodeEvidence is the reply of Observe: the evidence in full.
func EncodeEvidence(e Evidence) Dict { return encode(e) }

// DecodeEvidence reads what EncodeEvidence wrote.
func DecodeEvidence(d Dict) (Evidence, error) { return decode[Evidence](d, "the evidence") }

// EncodeObstacle is the details of CanRequest: what is in the way, if anything is, and
// the sessions that would end.
func EncodeObstacle(v guards.Verdict, sessions []observer.Session) Dict {
	d := encode(struct {
		Sessions []observer.Session `json:"sessions"`
	}{sessions})
	verdict := encode(v)
	if v.Guard != "" {
		d["guard"], d["code"], d["remedy"] = verdict["guard"], verdict["code"], verdict["remedy"]
	}
	if v.Reason != "" {
		d["text"] = verdict["reason"]
	}
	return d
}

// EncodeFilter is the argument of History. What the filter does not ask for is left
// out.
func EncodeFilter(f status.Filter) Dict { return encode(f) }

// DecodeFilter reads what EncodeFilter wrote. That its words are known and its limit
// is allowed is for the caller to judge.
func DecodeFilter(d Dict) (status.Filter, error) { return decode[status.Filter](d, "the filter") }

// FilterKeys are the keys of History's filter.
func FilterKeys() []string { return keys(reflect.TypeFor[status.Filter]()) }

// Fingerprint reports whether a text has the form of a plan's fingerprint. The
// error says what is wrong with it.
func Fingerprint(text string) error {
	const digits = 32
	if len(text) != digits {
		return fmt.Errorf("%q is not the fingerprint of a plan, which has %d digits", text, digits)
	}
	for _, r := range text {
		if (r < '0' || r > '9') && (r < 'a' || r > 'f') {
			return fmt.Errorf("%q is not the fingerprint of a plan, which has hexadecimal digits", text)
		}
	}
	return nil
}
