// Package assess finds out what a request would do to the host: the plan, how far it
// reaches, and what the guards say. It reads units and changes nothing.
package assess

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

// graphTimeout bounds the reading of all units. It takes hundreds of calls, which take
// seconds on a slow machine.
const graphTimeout = 30 * time.Second

// Assessment is what a request would do to the host of one snapshot.
type Assessment struct {
	plans.Context
	Now      observer.Observation
	Verdicts []guards.Verdict
	request  guards.Request
}

// Assess builds the plan of a request and evaluates its guards. It reads the units where
// the plan needs that. What could not be read is unknown to the guards.
func (read GraphReader) Assess(
	ctx context.Context, p policy.Policy, s observer.Snapshot, r status.Request, held []status.Inhibitor,
) Assessment {
	a := Assessment{Now: Classify(p, s)}
	a.To, a.Snapshot, a.Reached = r.Mode, s, Reached(p, a.Now, s, r.Mode)
	if a.Reached {
		a.Impact.At = time.Now()
		return a
	}
	a.Plan = plans.Build(p, s, r.Mode)
	a.Impact = read.impact(ctx, p, a.Plan, s)
	a.request = guardRequest(r, a.Impact, held)
	a.Verdicts = guards.Evaluate(p, s, a.request, a.Guards)
	return a
}

// Evaluate returns what these guards say of a request, or those of its plan when none is
// named. The guards that are steps of the plan are not among a plan's: they hold only
// once other steps are done.
func (read GraphReader) Evaluate(
	ctx context.Context, p policy.Policy, s observer.Snapshot, r status.Request, held []status.Inhibitor,
	ids []policy.GuardID,
) []guards.Verdict {
	plan := plans.Build(p, s, r.Mode)
	if len(ids) == 0 {
		ids = plan.Guards
	}
	var impact unitgraph.Impact
	if slices.ContainsFunc(ids, guards.JudgesUnits) {
		impact = read.impact(ctx, p, plan, s)
	}
	return guards.Evaluate(p, s, guardRequest(r, impact, held), ids)
}

// Classify classifies a snapshot by its facts alone. Whether a transition runs and how
// the last one ended does not count.
func Classify(p policy.Policy, s observer.Snapshot) observer.Observation {
	return observer.Classify(p, s, observer.Context{}, time.Now())
}

// Reached reports whether the mode is observed and a plan to it would change nothing. A
// mode is more than what it is recognised by: slices, and timers that are stopped.
func Reached(p policy.Policy, o observer.Observation, s observer.Snapshot, to policy.Mode) bool {
	return o.Is(to) && len(plans.Build(p, s, to).Steps) == 0
}

func guardRequest(r status.Request, i unitgraph.Impact, held []status.Inhibitor) guards.Request {
	return guards.Request{Target: r.Mode, UID: r.UID, EndOthers: r.EndOthers, Inhibitors: held, Impact: i}
}

// impact is what a plan does to units beyond those that it names.
func (read GraphReader) impact(
	ctx context.Context, p policy.Policy, plan plans.Plan, s observer.Snapshot,
) (i unitgraph.Impact) {
	operations, needed := plan.UnitOperations(p, s)
	switch {
	case !needed:
	case !s.Systemd.Known(): // systemd has just not answered: do not wait for it again
		i.Reason = s.Systemd.Reason
	default:
		ctx, cancel := context.WithTimeout(ctx, graphTimeout)
		defer cancel()
		graph, err := read(ctx, p.Target(plan.To))
		if err == nil {
			i = unitgraph.ComputeImpact(graph, operations)
		} else {
			i.Reason = "the units could not be read: " + err.Error()
		}
	}
	i.At = time.Now()
	return i
}

// fingerprint is that of the plan, whoever requests it. What the requester may do to
// other people's sessions is found out by the request.
func (a Assessment) fingerprint(p policy.Policy) string {
	request := a.request
	request.EndOthers = true
	var judged []plans.Judged
	for _, v := range guards.Evaluate(p, a.Snapshot, request, a.Guards) {
		judged = append(judged, plans.Judged{Guard: v.Guard, Code: v.Code})
	}
	return a.Fingerprint(judged)
}

// Preview is the assessment for people.
func (a Assessment) Preview(p policy.Policy) status.Preview {
	preview := status.Preview{
		From: a.Now.State, To: a.To, Reached: a.Reached, Fingerprint: a.fingerprint(p), Guards: a.Verdicts,
		Sessions: a.Ends(a.Snapshot), Stops: a.Impact.StoppedUnits(), Starts: a.Impact.StartedUnits(),
		UnitsReason: a.Impact.Reason,
	}
	if i := a.Impact.Isolation; i != nil {
		preview.Refused = i.Refused
	}
	for _, s := range a.Steps {
		words := a.Describe(s)
		preview.Steps = append(preview.Steps, status.PlannedStep{
			ID: s.ID, Kind: string(s.Kind), Unit: s.Unit, Guard: s.Guard,
			Does: words.Does, Undo: words.Undo, Changes: words.Changes, Timeout: s.Timeout,
		})
		if s.Guard == policy.CheckGPUDisplayReleased {
			preview.Holders = observer.ForeignHolders(p, a.Snapshot.Processes)
			preview.Unseen = observer.MayHold(p, a.Snapshot.Processes)
		}
	}
	return preview
}

// Samples is how many of the last transitions to a mode Expected looks at.
const Samples = 100

// Expected is how long transitions of this pair took that succeeded. A degraded mode
// counts as the mode: the way out of it is the same.
func Expected(records []status.Record, from observer.State, to policy.Mode) status.Expectation {
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

// PinnedPlan is the one plan that a request allows, with what it was assessed under.
type PinnedPlan struct {
	Assessment
	policy policy.Policy
	last   *status.Record
}

// Pin assesses a request whose plan was shown. Errors: status.ErrStalePlan when the host
// of the view needs another plan.
func (read GraphReader) Pin(ctx context.Context, v status.View, r status.Request) (*PinnedPlan, error) {
	pinned := PinnedPlan{policy: v.Policy.Policy, last: v.Last}
	pinned.Assessment = read.Assess(ctx, pinned.policy, v.Snapshot, r, v.Inhibitors)
	if now := pinned.fingerprint(pinned.policy); now != r.Plan {
		return nil, fmt.Errorf("%w: to %s it would be %s now", status.ErrStalePlan, r.Mode, now)
	}
	return &pinned, nil
}

// Valid reports whether nothing has happened since that no look at the host shows:
// another policy, or a transition that came and went.
func (p *PinnedPlan) Valid(v status.View) bool {
	return p.last == v.Last && reflect.DeepEqual(p.policy, v.Policy.Policy)
}

// Matches reports whether an assessment made now is that of the pinned plan. Fewer units
// may stop than were shown: the preparation may have stopped them.
func (p *PinnedPlan) Matches(now Assessment) bool {
	same := now
	same.Impact = p.Impact
	if same.fingerprint(p.policy) != p.fingerprint(p.policy) {
		return false
	}
	shown := p.Impact.StoppedUnits()
	for _, stopped := range now.Impact.StoppedUnits() {
		known := slices.ContainsFunc(shown, func(other unitgraph.StoppedUnit) bool { return other.Unit == stopped.Unit })
		if !known && !now.Started(stopped.Unit) {
			return false
		}
	}
	return true
}
