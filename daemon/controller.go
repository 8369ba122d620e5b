// Package daemon is the engine: it keeps what was asked apart from what is, and
// moves the host through guarded, journaled, bounded and reversible transitions,
// one at a time.
//
// One goroutine, Run's, owns all state. It is level-triggered: a signal from the
// host says only that a look is worth while. A transition runs in a goroutine of
// its own and reports; readers get an immutable View and never wait for either.
//
// A transition reaches a mode that was observed, or goes back to one that was
// observed, or says that it could do neither. After a crash the journal tells
// what had begun; the next start observes first, then keeps, resumes or undoes,
// and never takes up an action where it was left.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/internal/message"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/observer/unitgraph"
	"github.com/dubnium/dubnium/plans"
	"github.com/dubnium/dubnium/policy"
)

// Listener hears of every change, in order, from the engine's goroutine: it must
// not block.
type Listener interface {
	Notify(v status.View, events []status.Event)
}

// Config is what an engine is made of.
type Config struct {
	Policy  policy.Document
	Monitor *Monitor
	// StepHandlers makes the actors for the kinds of step that change the host.
	StepHandlers func(policy.Policy) map[plans.Kind]StepHandler
	// Graph reads the units that a plan may reach beyond those it names.
	Graph  GraphReader
	BootID string
	// Boottime is how long this boot lasts, sleep included; nil for the kernel's word.
	Boottime func() time.Duration
	Log      *zap.Logger
}

// Controller is the daemon's core. Make one with New.
type Controller struct {
	transitionDeps
	files        files
	stepHandlers func(policy.Policy) map[plans.Kind]StepHandler
	listener     Listener
	calls        chan func()
	done         chan struct{}
	view         atomic.Pointer[status.View]

	// Owned by the goroutine of Run.
	life   context.Context // Run's: transitions outlive the calls that asked for them
	state  status.View
	events []status.Event
	// currentDirty: the files say something else than state.Observation; untold: than
	// state.Last, whose journal is not ended yet; canceled: the wish is still that of
	// a transition that was canceled.
	currentDirty, lastRecordDirty, canceled bool
	nextID                                  uint64
	ending                                  bool
	interruptedEntry                        *journalEntry // of a transition the daemon died in
	outcomes                                chan outcome
	bootRuleApplied                         bool   // the boot rule has had its one try
	policyError                             string // why a policy is not in force that was to be, empty for none
	staleTimer                              *time.Timer
	historyRetry                            *time.Timer // to write what of the history waits
	pending                                 *reload     // nil for none
	placementWritten                        bool        // the files say what the state does of placement and topology
	// cancelRunning ends the running transition before its point of no return.
	cancelRunning func(cancellation)
	announced     *announcement  // nil for none
	request       status.Request // that the running transition serves
	tell          func()         // writes it into the history
	previous      status.Desired // what was asked before it

	now       func() time.Duration // Config.Boottime
	nextTimer *time.Timer          // when something is due by it
	leaseState
	reconciler reconciler
	console    console
}

// outcome is how an execution ended; err is errStopping or nil.
type outcome struct {
	record status.Record
	err    error
}

// New returns an engine that remembers what its directories hold: the wish of
// this boot, the last transition, and one that did not end. Errors: a directory
// cannot be used, or the journal is not one that this version understands.
func New(c Config) (*Controller, error) {
	e := &Controller{
		transitionDeps: transitionDeps{
			monitor: c.Monitor, graph: c.Graph,
			journal: newJournal(c.Policy.Paths.State), history: openHistory(c.Policy.Policy, c.Log), bootID: c.BootID, log: c.Log,
		},
		files: files{c.Policy.Paths.Runtime}, stepHandlers: c.StepHandlers,
		calls: make(chan func()), done: make(chan struct{}), staleTimer: time.NewTimer(0), historyRetry: time.NewTimer(0),
		now: c.Boottime, nextTimer: time.NewTimer(0), console: console{dir: c.Policy.Paths.Issue},
	}
	if e.now == nil {
		e.now = boottime
	}
	e.staleTimer.Stop()
	e.historyRetry.Stop()
	e.nextTimer.Stop()
	if err := e.govern(c.Policy); err != nil {
		return nil, err
	}
	return e, e.restore()
}

