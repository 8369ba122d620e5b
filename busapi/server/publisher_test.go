package server

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"pgregory.net/rapid"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
	obs "github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

var oneOfEach = []status.Event{
	{
		StateChanged: &status.StateChanged{
			Old: "desktop", New: "transitioning", Reasons: []obs.Reason{{Code: "c", Text: "t"}},
		},
	},
	{Started: &status.Transition{ID: 4, From: "desktop", To: policy.Compute, Started: start}},
	{Step: &status.StepEvent{ID: 4, Index: 1, Count: 3, Step: "isolate", Status: status.StepDoing}},
	{
		Progress: &status.StepProgress{ID: 4, Index: 1, Count: 3, Step: "await-vllm-healthy", Text: "loading, 40 s of 600 s"},
	},
	{
		Prepare: &status.Prepare{
			Begin: true, ID: 4, From: "desktop", To: policy.Compute, Deadline: start, EndsSessions: true,
		},
	},
	{Finished: &status.Record{ID: 4, To: policy.Compute, Result: status.Blocked, Finished: start}},
}

func TestEventsAreSignalledInOrderAfterTheProperties(t *testing.T) {
	h := newHost(t)
	signals := h.subscribe(t)
	view := h.controller.View()
	view.Desired.Mode = policy.Compute
	view.Last = oneOfEach[5].Finished
	h.server.Notify(view, oneOfEach)

	changed := next(t, signals)
	require.Equal(t, busapi.PropertiesInterface+".PropertiesChanged", changed.Name)
	require.Equal(t, busapi.Interface, changed.Body[0])
	require.Equal(
		t, []string{"Converged", "DesiredMode", "LastTransition"}, slices.Sorted(maps.Keys(changed.Body[1].(busapi.Dict))),
	)
	require.Empty(t, changed.Body[2])
	for _, want := range oneOfEach {
		member, _ := busapi.EncodeEvent(want)
		signal := next(t, signals)
		require.Equal(t, busapi.Interface+"."+member, signal.Name)
		got, err := busapi.DecodeEvent(member, signal.Body)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

func TestAViewThatSaysTheSameIsNotAnnounced(t *testing.T) {
	h := newHost(t)
	signals := h.subscribe(t)
	view := h.controller.View()
	h.server.Notify(view, nil)
	view.Observation.At = view.Observation.At.Add(1)
	h.server.Notify(view, oneOfEach[:1])
	require.Equal(t, busapi.Interface+".StateChanged", next(t, signals).Name, "the first signal is the event")
}

// sink is a bus that reads when the test lets it.
type sink struct {
	entered chan struct{} // a signal is being sent
	gate    chan struct{}
	sent    chan string
	changes chan busapi.Dict
}

func newSink() *sink {
	return &sink{
		entered: make(chan struct{}, 4*maxQueued), gate: make(chan struct{}),
		sent: make(chan string, 4*maxQueued), changes: make(chan busapi.Dict, 16),
	}
}

func (s *sink) emit(_, member string, body ...any) error {
	s.entered <- struct{}{}
	<-s.gate
	s.sent <- member
	if member == "PropertiesChanged" {
		s.changes <- body[1].(busapi.Dict)
	}
	return nil
}

func encodeView(v status.View) busapi.Dict {
	return busapi.EncodeProperties(busapi.Properties{View: v})
}

func TestABurstIsOneChangeAndTheEngineNeverWaits(t *testing.T) {
	bus := newSink()
	p := newPublisher(encodeView, bus.emit, zap.NewNop())
	p.start(status.View{})
	view := status.View{Desired: status.Desired{Mode: policy.Desktop}}
	p.notify(view, nil)
	<-bus.entered // and there it hangs
	for _, mode := range []policy.Mode{policy.Compute, policy.Desktop, policy.Compute, policy.StudioLocal} {
		view.Desired.Mode = mode
		p.notify(view, nil)
	}
	close(bus.gate)
	p.stop(t.Context())
	require.Len(t, bus.changes, 2)
	require.Equal(t, "desktop", (<-bus.changes)["DesiredMode"].Value())
	require.Equal(t, "studio-local", (<-bus.changes)["DesiredMode"].Value())
}

// Whoever adds up the changes has what GetAll says, of what blocked a request too,
// which the last transition's record redacts.
func TestTheChangesAddUpToTheProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		encodeView := func(v status.View) busapi.Dict { return encodeView(v.Public()) }
		records := []*status.Record{nil, {ID: 1, Result: status.Success}, {
			ID: 2, Result: status.Blocked, Private: []obs.Secret{{UID: 1000, Text: "bank-tool", Instead: "a program"}},
		}}
		view := status.View{
			BlockedBy: []guards.Verdict{{Reason: "bank-tool runs"}}, Last: rapid.SampledFrom(records).Draw(t, "last"),
		}
		known := encodeView(view)
		p := newPublisher(encodeView, func(_, _ string, body ...any) error {
			maps.Copy(known, body[1].(busapi.Dict))
			return nil
		}, zap.NewNop())
		published := p.encode(view)
		for range 10 {
			if rapid.Bool().Draw(t, "another record") {
				view.Last = rapid.SampledFrom(records).Draw(t, "last")
			}
			view.Desired.Mode = rapid.SampledFrom(policy.Modes()).Draw(t, "desired")
			now := view
			published = p.publish(published, batch{view: &now})
			if !reflect.DeepEqual(encodeView(view), known) {
				t.Fatalf("%v is known of %v", known, encodeView(view))
			}
		}
	})
}

func TestABusThatDoesNotReadCostsStepsOnly(t *testing.T) {
	bus := newSink()
	p := newPublisher(encodeView, bus.emit, zap.NewNop())
	for range maxQueued {
		p.notify(status.View{}, oneOfEach[2:3])
	}
	p.notify(status.View{}, oneOfEach[3:])
	require.Len(t, p.take().events, 2)
	p.notify(status.View{}, oneOfEach)
	p.start(status.View{})
	close(bus.gate)
	p.stop(t.Context())
	close(bus.sent)
	var sent []string
	for member := range bus.sent {
		sent = append(sent, member)
	}
	require.Equal(
		t,
		[]string{
			"StateChanged", "TransitionStarted", "TransitionStep", "TransitionProgress", "PrepareForTransition",
			"TransitionFinished",
		},
		sent,
	)
}

func TestStopDoesNotWaitForABusThatDoesNotRead(t *testing.T) {
	bus := newSink()
	p := newPublisher(encodeView, bus.emit, zap.NewNop())
	p.start(status.View{})
	p.notify(status.View{}, oneOfEach)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p.stop(ctx)
	close(bus.gate)
}

func TestASignalThatIsLostIsLoggedAndTheNextOneSent(t *testing.T) {
	core, logs := observer.New(zapcore.WarnLevel)
	var sent []string
	p := newPublisher(encodeView, func(_, member string, _ ...any) error {
		sent = append(sent, member)
		return errors.New("closed")
	}, zap.New(core))
	p.publish(busapi.Dict{}, batch{events: oneOfEach})
	require.Len(t, sent, len(oneOfEach))
	require.Equal(t, len(oneOfEach), logs.FilterMessage("a signal was lost").Len())
}
