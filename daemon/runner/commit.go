package runner

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/dubnium/dubnium/daemon/assess"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/daemon/transition"
	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/plans"
	"github.com/dubnium/dubnium/policy"
)

// assess is what there is to do. A pinned plan is assessed by the snapshot that it was
// made of, since another snapshot could show another plan. The error is that of
// cancelable.
func (x *Runner) assess() (assess.Assessment, error) {
	if x.pinned != nil {
		x.addRedactions(observer.Secrets(x.pinned.Snapshot)...)
		return x.pinned.Assessment, nil
	}
	return x.assessFresh()
}

// assessFresh is what there is to do by a fresh read. The error is that of cancelable.
func (x *Runner) assessFresh() (assess.Assessment, error) {
	snapshot, err := x.Monitor.Fresh(x.cancelable)
	if err != nil {
		return assess.Assessment{}, err
	}
	x.addRedactions(observer.Secrets(snapshot)...)
	now := x.Graph.Assess(x.cancelable, x.Policy, snapshot, x.request, x.Inhibitors())
	return now, x.cancelable.Err()
}

// judge puts the verdicts into the record, and says what blocks the transition; nil for
// nothing.
func (x *Runner) judge(now assess.Assessment) *Cancellation {
	record := &x.entry.Record
	if !reflect.DeepEqual(record.Guards, now.Verdicts) { // else the history has them
		x.History.Judged(record.ID, now.Verdicts)
	}
	record.Guards, record.Judged, record.Forced = now.Verdicts, time.Now(), nil
	blocking := slices.DeleteFunc(guards.Blocking(now.Verdicts), func(v guards.Verdict) bool {
		forced := !v.Hard && slices.Contains(x.request.Skip, v.Guard)
		if forced {
			record.Forced = append(record.Forced, v.Guard)
		}
		return forced
	})
	if len(blocking) == 0 {
		return x.unauthorized(now)
	}
	refusal := Cancellation{status.Blocked, fmt.Sprintf("%s: %s", blocking[0].Guard, blocking[0].Reason)}
	if blocking[0].Guard == policy.CheckNoInhibitor {
		refusal.Result = status.Inhibited
	}
	return &refusal
}

// unauthorized refuses what the request has no right to, nil for nothing. The host may
// have changed since the requester was asked for a password, or since the daemon decided
// to make the request.
func (x *Runner) unauthorized(now assess.Assessment) *Cancellation {
	if why := NeedsOperator(x.Policy, now.Plan); why != "" && x.request.Origin.IsAutomatic() {
		return &Cancellation{status.Blocked, why}
	}
	if x.request.UID != 0 && !x.request.LeaveCompute && observer.LeavesCompute(x.Policy, now.Snapshot, x.request.Mode) {
		return &Cancellation{status.Blocked, "the host is in compute now, and to leave it needs the right to request desktop"}
	}
	return nil
}

// NeedsOperator says why the daemon must not carry out a plan by itself: it takes a
// session, or the place where one could begin, from people who requested nothing. Empty:
// it takes nothing. A lease leads to no such plan.
func NeedsOperator(p policy.Policy, plan plans.Plan) string {
	taking := slices.IndexFunc(plan.Steps, func(s plans.Step) bool {
		return s.Kind == plans.EndSessions || s.Kind == plans.StopUnit && s.Unit == p.Units.DisplayManager
	})
	if taking < 0 {
		return ""
	}
	return fmt.Sprintf(
		"the way to %s ends sessions or the login screen (%s): only a person may request that", plan.To,
		plan.Steps[taking].ID,
	)
}

// runUntilCommit prepares, announces and waits. Then it reads and judges again if
// anything took time. It always does if sessions will end: whose they are, and whether
// the requester may end them, is judged at that moment. What it has begun when it fails
// is undone by goBack.
func (x *Runner) runUntilCommit(commitIndex int) error {
	if err := x.forward(x.cancelable, commitIndex); err != nil {
		return err
	}
	x.Send(Announced{Grace: x.grace(), Wait: !x.request.NoWait, EndsSessions: x.plan.EndsSessions()})
	waited, err := x.awaitDeparture()
	if err != nil {
		return err
	}
	for again := waited || commitIndex > 0 || x.plan.EndsSessions(); ; again = true {
		if again {
			if err := x.rejudge(commitIndex); err != nil {
				return err
			}
		}
		if x.cancelable.Err() != nil {
			return cancelCause(x.cancelable)
		}
		commit := &Committing{}
		x.Send(commit)
		if commit.Err != nil {
			return commit.Err
		}
		if commit.Barrier == transition.None {
			return nil
		}
		if _, err := x.awaitDeparture(); err != nil {
			return err
		}
	}
}

// awaitDeparture waits until the announced transition need not wait any longer. It
// reports whether it had to wait.
func (x *Runner) awaitDeparture() (waited bool, err error) {
	ready := make(chan struct{})
	x.Send(Departing{ready})
	select {
	case <-ready:
		return false, nil
	default:
	}
	select {
	case <-ready:
		return true, nil
	case <-x.cancelable.Done():
		return true, cancelCause(x.cancelable)
	}
}

// grace is how long people have: what the request says, or, where somebody's session
// ends who did not make the request, what the policy says.
func (x *Runner) grace() time.Duration {
	switch {
	case x.request.Grace != nil:
		return *x.request.Grace
	case x.plan.EndsSessionsOfOthers(x.request.UID):
		return x.Policy.Announce.Grace.D()
	}
	return 0
}

// rejudge reads and judges again. What the facts need now is what will be done. A pinned
// plan has to be the same still; else the transition is canceled. What was prepared
// stays.
func (x *Runner) rejudge(commitIndex int) error {
	now, err := x.assessFresh()
	if err != nil {
		return cancelCause(x.cancelable)
	}
	if x.pinned != nil && !x.pinned.Matches(now) {
		return Cancellation{status.Canceled, status.ErrStalePlan.Error() + " any more"}
	}
	if refusal := x.judge(now); refusal != nil {
		return *refusal
	}
	x.adopt(now.Plan, commitIndex)
	return nil
}

// adopt makes the plan's steps those of the journal. Of a plan that was made again it
// takes those behind the point of no return, and keeps the first done ones.
func (x *Runner) adopt(plan plans.Plan, done int) {
	if x.request.Origin == status.OriginOperator && x.request.UID == 0 {
		plan = plan.WithNewcomers()
	}
	x.plan = plan
	steps := plan.Steps
	if done > 0 {
		steps = slices.Concat(x.entry.Steps[:done], plan.Steps[plan.CommitIndex:])
	}
	before, records := make([]json.RawMessage, len(steps)), make([]status.Step, len(steps))
	for i, s := range steps {
		records[i] = status.Step{ID: s.ID, Status: status.StepPending}
	}
	copy(before, x.entry.Before[:done])
	copy(records, x.entry.Record.Steps[:done])
	x.entry.Steps, x.entry.Before, x.entry.Record.Steps = steps, before, records
}