func (e *Controller) restore() (err error) {
	if e.interruptedEntry, err = e.journal.load(); err != nil {
		return err
	}
	if e.state.Last, err = e.files.last(); err != nil {
		return err
	}
	if e.nextID, err = e.history.lastID(); err != nil {
		// A history that cannot be read is no reason to be without a controller.
		e.log.Error("the history cannot be read, ids may be given twice", message.WithMessageID(message.HistoryFault), zap.Error(err))
	}
	if e.interruptedEntry != nil {
		e.nextID = max(e.nextID, e.interruptedEntry.Record.ID)
	}
	if e.state.Last != nil { // the history may have been on a disk that was full
		e.nextID = max(e.nextID, e.state.Last.ID)
	}
	e.nextID++
	desired, asked, err := e.files.desired(e.bootID)
	if err != nil {
		return err
	}
	if asked {
		e.state.Desired = desired
		if err := e.files.setDesiredWord(desired); err != nil { // the daemon may have died between the two
			return err
		}
	} else if err := e.setDesired(status.Desired{
		Mode: e.policy.DefaultMode, Origin: status.OriginBoot, By: byDaemon, Since: time.Now(),
	}); err != nil {
		return err
	}
	if err := e.restoreLease(); err != nil {
		return err
	}
	if last := e.state.Last; last != nil {
		// The file is for everybody, and tells less than root's.
		if full, err := e.history.record(context.Background(), last.ID); err == nil {
			e.state.Last = &full
		}
	}
	e.history.started(e.bootID)
	e.classify()
	e.events = nil // nobody can have heard of another state before this one
	e.publish()
	return nil
}

// Listen sets who hears of changes. Call it before Run.
func (e *Controller) Listen(l Listener) { e.listener = l }

// Run turns until ctx ends. A transition that runs then is left to its journal.
func (e *Controller) Run(ctx context.Context) {
	defer close(e.done)
	defer e.abandonReload()
	defer e.staleTimer.Stop()
	defer e.historyRetry.Stop()
	defer e.nextTimer.Stop()
	defer e.history.retry()
	e.life = ctx
	e.awaitHistory()
	if e.interruptedEntry != nil {
		x := newExecution(e.transitionDeps, 0, status.Request{})
		x.entry, x.tell = *e.interruptedEntry, func() {} // the daemon that died has written it
		if x.entry.BootID == e.bootID {
			e.previous = x.entry.Previous
		}
		e.start(ctx, x, x.recover)
	}
	e.publish()
	for {
		select {
		case <-ctx.Done():
			e.ending = true
			if e.outcomes == nil {
				return
			}
			// The execution stops by the same ctx; it may be in a report just now.
			select {
			case call := <-e.calls:
				call()
			case <-e.outcomes:
				return
			}
		case call := <-e.calls:
			call()
		case end := <-e.outcomes:
			e.finish(end)
			e.publish() // what waited may look at the host first
			e.adoptPending()
		case <-e.monitor.Changed():
			e.classify()
			e.applyBootDefault()
		case <-e.staleTimer.C:
			e.classify()
		case <-e.announced.due():
			e.updateDeadline()
		case <-e.history.changed:
			e.awaitHistory()
		case <-e.historyRetry.C:
			e.history.retry()
			e.awaitHistory()
		case <-e.nextTimer.C:
		}
		e.runTimers()
		e.publish()
	}
}

// call runs f in the engine's goroutine and waits for it.
func (e *Controller) call(ctx context.Context, f func()) error {
	ran := make(chan struct{})
	select {
	case e.calls <- func() { f(); close(ran) }:
		<-ran
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-e.done:
		return status.ErrShuttingDown
	}
}

// Turn returns once the engine's loop has turned: proof of life for a watchdog.
func (e *Controller) Turn(ctx context.Context) error { return e.call(ctx, func() {}) }

// View returns what is known now. It never waits.
func (e *Controller) View() status.View { return *e.view.Load() }

// Observe looks at everything afresh and returns the view after that.
func (e *Controller) Observe(ctx context.Context) (status.View, error) {
	if _, err := e.monitor.Fresh(ctx); err != nil {
		return status.View{}, err
	}
	err := e.call(ctx, func() { e.classify(); e.publish() })
	return e.View(), err
}

