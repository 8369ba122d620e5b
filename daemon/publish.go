package daemon

import (
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/internal/message"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// Listener hears of every change, in order, from the goroutine of Run. It must not
// block.
type Listener interface {
	Notify(v status.View, events []status.Event)
}

// publication is what is published next.
type publication struct {
	state    status.View
	events   []status.Event
	view     atomic.Pointer[status.View]
	listener Listener
}

// View returns what is known now. It never waits.
func (p *publication) View() status.View { return *p.view.Load() }

func (p *publication) emit(event status.Event) { p.events = append(p.events, event) }

// Listen sets who hears of changes. Call it before Run.
func (p *publication) Listen(l Listener) { p.listener = l }

// classify computes the observation from the latest snapshot. An event is emitted only
// when the state has changed.
func (e *Controller) classify() {
	now, p, old := time.Now(), e.state.Policy.Policy, e.state.Observation
	e.state.Snapshot = e.deps.Monitor.Snapshot()
	next := observer.Classify(p, e.state.Snapshot, e.state.Context(), now)
	e.state.Observation = next
	e.state.Placement = p.Placement.Places()
	e.state.Topology = observer.TopologyOf(p, e.state.Snapshot.Processes)
	if next.State != observer.Boot && next.Inferred != "" {
		e.bootRule = false // if the host leaves this mode, somebody has made it leave
	}
	if next.Same(old) || next.State == old.State {
		return
	}
	e.state.ObservedSince = now
	e.emit(status.Event{StateChanged: &status.StateChanged{
		Old: old.State, New: next.State, Reasons: next.Reasons, Private: observer.Secrets(e.state.Snapshot),
	}})
}

// publish hands out the view with what has happened since the last one. Nobody waits for
// a disk to hear of a change, so the files come last. Whoever hears that a transition has
// ended finds its end in the files, so they come first then.
func (e *Controller) publish() {
	if slices.ContainsFunc(e.events, func(event status.Event) bool { return event.Finished != nil }) {
		e.writeSinks()
	}
	e.hand()
	e.writeSinks()
	if !slices.Equal(e.state.Warnings, e.warnings()) {
		e.hand()
	}
}

// hand hands the view and the events to the readers and the listener.
func (e *Controller) hand() {
	e.state.Warnings = e.warnings()
	view, events := e.state, e.events
	e.view.Store(&view)
	e.events = nil
	if e.listener != nil {
		e.listener.Notify(view, events)
	}
	for _, event := range events {
		if c := event.StateChanged; c != nil {
			e.deps.Log.Info("observed state changed", message.WithMessageID(message.StateChanged),
				zap.String("old", string(c.Old)), zap.String("new", string(c.New)), zap.Any("reasons", c.Reasons))
		}
	}
}

// writeSinks brings the files up to date. The journal of a transition is cleared only
// when its end is in them: until then a crash must not lose it.
func (e *Controller) writeSinks() {
	done := e.sinks.Put(e.state, e.intent.Document)
	if !done || !e.journaled || e.running != nil || e.interrupted != nil {
		return
	}
	if err := e.deps.Journal.Clear(); err != nil {
		e.deps.Log.Error("cannot clear the journal", zap.Error(err))
		return
	}
	e.journaled = false
}

// warnings says what is wrong with the daemon itself.
func (e *Controller) warnings() []observer.Reason {
	var warnings []observer.Reason
	for _, w := range []observer.Reason{
		{Code: status.WarnConsole, Text: e.sinks.Warning()},
		{Code: status.WarnPolicy, Text: e.reload.refused},
		{Code: status.WarnHistory, Text: e.deps.History.Warning()},
	} {
		if w.Text != "" {
			warnings = append(warnings, w)
		}
	}
	return warnings
}

// applyBootRule requests the default mode, once, on a machine that came up to its
// graphical target without a mode. The target is started, never isolated, and only if
// nobody has requested a mode.
func (e *Controller) applyBootRule() {
	if !e.bootRule || e.running != nil || e.ending || !bootRuleApplies(e.state.Policy.Policy, e.state) {
		return
	}
	e.bootRule = false
	e.begin(status.Request{
		Mode: e.state.Desired.Mode, Origin: status.OriginBoot, By: byDaemon, Authorization: status.ByPolicy,
	}, nil)
}

func bootRuleApplies(p policy.Policy, v status.View) bool {
	facts := v.Observation.Facts
	return v.Desired.Origin == status.OriginBoot && v.Observation.State == observer.StateUnknown &&
		facts.Is(observer.ManagerStarted) == observer.True &&
		facts.Is(observer.GraphicalTarget) == observer.True &&
		facts.Is(observer.DesktopTarget) == observer.False &&
		facts.Is(observer.ComputeTarget) == observer.False &&
		p.Transitions.Allows(v.Desired.Mode, false)
}
