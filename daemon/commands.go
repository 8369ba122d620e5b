package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/dubnium/dubnium/daemon/assess"
	"github.com/dubnium/dubnium/daemon/intent"
	"github.com/dubnium/dubnium/daemon/reconcile"
	"github.com/dubnium/dubnium/daemon/runner"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// Turn returns once the loop has turned: proof of life for a watchdog.
func (e *Controller) Turn(ctx context.Context) error { return e.call(ctx, func() {}) }

// Observe reads the whole host and returns the view after that.
func (e *Controller) Observe(ctx context.Context) (status.View, error) {
	if _, err := e.deps.Monitor.Fresh(ctx); err != nil {
		return status.View{}, err
	}
	err := e.call(ctx, func() {
		e.classify()
		e.applyBootRule() // else the view would say for a moment that nothing runs
		e.publish()
	})
	return e.View(), err
}

// Judge reads the whole host and returns what the guards of a request say, or those of
// ids. It requests nothing.
func (e *Controller) Judge(
	ctx context.Context, r status.Request, ids []policy.GuardID,
) ([]guards.Verdict, observer.Snapshot, error) {
	view, err := e.Observe(ctx)
	if err != nil {
		return nil, observer.Snapshot{}, err
	}
	verdicts := e.deps.Graph.Evaluate(ctx, view.Policy.Policy, view.Snapshot, r, view.Inhibitors, ids)
	return verdicts, view.Snapshot, nil
}

// Plan reads the whole host and tells what a request would do. It does nothing. With it
// comes the snapshot that it was made of. Errors: status.ErrBusy, since the next plan
// depends on how the running transition ends; the host or the history could not be read.
func (e *Controller) Plan(ctx context.Context, r status.Request) (status.Preview, observer.Snapshot, error) {
	view, err := e.observeIdle(ctx)
	if err != nil {
		return status.Preview{}, observer.Snapshot{}, err
	}
	p := view.Policy.Policy
	now := e.deps.Graph.Assess(ctx, p, view.Snapshot, r, view.Inhibitors)
	preview := now.Preview(p)
	filter := status.Filter{Mode: r.Mode, Result: status.Success, Limit: assess.Samples}
	records, _, err := e.deps.History.Records(ctx, filter)
	if err != nil {
		return status.Preview{}, observer.Snapshot{}, err
	}
	preview.Expected = assess.Expected(records, now.Now.State, r.Mode)
	return preview, view.Snapshot, nil
}

// observeIdle is Observe where no transition runs. Errors: status.ErrBusy.
func (e *Controller) observeIdle(ctx context.Context) (status.View, error) {
	view, err := e.Observe(ctx)
	if err == nil && view.Running != nil {
		err = busy(view.Running)
	}
	return view, err
}

// History returns the newest transitions that match, the latest first, and whether there
// may be older ones: a reply has a bound.
func (e *Controller) History(ctx context.Context, f status.Filter) (records []status.Record, more bool, _ error) {
	return e.deps.History.Records(ctx, f)
}

// Record returns the finished transition of an id. Errors: status.ErrNoSuchTransition.
func (e *Controller) Record(ctx context.Context, id uint64) (status.Record, error) {
	return e.deps.History.Record(ctx, id)
}

// Rejected records a request that was refused before it came here, or here. It may be
// called from any goroutine.
func (e *Controller) Rejected(r status.RejectedRequest) { e.deps.History.Rejected(r) }

// Request accepts a request that has been authorized, and returns the id of the
// transition that serves it. Errors: status.ErrBusy, status.ErrStalePlan,
// status.ErrShuttingDown, or the intent could not be written. Nothing has changed then.
func (e *Controller) Request(ctx context.Context, r status.Request) (id uint64, err error) {
	var pinned *assess.PinnedPlan
	if r.Plan != "" {
		view, err := e.observeIdle(ctx)
		if err != nil {
			return 0, err
		}
		if pinned, err = e.deps.Graph.Pin(ctx, view, r); err != nil {
			return 0, err
		}
	}
	callErr := e.call(ctx, func() {
		id, err = e.accept(r, pinned)
		e.publish() // whoever is told the id must find the transition
	})
	return id, errors.Join(callErr, err)
}

