package daemon

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/observer/unitgraph"
	"github.com/dubnium/dubnium/plans"
	"github.com/dubnium/dubnium/policy"
)

// GraphReader reads all units of the manager, and what target would pull in.
type GraphReader func(ctx context.Context, target string) (unitgraph.Graph, error)

// readUnits bounds the reading of all units: hundreds of calls, which a slow
// machine takes seconds for.
const readUnits = 30 * time.Second

// assessment is what a request would do, by one look.
type assessment struct {
	plans.Context
	now      observer.Observation
	request  guards.Request
	verdicts []guards.Verdict
}

// assess builds the plan of a request from a snapshot and has its guards judge it.
// It reads the units, where the plan needs that, and changes nothing. What could
// not be read is unknown to the guards.
func (read GraphReader) assess(
	ctx context.Context, p policy.Policy, s observer.Snapshot, r status.Request, held []status.Inhibitor,
) assessment {
	f := assessment{now: classify(p, s)}
	f.To, f.Snapshot, f.Reached = r.Mode, s, reached(p, f.now, s, r.Mode)
	if f.Reached {
		f.Impact.At = time.Now()
		return f
	}
	f.Plan = plans.Build(p, s, r.Mode)
	f.Impact = read.impact(ctx, p, f.Plan, s)
	f.request = guardRequest(r, f.Impact, held)
	f.verdicts = guards.Evaluate(p, s, f.request, f.Guards)
	return f
}

// impact is how far a plan reaches.
func (read GraphReader) impact(ctx context.Context, p policy.Policy, plan plans.Plan, s observer.Snapshot) (b unitgraph.Impact) {
	errand, needed := plan.UnitOperations(p, s)
	switch {
	case !needed:
	case !s.Systemd.Known(): // who has not answered just now is not waited for again
		b.Reason = s.Systemd.Reason
	default:
		ctx, cancel := context.WithTimeout(ctx, readUnits)
		defer cancel()
		graph, err := read(ctx, p.Target(plan.To))
		if err == nil {
			b = unitgraph.ComputeImpact(graph, errand)
		} else {
			b.Reason = "the units could not be read: " + err.Error()
		}
	}
	b.At = time.Now()
	return b
}

// fingerprint is that of the plan, whoever asks for it: what the requester may do
// to other people's sessions is found out by the request.
func (f assessment) fingerprint(p policy.Policy) string {
	request := f.request
	request.EndOthers = true
	var judged []plans.Judged
	for _, v := range guards.Evaluate(p, f.Snapshot, request, f.Guards) {
		judged = append(judged, plans.Judged{Guard: v.Guard, Code: v.Code})
	}
	return f.Fingerprint(judged)
}

// Plan looks at everything afresh and tells what a request would do; it does
// nothing. With it comes the snapshot that it was made of. Errors: status.ErrBusy,
// since a host on its way is no place to plan from; the look or the history failed.
func (e *Controller) Plan(ctx context.Context, r status.Request) (status.Preview, observer.Snapshot, error) {
	view, err := e.Observe(ctx)
	if err != nil {
		return status.Preview{}, observer.Snapshot{}, err
	}
	if view.Running != nil {
		return status.Preview{}, observer.Snapshot{}, busy(view.Running)
	}
	p := view.Policy.Policy // the engine's own belongs to its goroutine
	f := e.graph.assess(ctx, p, view.Snapshot, r, view.Inhibitors)
	preview := f.preview(p)
	records, _, err := e.history.records(ctx, status.Filter{Mode: r.Mode, Result: status.Success, Limit: expectedFrom})
	if err != nil {
		return status.Preview{}, observer.Snapshot{}, err
	}
	preview.Expected = expected(records, f.now.State, r.Mode)
	return preview, view.Snapshot, nil
}

