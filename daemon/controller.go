// Package daemon is the controller. It keeps what was asked apart from what is, and
// moves the host through guarded, journaled, bounded and reversible transitions, one at
// a time.
//
// One goroutine, that of Run, owns three values: the intent (what was asked), the
// transition that runs, and the observation (what is). A signal from the host says only
// that a read may be worth while. The transition runs in a goroutine of its own and
// sends messages. Readers get an immutable View and never wait for either.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"time"

	"go.uber.org/zap"

	"github.com/dubnium/dubnium/daemon/assess"
	"github.com/dubnium/dubnium/daemon/history"
	"github.com/dubnium/dubnium/daemon/intent"
	"github.com/dubnium/dubnium/daemon/monitor"
	"github.com/dubnium/dubnium/daemon/reconcile"
	"github.com/dubnium/dubnium/daemon/runner"
	"github.com/dubnium/dubnium/daemon/sinks"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/internal/message"
	"github.com/dubnium/dubnium/plans"
	"github.com/dubnium/dubnium/policy"
)

// Config is what a controller is made of.
type Config struct {
	Policy  policy.Document
	Monitor *monitor.Monitor
	// StepHandlers makes the handlers of the kinds of step that change the host.
	StepHandlers func(policy.Policy) map[plans.Kind]plans.StepHandler
	Graph        assess.GraphReader
	BootID       string
	// Boottime is how long this boot has lasted, sleep included; nil for CLOCK_BOOTTIME.
	Boottime func() time.Duration
	Log      *zap.Logger
}

// Controller is the daemon's core. Make one with New.
type Controller struct {
	publication
	loop
	timers

	deps         runner.Deps
	stepHandlers func(policy.Policy) map[plans.Kind]plans.StepHandler
	boottime     func() time.Duration
	sinks        *sinks.Sinks

	// Owned by the goroutine of Run.
	intent     intent.Intent
	running    *running // nil when no transition runs
	reconciler reconcile.State
	reload     reload
	nextID     uint64
	// interrupted is the transition that the daemon died in, until its recovery begins.
	interrupted *runner.Entry
	// journaled: the journal holds an entry that is to be cleared.
	journaled bool
	// bootRule: the boot rule may still apply.
	bootRule bool
}

// loop is how other goroutines reach that of Run.
type loop struct {
	calls    chan func()
	messages chan envelope
	stopped  chan struct{}
	life     context.Context // Run's: transitions outlive the calls that requested them
	ending   bool
}

// envelope is a message from the runner. handled is closed when it was handled.
type envelope struct {
	message runner.Message
	handled chan struct{}
}

// New returns a controller that takes up what its directories hold: the intent of this
// boot, the last transition, and one that did not end. Errors: a directory cannot be
// used, or the journal is not one that this version understands.
func New(c Config) (*Controller, error) {
	if c.Boottime == nil {
		c.Boottime = boottime
	}
	paths := c.Policy.Paths
	e := &Controller{
		loop:         loop{calls: make(chan func()), messages: make(chan envelope), stopped: make(chan struct{})},
		timers:       timers{timer: time.NewTimer(0)},
		stepHandlers: c.StepHandlers, boottime: c.Boottime, bootRule: true,
		sinks: sinks.New(paths, c.BootID, c.Boottime, c.Log),
	}
	e.timer.Stop()
	e.deps = runner.Deps{
		Monitor: c.Monitor, Graph: c.Graph, Journal: runner.NewJournal(paths.State),
		History: history.Open(c.Policy.Policy, c.Log), BootID: c.BootID, Log: c.Log,
		Inhibitors: func() []status.Inhibitor { return e.View().Inhibitors }, Send: e.send,
	}
	if err := e.applyPolicy(c.Policy); err != nil {
		return nil, err
	}
	return e, e.restore()
}

// applyPolicy makes d the policy of everything that begins from now on. A transition
// that runs has its own copy of the policy that it began with.
func (e *Controller) applyPolicy(d policy.Document) error {
	if err := e.sinks.SetPolicy(d.Policy); err != nil {
		return err
	}
	e.state.Policy, e.deps.Policy = d, d.Policy
	e.deps.History.SetPolicy(d.Policy)
	handlers := runner.WaitHandlers(d.Policy, e.deps.Monitor)
	if e.stepHandlers != nil {
		maps.Copy(handlers, e.stepHandlers(d.Policy))
	}
	e.deps.Handlers = runner.Breakable(d.Policy.Paths.State, handlers)
	return nil
}

func (e *Controller) restore() (err error) {
	if e.interrupted, err = e.deps.Journal.Load(); err != nil {
		return err
	}
	e.journaled = e.interrupted != nil
	if err := e.restoreIntent(); err != nil {
		return err
	}
	if e.state.Last, err = e.sinks.Last(); err != nil {
		return err
	}
	e.nextID = 1 + max(e.nextID, e.lastID())
	if last := e.state.Last; last != nil {
		// The file is for everybody, and tells less than the history.
		if full, err := e.deps.History.Record(context.Background(), last.ID); err == nil {
			e.state.Last = &full
		}
	}
	e.deps.History.Started(e.deps.BootID)
	e.classify()
	e.events = nil // nobody can have heard of another state before this one
	e.publish()
	return nil
}

