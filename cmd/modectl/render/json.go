package render

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// The JSON documents are an interface for scripts: keys may be added, but no key is
// removed or changes its type. They follow the tags of the types in daemon/status.

// StatusJSON is `modectl status --json`.
func StatusJSON(p busapi.Properties) string {
	v := p.View
	return marshal(struct {
		Version        string                  `json:"version"`
		Modes          []policy.Mode           `json:"modes"`
		Desired        status.Desired          `json:"desired"`
		Observed       status.Current          `json:"observed"`
		Converged      bool                    `json:"converged"`
		Transition     *status.Transition      `json:"transition"`
		LastTransition *status.Record          `json:"last_transition"`
		BlockedBy      []guards.Verdict        `json:"blocked_by"`
		Inhibitors     []status.Inhibitor      `json:"inhibitors"`
		Lease          *status.Lease           `json:"lease"`
		AutoReconcile  status.AutoReconcile    `json:"auto_reconcile"`
		Warnings       []observer.Reason       `json:"warnings"`
		Placement      map[string]policy.Place `json:"placement"`
		Topology       observer.Topology       `json:"topology"`
	}{
		p.Version, p.Modes, v.Desired, status.CurrentOf(v.Observation, v.ObservedSince), v.Converged(), v.Running, v.Last,
		v.BlockedBy, v.Inhibitors, v.Lease, v.Reconcile, v.Warnings, v.Placement, v.Topology,
	})
}

// evidenceJSON is a fresh snapshot with its classification.
type evidenceJSON struct {
	Fingerprint string           `json:"fingerprint"`
	Redacted    bool             `json:"redacted"`
	Rule        observer.Rule    `json:"rule"`
	Context     observer.Context `json:"context"`
	Facts       observer.Facts   `json:"facts"`
	observer.Snapshot
}

// EvidenceJSON is CurrentJSON with the full evidence under "evidence".
func EvidenceJSON(e busapi.Evidence) string {
	o := e.Observation
	return marshal(struct {
		status.Current
		Evidence evidenceJSON `json:"evidence"`
	}{status.CurrentOf(o, e.Since), evidenceJSON{e.Fingerprint, e.Redacted, o.Rule, o.Context, o.Facts, e.Snapshot}})
}

// ExplanationJSON is `modectl explain --json`. Bounds are in nanoseconds.
func ExplanationJSON(e observer.Explanation) string { return marshal(e) }

// CurrentJSON is `modectl current --json`, current.json with more.
func CurrentJSON(o observer.Observation, since time.Time) string {
	return marshal(status.CurrentOf(o, since))
}

// DesiredJSON is `modectl desired --json`.
func DesiredJSON(d status.Desired) string { return marshal(d) }

// HistoryJSON is `modectl history --json`: a line for each record.
func HistoryJSON(records []status.Record) string { return jsonLines(records) }

// TransitionJSON is `modectl show --json` of a running transition.
func TransitionJSON(t status.Transition) string { return marshal(t) }

// FinishedJSON is `modectl request --json`.
func FinishedJSON(r status.Record) string { return marshal(r) }

// AcceptedJSON is `modectl request --no-wait --json`.
func AcceptedJSON(id uint64) string {
	return marshal(struct {
		ID uint64 `json:"id"`
	}{id})
}

// jsonLines has a line of JSON for each value.
func jsonLines[T any](list []T) string {
	var b strings.Builder
	for _, v := range list {
		b.Write(append(must(v, json.Marshal), '\n'))
	}
	return b.String()
}

func marshal(v any) string {
	indented := func(v any) ([]byte, error) { return json.MarshalIndent(v, "", "  ") }
	return string(must(v, indented)) + "\n"
}

// must panics if the value cannot be encoded: that is a defect, since the values are
// plain data, and a script must not read half a document.
func must(v any, encode func(any) ([]byte, error)) []byte {
	out, err := encode(forScripts(reflect.ValueOf(v)).Interface())
	if err != nil {
		panic(fmt.Sprintf("cannot write %T as JSON: %v", v, err))
	}
	return out
}

// forScripts is a copy of v in which no list or map is nil, and which has its times in
// UTC.
func forScripts(v reflect.Value) reflect.Value {
	if t, ok := v.Interface().(time.Time); ok {
		return reflect.ValueOf(t.UTC())
	}
	to := reflect.New(v.Type()).Elem()
	to.Set(v)
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if to.Field(i).CanSet() {
				to.Field(i).Set(forScripts(v.Field(i)))
			}
		}
	case reflect.Pointer:
		if !v.IsNil() {
			to.Set(reflect.New(v.Type().Elem()))
			to.Elem().Set(forScripts(v.Elem()))
		}
	case reflect.Slice:
		to.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
		for i := range v.Len() {
			to.Index(i).Set(forScripts(v.Index(i)))
		}
	case reflect.Map:
		to.Set(reflect.MakeMap(v.Type()))
		for _, key := range v.MapKeys() {
			to.SetMapIndex(key, forScripts(v.MapIndex(key)))
		}
	}
	return to
}