// preview is the prospect for people.
func (f assessment) preview(p policy.Policy) status.Preview {
	preview := status.Preview{
		From: f.now.State, To: f.To, Reached: f.Reached, Fingerprint: f.fingerprint(p), Guards: f.verdicts,
		Sessions: f.Ends(f.Snapshot), Stops: f.Impact.StoppedUnits(), Starts: f.Impact.Starters(), UnitsReason: f.Impact.Reason,
	}
	if i := f.Impact.Isolation; i != nil {
		preview.Refused, preview.RefusalPossible = i.Refused, i.RefusalPossible
	}
	for _, s := range f.Steps {
		words := f.Describe(s)
		preview.Steps = append(preview.Steps, status.PlannedStep{
			ID: s.ID, Kind: string(s.Kind), Unit: s.Unit, Guard: s.Guard,
			Does: words.Does, Undo: words.Undo, Changes: words.Changes, Timeout: s.Timeout,
		})
		if s.Guard == policy.CheckGPUDisplayReleased {
			preview.Holders, preview.Unseen = observer.ForeignHolders(p, f.Snapshot.Processes), observer.MayHold(p, f.Snapshot.Processes)
		}
	}
	return preview
}

// expectedFrom is how many of the last transitions to a mode tell how long the next
// will take.
const expectedFrom = 100

// expected is how long transitions of this pair took that succeeded. A degraded
// mode counts as the mode: the way out of it is the same.
func expected(records []status.Record, from observer.State, to policy.Mode) status.Expectation {
	var took []time.Duration
	for _, r := range records {
		d := r.Finished.Sub(r.Started)
		if r.To == to && mode(r.From) == mode(from) && r.Result == status.Success && d >= 0 {
			took = append(took, d)
		}
	}
	if len(took) == 0 {
		return status.Expectation{}
	}
	slices.Sort(took)
	return status.Expectation{Count: len(took), Median: took[len(took)/2], Longest: took[len(took)-1]}
}

func mode(s observer.State) string { return strings.TrimPrefix(string(s), "degraded-") }

// pinnedPlan is a prospect that is what the requester was shown, with what it was made
// under.
type pinnedPlan struct {
	assessment
	policy policy.Policy
	last   *status.Record
}

// agree looks at everything afresh, and returns what r would do if that is what its
// fingerprint stands for. Nothing is written. Errors: status.ErrStalePlan,
// status.ErrBusy.
func (e *Controller) agree(ctx context.Context, r status.Request) (*pinnedPlan, error) {
	view, err := e.Observe(ctx)
	if err != nil {
		return nil, err
	}
	if view.Running != nil {
		return nil, busy(view.Running)
	}
	a := pinnedPlan{policy: view.Policy.Policy, last: view.Last}
	a.assessment = e.graph.assess(ctx, a.policy, view.Snapshot, r, view.Inhibitors)
	if now := a.fingerprint(a.policy); now != r.Plan {
		return nil, fmt.Errorf("%w: to %s it would be %s now", status.ErrStalePlan, r.Mode, now)
	}
	return &a, nil
}

// valid reports whether nothing has come between the look and now that no look
// would show: another policy, or a transition that came and went.
func (a *pinnedPlan) valid(p policy.Policy, v status.View) bool {
	return a.last == v.Last && reflect.DeepEqual(a.policy, p)
}

// matches reports whether what is ahead now is still what was agreed to. Fewer units
// may stop than were shown: the host's preparation may have seen to that.
func (a *pinnedPlan) matches(ahead assessment) bool {
	same := ahead
	same.Impact = a.Impact
	if same.fingerprint(a.policy) != a.fingerprint(a.policy) {
		return false
	}
	shown := a.Impact.StoppedUnits()
	for _, c := range ahead.Impact.StoppedUnits() {
		known := slices.ContainsFunc(shown, func(other unitgraph.StoppedUnit) bool { return other.Unit == c.Unit })
		if !known && !ahead.Started(c.Unit) {
			return false
		}
	}
	return true
}