// restoreIntent takes up the intent of this boot, or begins one with the default mode.
func (e *Controller) restoreIntent() error {
	document, ok, err := e.sinks.Intent(e.deps.BootID)
	if err != nil {
		return err
	}
	if !ok {
		document = intent.Document{BootID: e.deps.BootID, Desired: status.Desired{
			Mode: e.state.Policy.DefaultMode, Origin: status.OriginBoot, By: byDaemon, Since: time.Now(),
		}}
	}
	e.nextID = document.LastID()
	if p := document.Pending; p != nil && (e.interrupted == nil || e.interrupted.Record.ID != p.ID) {
		document.Pending = nil // the daemon died before the transition began
	}
	if err := e.sinks.SaveIntent(document); err != nil {
		return err
	}
	e.setIntent(intent.Intent{Document: document}, intent.Effects{})
	return nil
}

// lastID is the highest id that is known to have been given to a transition.
func (e *Controller) lastID() uint64 {
	id, err := e.deps.History.LastID()
	if err != nil {
		e.deps.Log.Error("the history cannot be read, ids may be given twice",
			message.WithMessageID(message.HistoryFault), zap.Error(err))
	}
	if e.interrupted != nil {
		id = max(id, e.interrupted.Record.ID)
	}
	if e.state.Last != nil { // the history may have been on a disk that was full
		id = max(id, e.state.Last.ID)
	}
	return id
}

// Run works until ctx ends. A transition that runs then is left to its journal.
func (e *Controller) Run(ctx context.Context) {
	defer close(e.stopped)
	defer e.abandonReload()
	defer e.timer.Stop()
	defer e.deps.History.Retry()
	e.life = ctx
	if entry := e.interrupted; entry != nil {
		e.interrupted = nil
		e.start(runner.Resume(e.deps, *entry), status.Request{}, true)
	}
	e.publish()
	for {
		select {
		case <-ctx.Done():
			e.end()
			return
		case call := <-e.calls:
			call()
		case m := <-e.messages:
			e.handle(m)
		case <-e.deps.Monitor.Changed():
			e.classify()
			e.applyBootRule()
		case <-e.deps.History.Changed():
		case <-e.timer.C:
			e.deps.History.Retry()
			e.classify()
			e.refreshRunning()
		}
		e.runTimers()
		e.publish()
	}
}

// end serves calls and messages until the running transition has stopped by itself: it
// stops by the same context, and may be sending a message.
func (e *Controller) end() {
	e.ending = true
	for e.running != nil {
		select {
		case call := <-e.calls:
			call()
		case m := <-e.messages:
			e.handle(m)
		}
	}
}

// call runs f in the goroutine of Run and waits for it.
func (e *Controller) call(ctx context.Context, f func()) error {
	ran := make(chan struct{})
	select {
	case e.calls <- func() { f(); close(ran) }:
		<-ran
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-e.stopped:
		return status.ErrShuttingDown
	}
}

// send hands a message of the runner to the goroutine of Run and waits until it was
// handled.
func (e *Controller) send(m runner.Message) {
	handled := make(chan struct{})
	e.messages <- envelope{m, handled}
	<-handled
}

// byDaemon is the requester of what the daemon requests by itself.
const byDaemon = "dubniumd"

// setIntent makes next the intent and publishes it.
func (e *Controller) setIntent(next intent.Intent, effects intent.Effects) {
	e.intent = next
	e.state.Desired, e.state.Lease = next.Desired, next.Published(e.state.Lease, e.boottime())
	for _, line := range effects.Log {
		e.deps.Log.Info(line)
	}
}

// intend changes the intent by an event. If the file cannot be written, the change holds
// in memory, and the next publication writes the file again.
func (e *Controller) intend(event intent.Event) intent.Effects {
	next, effects := intent.Next(e.intent, event)
	e.setIntent(next, effects)
	return effects
}

// intendOnDisk is intend for a change that must not be lost by a restart. When the file
// cannot be written, nothing has changed.
func (e *Controller) intendOnDisk(event intent.Event) error {
	next, effects := intent.Next(e.intent, event)
	if reflect.DeepEqual(next.Document, e.intent.Document) {
		e.setIntent(next, effects)
		return nil
	}
	if err := e.sinks.SaveIntent(next.Document); err != nil {
		return errors.Join(err, e.sinks.SaveIntent(e.intent.Document)) // the file may hold next
	}
	e.setIntent(next, effects)
	return nil
}

func busy(running *status.Transition) error {
	return fmt.Errorf("%w: %d from %s to %s, since %s", status.ErrBusy,
		running.ID, running.From, running.To, running.Started.Format(time.TimeOnly))
}
