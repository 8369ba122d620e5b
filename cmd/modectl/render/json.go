package render

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// The JSON shapes are an interface for scripts: keys may be added, none goes
// away or changes its type. Lists are never null; times are RFC 3339 in UTC.

type currentJSON struct {
	ObservedState observer.State             `json:"observed_state"`
	Confidence    observer.Confidence        `json:"confidence"`
	Degraded      bool                       `json:"degraded"`
	Signals       map[observer.Signal]any    `json:"signals"` // null: not known
	Unknown       map[observer.Signal]string `json:"unknown"` // why it is not
	Conflicts     []observer.Reason          `json:"conflicts"`
	Reasons       []observer.Reason          `json:"reasons"`
	Since         time.Time                  `json:"since,omitzero"`
	Timestamp     time.Time                  `json:"timestamp"`
}

type statusJSON struct {
	Version        string           `json:"version"`
	Modes          []policy.Mode    `json:"modes"`
	Desired        status.Desired   `json:"desired"`
	Observed       currentJSON      `json:"observed"`
	Converged      bool             `json:"converged"`
	Transition     *transitionJSON  `json:"transition"`
	LastTransition *status.Record   `json:"last_transition"`
	BlockedBy      []guards.Verdict `json:"blocked_by"`
	Inhibitors     []inhibitorJSON  `json:"inhibitors"`
	Lease          *status.Lease    `json:"lease"`
	// AutoReconcile is what the daemon does by itself.
	AutoReconcile status.AutoReconcile `json:"auto_reconcile"`
	Warnings      []observer.Reason    `json:"warnings"`
	// Placement is by capability.
	Placement map[string]policy.Place `json:"placement"`
	Topology  observer.Topology       `json:"topology"`
}

type transitionJSON struct {
	ID        uint64         `json:"id"`
	From      observer.State `json:"from"`
	To        policy.Mode    `json:"to"`
	Origin    status.Origin  `json:"origin"`
	By        string         `json:"by"`
	Phase     status.Phase   `json:"phase"`
	Step      string         `json:"step"`
	StepIndex int            `json:"step_index"`
	StepCount int            `json:"step_count"`
	Started   time.Time      `json:"started"`

	Progress    string    `json:"progress,omitempty"`
	Cancellable bool      `json:"cancellable"`
	Deadline    time.Time `json:"deadline,omitzero"`
}

// StatusJSON is `modectl status --json`.
func StatusJSON(p busapi.Properties) string {
	v := p.View
	return marshal(statusJSON{
		Version: p.Version, Modes: some(p.Modes), Desired: desired(v.Desired), Observed: current(v.Observation, v.ObservedSince),
		Converged: v.Converged(), Transition: transition(v.Running), LastTransition: last(v.Last), BlockedBy: some(v.BlockedBy),
		Inhibitors: inhibitors(v.Inhibitors), Lease: lease(v.Lease), AutoReconcile: autoReconcile(v.Reconcile), Warnings: some(v.Warnings),
		Placement: places(v.Placement), Topology: topology(v.Topology),
	})
}

// evidenceJSON is what a fresh look saw.
type evidenceJSON struct {
	Fingerprint string           `json:"fingerprint"`
	Redacted    bool             `json:"redacted"`
	Rule        observer.Rule    `json:"rule"`
	Context     observer.Context `json:"context"`
	Facts       observer.Facts   `json:"facts"`
	observer.Snapshot
}

// EvidenceJSON is CurrentJSON with the evidence in full under "evidence".
func EvidenceJSON(e busapi.Evidence) string {
	o := e.Observation
	return marshal(struct {
		currentJSON
		Evidence evidenceJSON `json:"evidence"`
	}{current(o, e.Since), evidenceJSON{e.Fingerprint, e.Redacted, o.Rule, o.Context, o.Facts, e.Snapshot}})
}

// ExplanationJSON is the explanation as it travels. Bounds are in nanoseconds.
func ExplanationJSON(e observer.Explanation) string {
	e.Reasons, e.Decided, e.Modes = some(e.Reasons), some(e.Decided), slices.Clone(some(e.Modes))
	for i, m := range e.Modes {
		e.Modes[i].Against, e.Modes[i].Because = some(m.Against), some(m.Because)
	}
	if e.Contract != nil {
		c := *e.Contract
		for _, list := range []*[]string{&c.Expected, &c.Forbidden, &c.Permitted, &c.DisplayGPUs, &c.AIGPUs, &c.PlannedGPUs, &c.Assumptions} {
			*list = some(*list)
		}
		c.Ownership = slices.Clone(some(c.Ownership))
		for i := range c.Ownership {
			c.Ownership[i].Terms = some(c.Ownership[i].Terms)
		}
		c.Requirements, c.Guards, c.Gates = some(c.Requirements), some(c.Guards), some(c.Gates)
		e.Contract = &c
	}
	return marshal(e)
}