// accept serializes requests: one transition at a time, and no queue. A request with a
// pinned plan joins nothing, because what runs has a plan of its own.
func (e *Controller) accept(r status.Request, pinned *assess.PinnedPlan) (uint64, error) {
	if e.ending {
		return 0, status.ErrShuttingDown
	}
	if run := e.running; run != nil {
		if pinned != nil || !run.state.Joinable(r) {
			return 0, busy(e.state.Running)
		}
		id := run.state.ID
		e.logAccepted(id, r, true)
		run.runner.RecordRequest()
		e.deps.History.Requested(id, r, true)
		return id, nil
	}
	if pinned != nil && !pinned.Valid(e.state) {
		return 0, fmt.Errorf("%w: the policy was reloaded, or another transition has ended", status.ErrStalePlan)
	}
	if err := e.state.ValidateTerms(r); err != nil {
		return 0, err
	}
	event := intent.Requested{ID: e.nextID, Request: r, At: time.Now(), WayBack: e.state.WayBack(r.Mode)}
	if err := e.intendOnDisk(event); err != nil {
		return 0, err
	}
	e.reconciler = reconcile.State{}
	return e.begin(r, pinned), nil
}

// Cancel cancels a transition before its point of no return; by says who, for the
// record. Errors: status.ErrNoSuchTransition, status.ErrNotCancellable.
func (e *Controller) Cancel(ctx context.Context, id uint64, by string) (err error) {
	callErr := e.call(ctx, func() {
		if err = e.running.cancellable(id); err == nil {
			e.deps.Log.Info("a transition is canceled", zap.Uint64("transition", id), zap.String("by", by))
			e.cancelRunning(runner.Cancellation{Result: status.Canceled, Cause: "canceled by " + by})
		}
	})
	return errors.Join(callErr, err)
}

func (r *running) cancellable(id uint64) error {
	if r == nil {
		return noTransition(id)
	}
	return r.state.Cancel(id)
}

func noTransition(id uint64) error {
	return fmt.Errorf("%w is running under the id %d", status.ErrNoSuchTransition, id)
}

// Postpone makes an announced transition wait d longer than it would. Errors:
// status.ErrNoSuchTransition, status.ErrNotPostponable.
func (e *Controller) Postpone(ctx context.Context, id uint64, d time.Duration) (err error) {
	callErr := e.call(ctx, func() {
		run := e.running
		if run == nil || run.state.ID != id {
			err = noTransition(id)
			return
		}
		run.state, err = run.state.Postpone(time.Now(), d, e.state.Policy.Announce.MaxPostpone.D())
		e.refreshRunning()
		e.publish()
	})
	return errors.Join(callErr, err)
}

// Confirm ends the confirmation period of a mode that goes back unless somebody confirms
// it. It is possible until the way back is past its point of no return. Errors:
// status.ErrNoSuchTransition when none of that id waits for it; status.ErrBusy before
// the mode was reached; status.ErrNotCancellable.
func (e *Controller) Confirm(ctx context.Context, id uint64, c status.Confirmation) (err error) {
	callErr := e.call(ctx, func() {
		if err = e.confirm(id, c); err == nil {
			e.publish()
		}
	})
	return errors.Join(callErr, err)
}

func (e *Controller) confirm(id uint64, c status.Confirmation) error {
	if err := e.intent.Confirmable(id, e.state.Running); err != nil {
		return err
	}
	mode := e.intent.Lease.Mode
	if err := e.intendOnDisk(intent.Confirmed{By: c.By, At: time.Now()}); err != nil {
		return err
	}
	e.deps.History.Confirmed(id, mode, c)
	if run := e.running; run != nil && run.state.Origin == status.OriginLease {
		cause := fmt.Sprintf("%s was confirmed by %s", mode, c.By)
		e.cancelRunning(runner.Cancellation{Result: status.Canceled, Cause: cause})
	}
	return nil
}
