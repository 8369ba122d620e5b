package daemon

import (
	"cmp"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/dubnium/dubnium/daemon/assess"
	"github.com/dubnium/dubnium/daemon/intent"
	"github.com/dubnium/dubnium/daemon/runner"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/daemon/transition"
	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/internal/message"
	"github.com/dubnium/dubnium/policy"
)

// running is the transition that runs.
type running struct {
	runner *runner.Runner
	state  transition.State
	// canceled is why it was canceled, nil when it was not.
	canceled *runner.Cancellation
	// ready is closed when the transition need not wait any longer, nil when the runner
	// does not wait.
	ready chan<- struct{}
}

// begin starts the transition that serves a request, and returns its id.
func (e *Controller) begin(r status.Request, pinned *assess.PinnedPlan) uint64 {
	id := e.nextID
	e.nextID++
	e.logAccepted(id, r, false)
	e.start(runner.New(e.deps, id, r, pinned), r, false)
	return id
}

func (e *Controller) logAccepted(id uint64, r status.Request, joined bool) {
	e.deps.Log.Info("request accepted", message.WithMessageID(message.RequestAccepted), zap.Uint64("transition", id),
		zap.String("mode", string(r.Mode)), zap.String("by", r.By), zap.Uint32("uid", r.UID),
		zap.String("authorization", r.Authorization), zap.Bool("joined", joined))
}

func (e *Controller) start(x *runner.Runner, r status.Request, recovering bool) {
	record := x.Record()
	e.journaled = true
	e.running = &running{runner: x, state: transition.Begin(status.Transition{
		ID: record.ID, From: cmp.Or(record.From, e.state.Observation.State), To: record.To, Origin: record.Origin,
		By: record.By, StepCount: len(record.Steps), Started: record.Started, UID: r.UID,
	}, r, recovering)}
	e.refreshRunning()
	e.emit(status.Event{Started: e.state.Running})
	x.Start(e.life, recovering)
	e.classify()
}

// refreshRunning publishes the state of the transition that runs, and lets the runner go
// on when it need not wait any longer.
func (e *Controller) refreshRunning() {
	r := e.running
	if r == nil {
		e.state.Running = nil
		return
	}
	now, delayed := time.Now(), transition.Delays(e.state.Inhibitors, r.state.To)
	if r.ready != nil && r.state.Deadline(now, delayed).IsZero() {
		r.state = r.state.Recheck()
		close(r.ready)
		r.ready = nil
	}
	t := r.state.Public(now, delayed)
	e.state.Running = &t
}

// handle takes in a message of the runner.
func (e *Controller) handle(envelope envelope) {
	defer close(envelope.handled)
	r := e.running
	switch m := envelope.message.(type) {
	case runner.Progressed:
		step := ""
		if m.Step != nil {
			step = m.Step.Step
			e.emit(status.Event{Step: m.Step})
		}
		r.state = r.state.Progress(m.Phase, m.Index, m.Count, step)
	case runner.Said:
		r.state = r.state.Say(m.Text)
		e.emit(status.Event{Progress: &status.StepProgress{
			ID: r.state.ID, Index: m.Index, Count: r.state.StepCount, Step: r.state.Step, Text: m.Text,
		}})
	case runner.Announced:
		e.announce(m)
	case runner.Departing:
		r.ready = m.Ready
	case *runner.Committing:
		m.Barrier, m.Err = e.commit()
	case *runner.Closing:
		r.state, m.Canceled = r.state.Close(), r.canceled
	case runner.Ended:
		e.finish(m)
		return
	}
	e.refreshRunning()
}

// announce tells everybody what is going to happen.
func (e *Controller) announce(m runner.Announced) {
	r := e.running
	var maxDelay time.Duration
	if m.Wait {
		maxDelay = e.state.Policy.Announce.MaxDelay.D()
	}
	r.state = r.state.Announce(time.Now(), m.Grace, maxDelay)
	e.refreshRunning()
	e.emit(status.Event{Prepare: &status.Prepare{
		Begin: true, ID: r.state.ID, From: r.state.From, To: r.state.To,
		Deadline: e.state.Running.Deadline, EndsSessions: m.EndsSessions,
	}})
}

// commit passes the point of no return, unless there is a barrier. It fails for a
// transition that was canceled.
func (e *Controller) commit() (transition.Barrier, error) {
	r, to := e.running, e.running.state.To
	switch {
	case r.canceled != nil:
		return transition.None, *r.canceled
	case e.ending:
		return transition.None, runner.ErrStopping
	}
	skipped := slices.Contains(r.state.Request.Skip, policy.CheckNoInhibitor)
	next, barrier := r.state.Commit(time.Now(),
		transition.Delays(e.state.Inhibitors, to), !skipped && transition.Blocks(e.state.Inhibitors, to))
	if barrier == transition.None {
		if err := e.intendOnDisk(intent.Committed{Request: r.state.Request, At: time.Now()}); err != nil {
			return barrier, err
		}
	}
	r.state = next
	return barrier, nil
}

// cancelRunning cancels the transition that runs. It can be canceled only while
// transition.State.Cancel returns nil.
func (e *Controller) cancelRunning(c runner.Cancellation) {
	if e.running.canceled == nil {
		e.running.canceled = &c
		e.running.runner.Cancel(c)
	}
}

// finish takes in how a transition ended.
func (e *Controller) finish(end runner.Ended) {
	s := e.running.state
	if s.WasAnnounced() {
		e.emit(status.Event{Prepare: &status.Prepare{ID: s.ID, From: s.From, To: s.To}})
	}
	e.running, e.state.Running = nil, nil
	if end.Err != nil {
		e.journaled = false // the next start needs the entry
		e.deps.Log.Warn("a transition was left to its journal", zap.Error(end.Err))
		return
	}
	r, now := end.Record, e.boottime()
	e.state.Last, e.state.BlockedBy = &r, nil
	if r.Result == status.Blocked || r.Result == status.Inhibited {
		e.state.BlockedBy = guards.Blocking(r.Guards)
	}
	p := e.state.Policy.Reconcile
	e.intend(intent.Ended{Record: r, Now: now, At: time.Now(), AutoReconcile: p.Enabled, By: byDaemon})
	if r.Origin == status.OriginRecovery {
		e.reconciler = e.reconciler.Ended(now, p, r)
	}
	e.deps.Log.Info("transition ended", message.WithMessageID(message.Finished(r.Result)), zap.Uint64("transition", r.ID),
		zap.String("from", string(r.From)), zap.String("mode", string(r.To)), zap.String("result", string(r.Result)),
		zap.String("final", string(r.Final)), zap.String("cause", r.Cause))
	e.emit(status.Event{Finished: &r})
	e.classify()
	e.intend(intent.Settled{Now: now, State: e.state.Observation.State})
	e.publish() // what waits may read the host first
	e.adoptPending()
}
