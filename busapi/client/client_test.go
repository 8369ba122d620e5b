package client

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/internal/testhost/hosttest"
	"github.com/dubnium/dubnium/policy"
)

const agreed = "0123456789abcdef0123456789abcdef"

func TestReadsReturnTheDaemonsValues(t *testing.T) {
	e := &engine{view: status.View{Desired: status.Desired{Mode: policy.Desktop, Since: begin}}}
	serve(t, e)
	c := opened(t, Options{})

	p, err := c.Properties(t.Context())
	require.NoError(t, err)
	require.Equal(t, "1.2.3", p.Version)
	require.Equal(t, policy.Modes(), p.Modes)
	require.Equal(t, e.View().Desired, p.View.Desired)
	require.True(t, p.View.Converged())

	evidence, err := c.Observe(t.Context())
	require.NoError(t, err)
	require.Equal(t, e.View().Observation, evidence.Observation)

	records, err := c.History(t.Context(), status.Filter{Limit: 12, By: "alice"})
	require.NoError(t, err)
	require.Equal(t, []status.Record{{ID: 12, By: "alice", Finished: begin}}, records)
	records, err = c.History(t.Context(), status.Filter{Limit: 3, By: "bob"})
	require.NoError(t, err)
	require.Equal(t, []status.Record{
		{ID: 3, By: "bob", Finished: begin}, {ID: 2, By: "bob", Finished: begin}, {ID: 1, By: "bob", Finished: begin},
	}, records, "what is too much for one reply is asked for in several")

	plan, err := c.Plan(t.Context(), policy.Compute)
	require.NoError(t, err)
	require.Equal(t, status.Preview{To: policy.Compute, Fingerprint: "f00d"}, plan)
	_, err = c.Plan(t.Context(), "sauna")
	require.ErrorIs(t, err, busapi.ErrUnknownMode)

	_, err = c.Transition(t.Context(), 3)
	require.ErrorIs(t, err, status.ErrNoSuchTransition)
}

func TestARequestIsFollowedToItsEnd(t *testing.T) {
	e := (&engine{}).script(func(e *engine, r status.Request) error {
		require.Equal(t, []string{"tonight", agreed}, []string{r.Why, r.Plan})
		e.started()
		e.step(5, "stop-dm", status.StepDoing)
		e.step(99, "not ours", status.StepDoing)
		return nil
	})
	serve(t, e)
	var accepted uint64
	var steps []string
	record, err := opened(t, Options{}).Request(t.Context(), policy.Compute, RequestOptions{Why: "tonight", Plan: agreed}, ProgressHandler{
		Accepted: func(id uint64) { accepted = id },
		Step: func(s status.StepEvent) {
			steps = append(steps, fmt.Sprint(s.Step, " ", s.Status))
			if s.Status == status.StepDoing {
				e.step(5, "stop-dm", status.StepDone)
				e.finished()
			}
		},
	})
	require.NoError(t, err)
	require.Equal(t, reached, record)
	require.Equal(t, uint64(5), accepted)
	require.Equal(t, []string{"stop-dm doing", "stop-dm done"}, steps)
}

// A request that changes nothing has ended before its id has been read.
func TestATransitionThatEndsAtOnceIsNotMissed(t *testing.T) {
	e := (&engine{}).script(func(e *engine, _ status.Request) error {
		e.finished()
		return nil
	})
	serve(t, e)
	record, err := opened(t, Options{}).Request(t.Context(), policy.Compute, RequestOptions{}, ProgressHandler{})
	require.NoError(t, err)
	require.Equal(t, status.Success, record.Result)
}

func TestARefusalIsTheContractsError(t *testing.T) {
	e := (&engine{}).script(func(*engine, status.Request) error { return status.ErrBusy })
	serve(t, e)
	c := opened(t, Options{})
	_, err := c.Request(t.Context(), policy.Compute, RequestOptions{}, ProgressHandler{})
	require.ErrorIs(t, err, status.ErrBusy)
	_, err = c.Submit(t.Context(), "sauna", RequestOptions{})
	require.ErrorIs(t, err, busapi.ErrUnknownMode)
	require.ErrorContains(t, err, "the modes are desktop, studio-local, compute")
}

