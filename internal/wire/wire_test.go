package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/dbusfuzz"
	"github.com/dubnium/dubnium/internal/rawbus"
)

// parse reads a whole message.
func parse(t require.TestingT, data []byte) (h Header, body []byte) {
	fixed, err := ParseFixed(data[:FixedSize])
	require.NoError(t, err)
	require.Len(t, data, FixedSize+fixed.Fields+fixed.Body)
	h, err = ParseHeader(fixed, data[FixedSize:FixedSize+fixed.Fields])
	require.NoError(t, err)
	return h, data[FixedSize+fixed.Fields:]
}

// library decodes a message as the bus library does, and says what came of it.
func library(data []byte) (m *dbus.Message, err error) {
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("panic: %v", fault)
		}
	}()
	return dbus.DecodeMessage(bytes.NewReader(data))
}

// What the specification allows is read, and what passes for the library is decoded by
// it to the same values.
func TestLegalMessagesAreReadAndTheLibraryReadsWhatPasses(t *testing.T) {
	seed, err := dbusfuzz.Seed()
	require.NoError(t, err)
	t.Logf("%s=%d repeats this", dbusfuzz.SeedVariable, seed)
	g := dbusfuzz.Generator{
		Seed: seed, Words: []string{"desktop"},
		Targets: []dbusfuzz.Target{{Names: []string{":1.5"}}},
	}
	passed, held := 0, 0
	for i := range uint64(1500) {
		sample := g.Message(i)
		data := sample.Message.Encode()
		h, body := parse(t, data)
		require.NoError(t, h.Check(body, false), sample)
		if h.Check(body, true) != nil {
			held++
			continue
		}
		passed++
		if head := h.Rewritten(); head != nil {
			again, rest := parse(t, append(head, body...))
			require.Equal(t, body, rest)
			require.False(t, again.unknown, sample)
			h.unknown, h.flags, h.Fields, h.unpadded = false, h.flags&knownFlags, again.Fields, again.unpadded
			require.Equal(t, h, again, sample)
			data = append(head, body...)
		}
		m, err := library(data)
		require.NoError(t, err, sample)
		member, _ := m.Headers[dbus.FieldMember].Value().(string)
		require.Equal(t, h.Member, member)
	}
	require.Greater(t, passed, 300)
	require.Greater(t, held, 30, "the generator makes what the library cannot read")
}

// Each of these ended a daemon that let the library decode it.
func TestWhatTheLibraryCannotReadDoesNotPass(t *testing.T) {
	deep := rawbus.Dict()
	for range 61 { // with what is around it, as many as the specification allows
		deep = rawbus.Variant(deep)
	}
	entry := func(key rawbus.Value) rawbus.Value { return rawbus.Entry(key, rawbus.Uint32(1)) }
	for name, value := range map[string]rawbus.Value{
		"a NaN key":                rawbus.Array("{du}", entry(rawbus.Double(math.NaN()))),
		"a boolean key":            rawbus.Array("{bu}", entry(rawbus.Bool(true))),
		"no boolean key":           rawbus.Array("{bu}"),
		"a signature key":          rawbus.Array("{gu}", entry(rawbus.Signature("s"))),
		"a dictionary in variants": deep,
	} {
		t.Run(name, func(t *testing.T) {
			m := rawbus.NewCall(":1.5", "/", "a.b", "C").With(rawbus.Dict(rawbus.Option("x", value)))
			h, body := parse(t, m.Encode())
			require.NoError(t, h.Check(body, false))
			require.ErrorContains(t, h.Check(body, true), "cannot read")
			args, err := h.Args(body)
			require.NoError(t, err)
			option := args[0].(map[string]dbus.Variant)["x"]
			require.Nil(t, option.Value(), "of a container only the type is kept")
			require.Equal(t, value.Type, option.Signature().String())
		})
	}
}

func TestArgumentsAreTyped(t *testing.T) {
	values := []rawbus.Value{
		rawbus.String("é"), rawbus.Uint64(math.MaxUint64), rawbus.Uint32(7), rawbus.Bool(true), rawbus.Double(0.5),
		rawbus.Path("/a/b"), rawbus.Signature("a{sv}"), rawbus.Array("s", rawbus.String("a"), rawbus.String("")),
		rawbus.Dict(
			rawbus.Option("k", rawbus.Uint32(1)), rawbus.Option("l", rawbus.String("v")),
		), rawbus.Variant(rawbus.String("w")),
	}
	for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
		m := rawbus.NewCall(":1.5", "/", "a.b", "C")
		m.Order = order
		h, body := parse(t, m.With(values...).Encode())
		args, err := h.Args(body)
		require.NoError(t, err)
		require.Equal(t, []any{
			"é", uint64(math.MaxUint64), uint32(7), true, 0.5,
			dbus.ObjectPath("/a/b"), dbus.ParseSignatureMust("a{sv}"),
			[]string{"a", ""},
			map[string]dbus.Variant{"k": dbus.MakeVariant(uint32(1)), "l": dbus.MakeVariant("v")},
			dbus.MakeVariant("w"),
		}, args)
	}
}

