package busconn

import (
	"errors"
	"io"
	"math"
	"net"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/rawbus"
	"github.com/dubnium/dubnium/internal/wire"
)

// stream is a gate and what the bus sends it.
type stream struct {
	*gate
	bus   net.Conn
	calls chan Call
}

func newStream(t *testing.T, maxReply int) *stream {
	ours, bus := net.Pipe()
	t.Cleanup(func() { ours.Close(); bus.Close() })
	s := &stream{bus: bus, calls: make(chan Call, 16)}
	s.gate = newGate(ours, func(c Call) { s.calls <- c })
	s.maxReply, s.maxSignal = maxReply, MaxUnasked
	s.begun.Store(true)
	return s
}

// send sends messages, and a signal behind them that passes.
func (s *stream) send(t *testing.T, messages ...*rawbus.Message) {
	t.Helper()
	go func() {
		for _, m := range append(messages, rawbus.NewSignal("", "/", "a.b", "Last")) {
			if _, err := s.bus.Write(m.Encode()); err != nil {
				return // the test is over
			}
		}
	}()
}

// passed are the messages that the library gets, up to the last.
func (s *stream) passed(t *testing.T) (all []*dbus.Message) {
	t.Helper()
	for {
		m, err := dbus.DecodeMessage(s)
		require.NoError(t, err)
		if member, _ := m.Headers[dbus.FieldMember].Value().(string); member == "Last" {
			return all
		}
		all = append(all, m)
	}
}

func from(m *rawbus.Message, sender string) *rawbus.Message {
	m.Fields = append(m.Fields, rawbus.Field{Code: rawbus.FieldSender, Value: rawbus.String(sender)})
	return m
}

// reply answers our call of that serial number.
func reply(serial uint32, values ...rawbus.Value) *rawbus.Message {
	return from(rawbus.NewReturn(rawbus.Received{Sender: ":1.5", Serial: serial}).With(values...), ":1.9")
}

var nan = rawbus.Array("{du}", rawbus.Entry(rawbus.Double(math.NaN()), rawbus.Uint32(1)))

func TestSignalsToUsAlonePassOnlyFromTheBus(t *testing.T) {
	s := newStream(t, MaxUnasked)
	s.send(t,
		from(rawbus.NewSignal(":1.5", "/", "a.b", "Forged"), ":1.7"),
		from(rawbus.NewSignal(":1.5", "/", busName, "NameAcquired").With(rawbus.String("a.b")), busName),
		from(rawbus.NewSignal("", "/", "a.b", "Broadcast"), ":1.7"),
		from(rawbus.NewSignal("", "/", "a.b", "Unreadable").With(nan), ":1.7"),
		from(rawbus.NewSignal("", "/", "a.b", "Long").With(rawbus.String(strings.Repeat("x", MaxUnasked))), ":1.7"),
	)
	var members []any
	for _, m := range s.passed(t) {
		members = append(members, m.Headers[dbus.FieldMember].Value())
	}
	require.Equal(t, []any{"NameAcquired", "Broadcast"}, members)
}

// Whoever waits for a reply must not wait for one that was discarded.
func TestAReplyThatCannotBeUsedBecomesAnError(t *testing.T) {
	s := newStream(t, 1000)
	s.send(t, reply(5, rawbus.String("fine")), reply(6, nan), reply(7, rawbus.String(strings.Repeat("x", 1000))))
	all := s.passed(t)
	require.Len(t, all, 3)
	require.Equal(t, []any{"fine"}, all[0].Body)
	for i, want := range []struct {
		serial uint32
		name   string
	}{{6, "org.freedesktop.DBus.Error.InvalidArgs"}, {7, "org.freedesktop.DBus.Error.LimitsExceeded"}} {
		m := all[i+1]
		require.Equal(t, dbus.TypeError, m.Type)
		require.Equal(t, want.serial, m.Headers[dbus.FieldReplySerial].Value())
		require.Equal(t, want.name, m.Headers[dbus.FieldErrorName].Value())
	}
}

