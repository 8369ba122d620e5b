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

// keyResult distinguishes a finished transition from a running one.
const keyResult = "result"

// KeyMore, in the last record of History, says that the reply reached its size limit:
// there may be older records.
const KeyMore = "more"

// EncodeTransition is the property Transition; nil is empty.
func EncodeTransition(t *status.Transition) Dict { return encodeOptional(t) }

// DecodeTransition decodes what EncodeTransition encoded.
func DecodeTransition(d Dict) (*status.Transition, error) {
	return decodeOptional[status.Transition](d, "a transition")
}

// EncodeRecord is the property LastTransition and an entry of History; nil is
// empty.
func EncodeRecord(r *status.Record) Dict { return encodeOptional(r) }

// DecodeRecord decodes what EncodeRecord encoded.
func DecodeRecord(d Dict) (*status.Record, error) {
	return decodeOptional[status.Record](d, "the record of a transition")
}

// EncodeHistory is the reply of History.
func EncodeHistory(records []status.Record) []Dict { return encodeAll(records) }

// DecodeHistory decodes what EncodeHistory encoded.
func DecodeHistory(records []Dict) ([]status.Record, error) {
	return decodeAll[status.Record](records, "the record of a transition")
}

// Outcome is the reply of GetTransition: exactly one field is set.
type Outcome struct {
	Running  *status.Transition
	Finished *status.Record
}

// DecodeOutcome decodes a running or a finished transition.
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

// DecodeVerdicts decodes what EncodeVerdicts encoded.
func DecodeVerdicts(list []Dict) ([]guards.Verdict, error) {
	return decodeAll[guards.Verdict](list, "a verdict")
}

// EncodePreview is the reply of Plan.
func EncodePreview(p status.Preview) Dict { return encode(p) }

// DecodePreview decodes what EncodePreview encoded.
func DecodePreview(d Dict) (status.Preview, error) { return decode[status.Preview](d, "the plan") }

// EncodeExplanation is the reply of Explain.
func EncodeExplanation(e observer.Explanation) Dict { return encode(e) }

// DecodeExplanation decodes what EncodeExplanation encoded.
func DecodeExplanation(d Dict) (observer.Explanation, error) {
	return decode[observer.Explanation](d, "the explanation")
}

// Policy is the reply of GetPolicy.
type Policy struct {
	// File is the file of the policy; empty for none.
	File string `json:"file"`
	// Settings has every key with its value, in the order of the schema.
	Settings []policy.Setting `json:"settings"`
}

// EncodePolicy is the reply of GetPolicy.
func EncodePolicy(p Policy) Dict { return encode(p) }

// DecodePolicy decodes what EncodePolicy encoded.
func DecodePolicy(d Dict) (Policy, error) { return decode[Policy](d, "the policy") }

// Evidence is the reply of Observe: an observation with its snapshot.
type Evidence struct {
	observer.Observation
	// Since is when the observed state last changed.
	Since time.Time `json:"since"`
	observer.Snapshot
	// Fingerprint is that of the snapshot before it was redacted.
	Fingerprint string `json:"fingerprint"`
	// Redacted: the details of other users' processes are left out.
	Redacted bool `json:"redacted"`
	// Policy is the policy of the daemon, as TOML.
	Policy string `json:"policy"`
}

// EncodeEvidence is the reply of Observe.
func EncodeEvidence(e Evidence) Dict { return encode(e) }

// DecodeEvidence decodes what EncodeEvidence encoded.
func DecodeEvidence(d Dict) (Evidence, error) { return decode[Evidence](d, "the evidence") }

// EncodeObstacle is the details of CanRequest: the verdict that blocks, if any, and the
// sessions that would end.
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

// EncodeFilter is the argument of History. Empty conditions are left out.
func EncodeFilter(f status.Filter) Dict { return encode(f) }

// DecodeFilter decodes what EncodeFilter encoded. The caller has to check that its
// words are known and its limit is in range.
func DecodeFilter(d Dict) (status.Filter, error) { return decode[status.Filter](d, "the filter") }

// FilterKeys are the keys of the filter of History.
func FilterKeys() []string { return keys(reflect.TypeFor[status.Filter]()) }

// Fingerprint returns an error if a text does not have the form of the fingerprint of a
// plan.
func Fingerprint(text string) error {
	const digits = 32
	if len(text) != digits {
		return fmt.Errorf("%q is not the fingerprint of a plan: it must have %d digits", text, digits)
	}
	for _, r := range text {
		if (r < '0' || r > '9') && (r < 'a' || r > 'f') {
			return fmt.Errorf("%q is not the fingerprint of a plan: it must have hexadecimal digits", text)
		}
	}
	return nil
}