func TestADaemonThatGoesAwayLeavesTheOutcomeUnknown(t *testing.T) {
	ends := map[string]func(e *engine, bus privateBus, conn *dbus.Conn){
		"it stops":     func(e *engine, _ privateBus, _ *dbus.Conn) { e.server.Stop(context.Background()) },
		"it dies":      func(_ *engine, _ privateBus, conn *dbus.Conn) { _ = conn.Close() },
		"the bus dies": func(_ *engine, bus privateBus, _ *dbus.Conn) { bus.kill() },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			e := (&engine{}).script(func(e *engine, _ status.Request) error { e.started(); return nil })
			bus, conn := serve(t, e)
			c := opened(t, Options{})
			_, err := c.Request(
				t.Context(), policy.Compute, RequestOptions{}, ProgressHandler{Accepted: func(uint64) { end(e, bus, conn) }},
			)
			require.ErrorIs(t, err, ErrOutcomeUnknown)
			require.ErrorContains(t, err, "transition 5: ")
		})
	}
}

// The record that was announced stands when the daemon has gone since.
func TestADaemonThatLeavesAfterTheEndIsNoDoubt(t *testing.T) {
	e := (&engine{}).script(func(e *engine, _ status.Request) error { e.started(); return nil })
	_, conn := serve(t, e)
	c := opened(t, Options{})
	require.NoError(t, c.follow(t.Context()))
	id, err := c.Submit(t.Context(), policy.Compute, RequestOptions{})
	require.NoError(t, err)
	e.finished()
	e.server.Stop(t.Context())
	_ = conn.Close()
	record, err := c.awaitFinished(t.Context(), id, ProgressHandler{})
	require.NoError(t, err)
	require.Equal(t, reached, record)
}

func TestWaitingEndsWithItsContext(t *testing.T) {
	e := (&engine{}).script(func(e *engine, _ status.Request) error { e.started(); return nil })
	serve(t, e)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := opened(t, Options{}).Request(
		ctx, policy.Compute, RequestOptions{}, ProgressHandler{Accepted: func(uint64) { cancel() }},
	)
	require.ErrorIs(t, err, ErrStopped)
	require.EqualError(t, err, "stopped waiting, transition 5 goes on")
}

// Anybody can send a signal that looks like the daemon's, to us alone.
func TestForgedSignalsAreNotBelieved(t *testing.T) {
	e := (&engine{}).script(func(e *engine, _ status.Request) error { e.started(); return nil })
	bus, _ := serve(t, e)
	c := opened(t, Options{})
	forger := hosttest.Connect(t, bus.Host)
	forge := func(path dbus.ObjectPath, iface, member string, body ...any) {
		require.NoError(t, forger.Send(&dbus.Message{Type: dbus.TypeSignal, Body: body, Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldPath:        dbus.MakeVariant(path),
			dbus.FieldInterface:   dbus.MakeVariant(iface),
			dbus.FieldMember:      dbus.MakeVariant(member),
			dbus.FieldDestination: dbus.MakeVariant(c.conn.Names()[0]),
			dbus.FieldSignature:   dbus.MakeVariant(dbus.SignatureOf(body...)),
		}}, nil).Err)
	}
	member, body := busapi.EncodeEvent(status.Event{Finished: &status.Record{ID: 5, Result: status.Failed}})
	record, err := c.Request(t.Context(), policy.Compute, RequestOptions{}, ProgressHandler{Accepted: func(uint64) {
		forge(busapi.Path, busapi.Interface, member, body...)
		forge("/org/freedesktop/DBus", busDaemon, "NameOwnerChanged", busapi.BusName, ":1.1", forger.Names()[0])
		forge(busapi.Path, busapi.Interface, member, body...)
		// A call to the client comes after the signals: they have been read.
		require.Error(t, forger.Object(c.conn.Names()[0], "/").Call("com.example.Nothing", 0).Err)
		e.finished()
	}})
	require.NoError(t, err)
	require.Equal(t, status.Success, record.Result)
}