func TestMethodCallsNeverReachTheLibrary(t *testing.T) {
	s := newStream(t, MaxUnasked)
	odd := rawbus.NewCall(":1.5", "/", "a.b", "Odd").With(rawbus.Variant(nan))
	odd.Flags |= 0x40
	odd.Fields = append(odd.Fields, rawbus.Field{Code: 200, Value: nan})
	s.send(t,
		from(rawbus.NewCall(":1.5", "/", "a.b", "Do").With(rawbus.String("x")), ":1.7"), from(odd, ":1.7"),
		from(
			rawbus.NewCall(":1.5", "/", "a.b", "Long").With(rawbus.Array("y"),
				rawbus.String(strings.Repeat("x", 4*MaxUnasked))),
			":1.7",
		),
		from(rawbus.NewCall(":1.5", "/"+strings.Repeat("x", 2*MaxUnasked), "a.b", "Nowhere"), ":1.7"),
	)
	require.Empty(t, s.passed(t))
	do := <-s.calls
	args, err := do.Args()
	require.NoError(t, err)
	require.Equal(t, []any{":1.7", "Do", []any{"x"}}, []any{do.Sender, do.Member, args})
	call := <-s.calls
	require.Equal(t, "Odd", call.Member, "what is not known of it is ignored")
	long := <-s.calls
	require.True(t, long.TooLong)
	require.Equal(t, "Long", long.Member)
	require.Empty(t, s.calls, "of whom a call with an endless path is stays unknown")
}

// A reply from a later version of the protocol is read without what is new in it.
func TestWhatTheLibraryDoesNotKnowIsLeftOut(t *testing.T) {
	s := newStream(t, MaxUnasked)
	later := reply(5, rawbus.String("fine"))
	later.Flags |= 0x80
	later.Fields = append(later.Fields, rawbus.Field{Code: 99, Value: nan})
	s.send(t, later)
	all := s.passed(t)
	require.Len(t, all, 1)
	require.Equal(t, []any{"fine"}, all[0].Body)
	require.Equal(t, uint32(5), all[0].Headers[dbus.FieldReplySerial].Value())
}

func TestWhatIsNoDBusEndsTheConnection(t *testing.T) {
	s := newStream(t, MaxUnasked)
	go func() { _, _ = s.bus.Write(make([]byte, wire.FixedSize)) }()
	_, err := s.Read(make([]byte, 1))
	require.ErrorIs(t, err, wire.ErrNotDBus)

	s = newStream(t, MaxUnasked)
	go func() {
		_, _ = s.bus.Write(reply(5).Encode()[:20])
		_ = s.bus.Close()
	}()
	_, err = s.Read(make([]byte, 1))
	require.True(t, errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF), "%v", err)
}

// What one message took is not kept for the next.
func TestALongReplyIsNotKept(t *testing.T) {
	s := newStream(t, 32<<20)
	s.send(t, reply(5, rawbus.String(strings.Repeat("x", 8<<20))), reply(6, rawbus.String("short")))
	require.Len(t, s.passed(t), 2)
	require.Less(t, cap(s.message), 1<<20)
}

func TestBusAddresses(t *testing.T) {
	for address, path := range map[string]string{
		"unix:path=/run/dbus/system_bus_socket":            "/run/dbus/system_bus_socket",
		"unix:path=/tmp/a%20b,guid=0123456789abcdef":       "/tmp/a b",
		"unix:guid=0123456789abcdef,abstract=/tmp/dbus-xy": "@/tmp/dbus-xy",
	} {
		got, err := socketPath(address)
		require.NoError(t, err)
		require.Equal(t, path, got)
	}
	for _, address := range []string{"", "unix:", "tcp:host=localhost,port=1", "unix:path=/a%zz", "path=/run/x"} {
		_, err := socketPath(address)
		require.ErrorContains(t, err, "cannot read the bus address")
	}
	_, err := Open(Options{Address: "unix:path=/nowhere/1;unix:path=/nowhere/2"})
	require.ErrorContains(t, err, "/nowhere/1")
	require.ErrorContains(t, err, "/nowhere/2")
}
