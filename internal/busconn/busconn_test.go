package busconn_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/busconn"
	"github.com/dubnium/dubnium/internal/busconn/bustest"
)

const (
	service = "org.example.Service"
	object  = dbus.ObjectPath("/org/example/Service")
	changed = "org.example.Service.Changed"
)

var rule = busconn.Rule{Path: object, Interface: service, Member: "Changed"}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// heard listens and passes on the first argument of each signal.
func heard(t *testing.T, bus *busconn.Bus, rules ...busconn.Rule) (*busconn.Listener, <-chan string) {
	t.Helper()
	words := make(chan string, 100)
	l, err := bus.Listen(bounded(t), service, func(s *dbus.Signal) {
		word, _ := s.Body[0].(string)
		words <- word
	}, rules...)
	require.NoError(t, err)
	t.Cleanup(l.Close)
	return l, words
}

func next(t *testing.T, words <-chan string) string {
	t.Helper()
	select {
	case word := <-words:
		return word
	case <-time.After(10 * time.Second):
		require.FailNow(t, "nothing was heard")
		return ""
	}
}

func TestOnlyTheOwnerOfTheNameIsHeard(t *testing.T) {
	address := bustest.Start(t)
	owner, forger := bustest.Peer(t, address), bustest.Peer(t, address)
	bustest.Own(t, owner, service)
	bus := bustest.Connect(t, address)
	_, words := heard(t, bus, rule)

	// These reach the connection: they are sent to it alone.
	forge(t, bus, forger, object, changed, "forged")
	forge(t, bus, forger, "/org/freedesktop/DBus", "org.freedesktop.DBus.NameOwnerChanged", service, "",
		forger.Names()[0])
	require.NoError(t, forger.Emit(object, changed, "forged"))
	require.NoError(t, roundTrip(forger))
	require.NoError(t, owner.Emit(object, changed, "true"))
	require.Equal(t, "true", next(t, words))
	require.Empty(t, words)
}

// forge sends a signal to one connection, past every match rule.
func forge(t *testing.T, to *busconn.Bus, from *dbus.Conn, path dbus.ObjectPath, name string, body ...any) {
	t.Helper()
	dot := len(name) - 1
	for name[dot] != '.' {
		dot--
	}
	from.Send(&dbus.Message{
		Type: dbus.TypeSignal,
		Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldDestination: dbus.MakeVariant(to.UniqueName()),
			dbus.FieldPath:        dbus.MakeVariant(path),
			dbus.FieldInterface:   dbus.MakeVariant(name[:dot]),
			dbus.FieldMember:      dbus.MakeVariant(name[dot+1:]),
			dbus.FieldSignature:   dbus.MakeVariant(dbus.SignatureOf(body...)),
		},
		Body: body,
	}, nil)
}

// roundTrip returns when the bus has passed on what conn sent before.
func roundTrip(conn *dbus.Conn) error {
	return conn.BusObject().Call("org.freedesktop.DBus.GetId", 0).Err
}

func TestAnUncoveredSignalIsNotHeard(t *testing.T) {
	address := bustest.Start(t)
	owner := bustest.Peer(t, address)
	bustest.Own(t, owner, service)
	below := busconn.Rule{Below: "/org/example/item", Interface: service, Member: "Changed", Arg0: "mine"}
	bus := bustest.Connect(t, address)
	_, words := heard(t, bus, rule, below)
	_, all := heard(
		t, bus, busconn.Rule{Interface: service, Member: "Changed"}, busconn.Rule{Interface: service, Member: "Other"},
	)

	for _, s := range []struct {
		path dbus.ObjectPath
		name string
		arg  any
	}{
		{"/org/example/other", changed, "another path"},
		{object, service + ".Other", "another member"},
		{"/org/example/item/1", changed, "another argument"},
		{"/org/example/item/1", changed, uint32(7)},
		{"/org/example/itemized", changed, "mine"},
		{"/org/example/item/1", changed, "mine"},
		{object, changed, "last"},
	} {
		require.NoError(t, owner.Emit(s.path, s.name, s.arg))
	}
	for range 7 {
		next(t, all)
	}
	require.Equal(t, "mine", next(t, words))
	require.Equal(t, "last", next(t, words))
	require.Empty(t, words)
}

func TestANewOwnerIsFollowed(t *testing.T) {
	address := bustest.Start(t)
	first, second := bustest.Peer(t, address), bustest.Peer(t, address)
	l, words := heard(t, bustest.Connect(t, address), rule)
	present, generation := l.Owner()
	require.False(t, present)

	awaitOwner := func(want bool) {
		for {
			present, now := l.Owner()
			if present == want && now > generation {
				generation = now
				return
			}
			require.NoError(t, l.Wait(bounded(t), nil))
		}
	}
	bustest.Own(t, first, service)
	awaitOwner(true)
	require.NoError(t, first.Emit(object, changed, "first"))
	require.Equal(t, "first", next(t, words))

	_, err := first.ReleaseName(service)
	require.NoError(t, err)
	awaitOwner(false)
	bustest.Own(t, second, service)
	awaitOwner(true)
	require.NoError(t, first.Emit(object, changed, "no longer"))
	require.NoError(t, roundTrip(first))
	require.NoError(t, second.Emit(object, changed, "second"))
	require.Equal(t, "second", next(t, words))
}