func TestBrokenBodiesAreRefused(t *testing.T) {
	for name, m := range map[string]*rawbus.Message{
		"too short":            rawbus.NewCall(":1.5", "/", "a.b", "C").WithEncoded("u", []byte{1, 0}),
		"too long":             rawbus.NewCall(":1.5", "/", "a.b", "C").WithEncoded("y", []byte{1, 0}),
		"not UTF-8":            rawbus.NewCall(":1.5", "/", "a.b", "C").With(rawbus.String("\xff")),
		"a NUL":                rawbus.NewCall(":1.5", "/", "a.b", "C").With(rawbus.String("a\x00b")),
		"no boolean":           rawbus.NewCall(":1.5", "/", "a.b", "C").WithEncoded("b", []byte{2, 0, 0, 0}),
		"no path":              rawbus.NewCall(":1.5", "/", "a.b", "C").With(rawbus.Path("a//b")),
		"an array of odd size": rawbus.NewCall(":1.5", "/", "a.b", "C").WithEncoded("au", []byte{3, 0, 0, 0, 1, 2, 3}),
		"an endless array":     rawbus.NewCall(":1.5", "/", "a.b", "C").WithEncoded("ay", []byte{255, 255, 255, 255}),
		"a key twice": rawbus.NewCall(":1.5", "/", "a.b", "C").With(
			rawbus.Dict(rawbus.Option("k", rawbus.Uint32(1)), rawbus.Option("k", rawbus.Uint32(2)))),
	} {
		t.Run(name, func(t *testing.T) {
			h, body := parse(t, m.Encode())
			_, err := h.Args(body)
			require.Error(t, err)
			if name != "a key twice" { // which is legal, and means nothing
				require.Error(t, h.Check(body, false))
			}
		})
	}
}

func TestSignatures(t *testing.T) {
	for _, valid := range []string{
		"y", "as", "a{sv}", "(sa(uu))", "aaaas", "a{s(iv)}", strings.Repeat("a", 32) + "y",
		strings.Repeat("(", 32) + "y" + strings.Repeat(")", 32),
	} {
		first, rest, err := complete(valid + "s")
		require.NoError(t, err, valid)
		require.Equal(t, []string{valid, "s"}, []string{first, rest})
	}
	for _, broken := range []string{
		"", "a", "()", "(", "(s", ")", "{sv}", "a{sv", "a{s}", "a{svv}", "a{vs}", "a{(s)s}", "a{ass}", "z", "r",
		strings.Repeat("a", 33) + "y", strings.Repeat("(", 33) + "y" + strings.Repeat(")", 33),
	} {
		_, _, err := complete(broken)
		require.Error(t, err, broken)
	}
}

func TestARefusalStandsForAReply(t *testing.T) {
	call := rawbus.NewCall(":1.5", "/", "a.b", "C")
	call.Order = binary.BigEndian
	h, _ := parse(t, call.Encode())
	h.Serial, h.ReplySerial, h.Sender = 5, 77, ":1.9"
	m, err := library(h.Refusal("a.b.Broken", "no"))
	require.NoError(t, err)
	require.Equal(t, dbus.TypeError, m.Type)
	require.Equal(t, []any{"no"}, m.Body)
	require.Equal(t, uint32(77), m.Headers[dbus.FieldReplySerial].Value())
	require.Equal(t, "a.b.Broken", m.Headers[dbus.FieldErrorName].Value())
	require.NotZero(t, m.Serial())
}

// FuzzMessage: whatever arrives, nothing panics, and what passes for the library does
// not make it panic.
func FuzzMessage(f *testing.F) {
	g := dbusfuzz.Generator{Seed: 1, Words: []string{"desktop"}, Targets: []dbusfuzz.Target{{Names: []string{":1.5"}}}}
	for i := range uint64(50) {
		f.Add(g.Message(i).Message.Encode())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < FixedSize {
			return
		}
		fixed, err := ParseFixed(data[:FixedSize])
		if err != nil || fixed.Fields+fixed.Body != len(data)-FixedSize {
			return
		}
		h, err := ParseHeader(fixed, data[FixedSize:FixedSize+fixed.Fields])
		if err != nil {
			return
		}
		body := data[FixedSize+fixed.Fields:]
		_, _ = h.Args(body) // it may refuse, and not panic
		if h.Check(body, true) == nil {
			if head := h.Rewritten(); head != nil {
				data = append(head, body...)
			}
			if _, err := library(data); err != nil && strings.HasPrefix(err.Error(), "panic") {
				t.Fatal(err)
			}
		}
	})
}