func TestASignalOfTheDaemonThatCannotBeReadIsAnError(t *testing.T) {
	e := (&engine{}).script(func(e *engine, _ status.Request) error { e.started(); return nil })
	_, conn := serve(t, e)
	_, err := opened(t, Options{}).Request(t.Context(), policy.Compute, RequestOptions{}, ProgressHandler{Accepted: func(uint64) {
		require.NoError(t, conn.Emit(busapi.Path, busapi.Interface+".TransitionFinished", "five"))
	}})
	require.ErrorContains(t, err, "cannot decode the signal TransitionFinished")
}

func TestFlagsSayWhetherAPersonCanBeAsked(t *testing.T) {
	bus := systemBus(t)
	daemon, seen := hosttest.Connect(t, bus.Host), &calls{}
	require.NoError(t, daemon.Export(seen, busapi.Path, busapi.Interface))
	_, err := daemon.RequestName(busapi.BusName, dbus.NameFlagDoNotQueue)
	require.NoError(t, err)
	for _, interactive := range []bool{false, true} {
		id, err := opened(t, Options{Interactive: interactive}).Submit(t.Context(), policy.Compute, RequestOptions{})
		require.NoError(t, err)
		require.Equal(t, uint64(5), id)
	}
	require.Equal(
		t, []dbus.Flags{dbus.FlagNoAutoStart, dbus.FlagNoAutoStart | dbus.FlagAllowInteractiveAuthorization}, seen.seen(),
	)
}

func TestADaemonThatIsNotThereIsToldFromABusThatIsNot(t *testing.T) {
	_, err := Open(t.Context(), Options{})
	require.ErrorIs(t, err, ErrNoBus)

	bus := systemBus(t)
	c := opened(t, Options{})
	_, err = c.Properties(t.Context())
	require.ErrorIs(t, err, ErrNotRunning)
	_, err = c.Request(t.Context(), policy.Compute, RequestOptions{}, ProgressHandler{})
	require.ErrorIs(t, err, ErrNotRunning)
	bus.kill()
	<-c.conn.Context().Done()
	_, err = c.Properties(t.Context())
	require.ErrorIs(t, err, ErrNoBus)
}

func TestADaemonThatNeverAnswersIsGivenUp(t *testing.T) {
	bus := systemBus(t)
	stuck := hosttest.Connect(t, bus.Host)
	_, err := stuck.RequestName(busapi.BusName, dbus.NameFlagDoNotQueue)
	require.NoError(t, err)
	stuck.Eavesdrop(make(chan *dbus.Message)) // takes every message and answers none
	c := opened(t, Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = c.Properties(ctx)
	require.ErrorIs(t, err, ErrNoAnswer)
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	_, err = c.Submit(ctx, policy.Compute, RequestOptions{})
	require.ErrorIs(t, err, ErrStopped)
}

func TestABusThatNeverAnswersIsGivenUp(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "bus")
	listener, err := net.Listen("unix", socket)
	require.NoError(t, err)
	defer listener.Close()
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+socket)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = Open(ctx, Options{})
	require.ErrorIs(t, err, ErrNoBus)
}

// What the bus says later wins over what it said first.
func TestTheOwnerIsTheLatestOne(t *testing.T) {
	changed := func(owner string) *dbus.Signal {
		return &dbus.Signal{
			Sender: busDaemon, Name: nameOwnerChanged, Path: "/org/freedesktop/DBus", Body: []any{busapi.BusName, "", owner},
		}
	}
	s := newSignals()
	mark := s.mark()
	s.DeliverSignal(busDaemon, "NameOwnerChanged", changed(":1.9"))
	s.own(":1.8", mark)
	require.Equal(t, ":1.9", s.owner)
	s.own(":1.9", s.mark())
	_, _, lost := s.take()
	require.False(t, lost)
	s.DeliverSignal(busDaemon, "NameOwnerChanged", &dbus.Signal{Sender: busDaemon, Name: nameOwnerChanged, Body: []any{1}})
	require.Equal(t, ":1.9", s.owner)
	s.DeliverSignal(busDaemon, "NameOwnerChanged", changed(""))
	_, _, lost = s.take()
	require.True(t, lost)
}