func TestAStormIsOnePoke(t *testing.T) {
	address := bustest.Start(t)
	owner := bustest.Peer(t, address)
	bustest.Own(t, owner, service)
	var count atomic.Int32
	all := make(chan struct{})
	l, err := bustest.Connect(t, address).Listen(bounded(t), service, func(*dbus.Signal) {
		if count.Add(1) == 1000 {
			close(all)
		}
	}, rule)
	require.NoError(t, err)
	defer l.Close()
	for i := range 1000 {
		require.NoError(t, owner.Emit(object, changed, fmt.Sprint(i)))
	}
	<-all
	require.NoError(t, l.Wait(bounded(t), nil))
	require.LessOrEqual(t, len(l.C()), 1)
}

func TestAClosedListenerHearsNothingAndTakesNobodysRules(t *testing.T) {
	address := bustest.Start(t)
	owner := bustest.Peer(t, address)
	bustest.Own(t, owner, service)
	bus := bustest.Connect(t, address)
	_, words := heard(t, bus, rule)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := bus.Listen(ended, service, func(*dbus.Signal) { t.Error("heard") }, rule)
	require.ErrorIs(t, err, context.Canceled)
	closed, err := bus.Listen(bounded(t), service, func(*dbus.Signal) { t.Error("heard") }, rule)
	require.NoError(t, err)
	closed.Close()
	_, err = bus.Call(bounded(t), "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus.GetId")
	require.NoError(t, err, "the bus has worked off what was sent before")
	require.NoError(t, owner.Emit(object, changed, "still"))
	require.Equal(t, "still", next(t, words))
}

func TestWaitingEnds(t *testing.T) {
	address := bustest.Start(t)
	owner := bustest.Peer(t, address)
	bustest.Own(t, owner, service)
	bus := bustest.Connect(t, address)
	l, _ := heard(t, bus, rule)

	soon, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	require.ErrorIs(t, l.Wait(soon, nil), context.DeadlineExceeded)

	over := make(chan time.Time, 1)
	over <- time.Now()
	require.NoError(t, l.Wait(bounded(t), over))

	bus.SetAbsence(time.Millisecond)
	_, err := owner.ReleaseName(service)
	require.NoError(t, err)
	require.NoError(t, l.Wait(bounded(t), nil), "the poke of its leaving")
	require.ErrorContains(t, l.Wait(bounded(t), nil), "org.example.Service has left the bus")

	bus.SetAbsence(time.Hour)
	go bus.Close()
	require.ErrorIs(t, l.Wait(bounded(t), nil), busconn.ErrDisconnected)
}

func TestACallSaysWhatWentWrong(t *testing.T) {
	address := bustest.Start(t)
	bus := bustest.Connect(t, address)
	_, err := bus.Call(bounded(t), service, object, service+".Get")
	require.EqualError(t, err, "org.example.Service is not on the bus")

	silent := bustest.Peer(t, address)
	bustest.Own(t, silent, service)
	require.NoError(t, silent.Export(hangs{t.Context()}, object, service))
	soon, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err = bus.Call(soon, service, object, service+".Hang")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "no reply from org.example.Service")

	_, err = bus.Properties(bounded(t), service, object, service)
	require.True(
		t, busconn.IsError(err, "org.freedesktop.DBus.Error.UnknownInterface",
			"org.freedesktop.DBus.Error.UnknownMethod"),
		"%v", err,
	)

	bus.Close()
	<-bus.Done()
	_, err = bus.Call(bounded(t), service, object, service+".Get")
	require.ErrorIs(t, err, busconn.ErrDisconnected)
}

type hangs struct{ ctx context.Context }

func (h hangs) Hang() *dbus.Error {
	<-h.ctx.Done()
	return nil
}

func TestAPropertyOfAnotherTypeIsAnError(t *testing.T) {
	p := busconn.Properties{
		"Text": dbus.MakeVariant("x"), "Flag": dbus.MakeVariant(true), "Number": dbus.MakeVariant(uint32(7)),
		"Job": dbus.MakeVariant([]any{uint32(9), dbus.ObjectPath("/")}), "Seat": dbus.MakeVariant(
			[]any{"seat0", dbus.ObjectPath("/")},
		),
		"ID": dbus.MakeVariant([]byte{0xab, 1}), "Zero": dbus.MakeVariant(make([]byte, 16)),
		"None": dbus.MakeVariant([]any{}),
	}
	r := p.Read()
	require.Equal(t, "x", r.String("Text"))
	require.True(t, r.Bool("Flag"))
	require.EqualValues(t, 7, r.Uint32("Number"))
	require.EqualValues(t, 9, r.Number("Job"))
	require.Equal(t, "seat0", r.Name("Seat"))
	require.Equal(t, "ab01", r.Hex("ID"))
	require.Empty(t, r.Hex("Zero"))
	require.NoError(t, r.Err())

	for name, read := range map[string]func(*busconn.Reader){
		"missing":            func(r *busconn.Reader) { r.String("Missing") },
		"another type":       func(r *busconn.Reader) { r.Bool("Text") },
		"an empty struct":    func(r *busconn.Reader) { r.Number("None") },
		"a struct of others": func(r *busconn.Reader) { r.Name("Job") },
		"no struct":          func(r *busconn.Reader) { r.Number("Number") },
	} {
		t.Run(name, func(t *testing.T) {
			r := p.Read()
			read(r)
			require.ErrorContains(t, r.Err(), "the property")
		})
	}
}

func TestParallelGivesTheFirstErrorInOrder(t *testing.T) {
	var calls atomic.Int32
	err := busconn.Parallel(100, func(i int) error {
		calls.Add(1)
		if i > 40 {
			return fmt.Errorf("call %d", i)
		}
		return nil
	})
	require.EqualError(t, err, "call 41")
	require.EqualValues(t, 100, calls.Load())
}