// CurrentJSON is `modectl current --json`, the shape of current.json with more.
func CurrentJSON(o observer.Observation, since time.Time) string { return marshal(current(o, since)) }

// DesiredJSON is `modectl desired --json`.
func DesiredJSON(d status.Desired) string { return marshal(desired(d)) }

// HistoryJSON is `modectl history --json`: a line for each record.
func HistoryJSON(records []status.Record) string {
	list := make([]status.Record, len(records))
	for i, r := range records {
		list[i] = record(r)
	}
	return jsonLines(list)
}

// jsonLines has a line of JSON for each value, which is plain data.
func jsonLines[T any](list []T) string {
	var b strings.Builder
	for _, v := range list {
		line, err := json.Marshal(v)
		if err != nil {
			panic(fmt.Sprintf("cannot write %T as JSON: %v", v, err))
		}
		b.Write(append(line, '\n'))
	}
	return b.String()
}

// TransitionJSON is `modectl show --json` of a transition that runs.
func TransitionJSON(t status.Transition) string { return marshal(transition(&t)) }

// FinishedJSON is `modectl request --json`.
func FinishedJSON(r status.Record) string { return marshal(record(r)) }

// AcceptedJSON is `modectl request --no-wait --json`.
func AcceptedJSON(id uint64) string {
	return marshal(struct {
		ID uint64 `json:"id"`
	}{id})
}

func current(o observer.Observation, since time.Time) currentJSON {
	c := currentJSON{
		ObservedState: o.State, Confidence: o.Confidence, Degraded: o.Degraded(),
		Signals: map[observer.Signal]any{}, Unknown: map[observer.Signal]string{},
		Conflicts: some(o.Conflicts), Reasons: some(o.Reasons), Since: since.UTC(), Timestamp: o.At.UTC(),
	}
	put := func(s observer.Signal, f observer.Fact) {
		if c.Signals[s] = f.Value(); c.Signals[s] == nil {
			c.Unknown[s] = cmp.Or(f.Reason, "nobody has looked yet")
		}
	}
	for _, s := range o.Facts.Names() {
		put(s, o.Facts[s])
	}
	return c
}

func places(p map[string]policy.Place) map[string]policy.Place {
	if p == nil {
		return map[string]policy.Place{}
	}
	return p
}

func topology(t observer.Topology) observer.Topology {
	for _, list := range []*[]string{&t.Planned, &t.Present, &t.Unusable, &t.Missing, &t.Display} {
		*list = some(*list)
	}
	ai := map[policy.Mode][]string{}
	for mode, list := range t.AI {
		ai[mode] = some(list)
	}
	t.AI = ai
	return t
}

func desired(d status.Desired) status.Desired {
	d.Since = d.Since.UTC()
	return d
}

func transition(t *status.Transition) *transitionJSON {
	if t == nil {
		return nil
	}
	told := &transitionJSON{
		t.ID, t.From, t.To, t.Origin, t.By, t.Phase, t.Step, t.StepIndex, t.StepCount, t.Started.UTC(),
		t.Progress, t.Cancellable,
		time.Time{},
	}
	if !t.Deadline.IsZero() {
		told.Deadline = t.Deadline.UTC()
	}
	return told
}

func last(r *status.Record) *status.Record {
	if r == nil {
		return nil
	}
	normal := record(*r)
	return &normal
}

func record(r status.Record) status.Record {
	r.Started, r.Judged, r.Finished = r.Started.UTC(), r.Judged.UTC(), r.Finished.UTC()
	r.Guards = some(r.Guards)
	steps := make([]status.Step, len(r.Steps))
	for i, s := range r.Steps {
		s.Started, s.Finished = s.Started.UTC(), s.Finished.UTC()
		s.UndoStarted, s.UndoFinished = s.UndoStarted.UTC(), s.UndoFinished.UTC()
		steps[i] = s
	}
	r.Steps = steps
	return r
}

// some makes an empty list of none.
func some[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// marshal cannot fail: the shapes are plain data. If one ever stops being that,
// a script must not read half a document.
func marshal(v any) string {
	out, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("cannot write %T as JSON: %v", v, err))
	}
	return string(out) + "\n"
}