// Judge looks at everything afresh and returns what the guards of a request for
// r.Mode say, or those of the names; it asks for nothing. The guards that are steps
// of the plan are not among a request's: they hold only once others are done.
func (e *Controller) Judge(ctx context.Context, r status.Request, ids []policy.GuardID) ([]guards.Verdict, observer.Snapshot, error) {
	view, err := e.Observe(ctx)
	if err != nil {
		return nil, observer.Snapshot{}, err
	}
	p := view.Policy.Policy // the engine's own belongs to its goroutine
	plan := plans.Build(p, view.Snapshot, r.Mode)
	if len(ids) == 0 {
		ids = plan.Guards
	}
	var blast unitgraph.Impact
	if slices.ContainsFunc(ids, guards.JudgesUnits) {
		blast = e.graph.impact(ctx, p, plan, view.Snapshot)
	}
	return guards.Evaluate(p, view.Snapshot, guardRequest(r, blast, view.Inhibitors), ids), view.Snapshot, nil
}

// History returns the newest transitions that the filter chooses, the latest first, and
// whether there may be older ones: a reply has a bound.
func (e *Controller) History(ctx context.Context, f status.Filter) (records []status.Record, more bool, _ error) {
	return e.history.records(ctx, f)
}

// Record returns the finished transition of that id, or status.ErrNoSuchTransition.
func (e *Controller) Record(ctx context.Context, id uint64) (status.Record, error) {
	return e.history.record(ctx, id)
}

// Request accepts a request that has been authorized, and returns the id of the
// transition that serves it. Errors: status.ErrBusy, status.ErrStalePlan,
// status.ErrShuttingDown, or the wish could not be written; nothing has changed
// then.
func (e *Controller) Request(ctx context.Context, r status.Request) (id uint64, err error) {
	var plan *pinnedPlan
	if r.Plan != "" {
		if plan, err = e.agree(ctx, r); err != nil {
			return 0, err
		}
	}
	callErr := e.call(ctx, func() {
		id, err = e.accept(r, plan)
		e.publish() // whoever is told the id must find the transition
	})
	return id, errors.Join(callErr, err)
}

// accept serializes: one transition at a time, and no queue. A request for one plan
// joins nothing: what runs has a plan of its own.
func (e *Controller) accept(r status.Request, plan *pinnedPlan) (uint64, error) {
	if e.ending {
		return 0, status.ErrShuttingDown
	}
	if running := e.state.Running; running != nil {
		if plan == nil && r.Joins(e.request) && running.Phase != status.PhaseRecovering && running.Phase != status.PhaseUndoing {
			e.history.accepted(running.ID, r, true)
			e.tell()
			e.history.requested(running.ID, r, true)
			return running.ID, nil
		}
		return 0, busy(running)
	}
	if plan != nil && !plan.valid(e.policy, e.state) {
		return 0, fmt.Errorf("%w: the policy was reloaded, or another transition has ended", status.ErrStalePlan)
	}
	if r.KeepTerms && r.Mode == e.state.Desired.Mode {
		e.previous, e.replaced = e.state.Desired, e.lease
	} else if err := e.setDesiredForRequest(r); err != nil {
		return 0, err
	}
	e.canceled, e.reconciler = false, reconciler{}
	return e.begin(r, plan), nil
}

// begin starts the transition that serves a request, and returns its id.
func (e *Controller) begin(r status.Request, plan *pinnedPlan) uint64 {
	e.history.accepted(e.nextID, r, false)
	x := newExecution(e.transitionDeps, e.nextID, r)
	x.pinned, x.entry.Previous = plan, e.previous
	e.nextID++
	e.start(e.life, x, x.run)
	return x.entry.Record.ID
}

func busy(running *status.Transition) error {
	return fmt.Errorf("%w: %d from %s to %s, since %s", status.ErrBusy,
		running.ID, running.From, running.To, running.Started.Format(time.TimeOnly))
}

// setDesired records what was asked, on disk first: a wish that cannot be written is
// refused, since a restart would forget it.
func (e *Controller) setDesired(d status.Desired) error {
	if err := e.files.setDesired(d, e.bootID); err != nil {
		if e.state.Desired.Mode != "" { // half of it may be there, or all of it
			err = errors.Join(err, e.files.setDesired(e.state.Desired, e.bootID))
		}
		return fmt.Errorf("cannot record what was asked: %w", err)
	}
	e.state.Desired = d
	return nil
}
