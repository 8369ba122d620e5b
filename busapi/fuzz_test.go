package busapi

import (
	"encoding/binary"
	"maps"
	"math"
	"reflect"
	"slices"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/observer"
)

// choices makes decisions out of bytes; when there are no more, each is 0.
type choices []byte

func (c *choices) next(n int) int {
	if len(*c) == 0 {
		return 0
	}
	first := (*c)[0]
	*c = (*c)[1:]
	return int(first) % n
}

// long is a number of eight bytes.
func (c *choices) long() uint64 {
	var b [8]byte
	n := copy(b[:], *c)
	*c = (*c)[n:]
	return binary.LittleEndian.Uint64(b[:])
}

// value makes one of any type, as the bus library hands it over.
func (c *choices) value(depth int) any {
	words := []string{"", "id", "text", "success", "desktop", "\x1b[2J", "\u202e"}
	word := words[c.next(len(words))]
	n := c.long()
	scalars := []any{
		word, n, uint32(n), uint16(n), byte(n), int64(n), int32(n), int16(n), n%2 == 0, math.Float64frombits(n),
		dbus.ObjectPath("/a"), dbus.ParseSignatureMust("a{sv}"),
		[]string{word},
		map[string]string{word: word},
		[]uint64{n},
		[]bool{true},
	}
	kind := c.next(len(scalars) + 4)
	if kind < len(scalars) || depth == 0 {
		return scalars[kind%len(scalars)]
	}
	inside := c.value(depth - 1)
	switch kind - len(scalars) {
	case 0:
		return dbus.MakeVariant(inside)
	case 1:
		return Dict{word: dbus.MakeVariant(inside)}
	case 2:
		return []Dict{{word: dbus.MakeVariant(inside)}}
	default:
		return []any{inside} // a structure, or an array of any type
	}
}

// size counts the values in v, itself included.
func size(v any) (n int) {
	each(v, func(part any) any {
		n += size(part)
		return part
	})
	return n + 1
}

// each is a copy of v in which f has replaced what v consists of; nil is nothing.
func each(v any, f func(any) any) any {
	switch v := v.(type) {
	case Dict:
		d := Dict{}
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if part := f(v[key].Value()); part != nil {
				d[key] = dbus.MakeVariant(part)
			}
		}
		return d
	case []Dict:
		list := []Dict{}
		for _, d := range v {
			if part, ok := f(d).(Dict); ok { // an array's elements are of one type
				list = append(list, part)
			}
		}
		return list
	case []any:
		list := []any{}
		for _, part := range v {
			if part = f(part); part != nil {
				list = append(list, part)
			}
		}
		return list
	}
	return v
}

// replace is a copy of v with another value at this place, counted as size counts.
func replace(v any, at *int, by any) any {
	if *at--; *at == -1 {
		return by
	}
	return each(v, func(part any) any { return replace(part, at, by) })
}

// disturb replaces as many parts of v as the bytes are enough for, but not v itself.
func (c *choices) disturb(v any) any {
	for edits := 0; len(*c) > 0 && edits < 20; edits++ {
		at := 1 + int(c.long()%uint64(max(1, size(v)-1)))
		var by any
		if c.next(4) > 0 {
			by = c.value(3)
		}
		v = replace(v, &at, by)
	}
	return v
}

// largest is the example with the most in it.
func largest[T any](examples *rapid.Generator[T], encode func(T) Dict) (most T) {
	n := 0
	for seed := range 30 {
		v := examples.Example(seed)
		if now := size(encode(v)); now > n {
			n, most = now, v
		}
	}
	return most
}

// filled draws any value of a type.
func filled[T any]() *rapid.Generator[T] {
	return rapid.Custom(func(t *rapid.T) T {
		var v T
		fill(t, reflect.ValueOf(&v).Elem())
		return v
	})
}

// decoding decodes a disturbed reply, and requires that what was decoded can be encoded
// and is decoded again.
func decoding[T any](
	examples *rapid.Generator[T], decode func(Dict) (T, error), encode func(T) Dict,
) func(*testing.T, *choices) {
	whole := encode(largest(examples, encode))
	return func(t *testing.T, c *choices) {
		v, err := decode(c.disturb(whole).(Dict))
		if err != nil {
			return
		}
		_, err = decode(travelDict(t, encode(v)))
		require.NoError(t, err)
	}
}

// FuzzDecoders: whatever a message has in it, it is decoded or refused, and what was
// decoded is a value like any other.
func FuzzDecoders(f *testing.F) {
	record := largest(genRecord, func(r status.Record) Dict { return EncodeRecord(&r) })
	running := largest(genTransition, func(r status.Transition) Dict { return EncodeTransition(&r) })
	evidence := rapid.Custom(func(t *rapid.T) Evidence {
		return Evidence{
			Observation: genObservation(true).Draw(t, "observation"), Snapshot: filled[observer.Snapshot]().Draw(t, "snapshot"),
		}
	})
	decoders := []func(*testing.T, *choices){
		decoding(genProperties, DecodeProperties, EncodeProperties),
		decoding(rapid.Just(&record), DecodeRecord, EncodeRecord),
		decoding(rapid.Just(&running), DecodeTransition, EncodeTransition),
		decoding(filled[status.Preview](), DecodePreview, EncodePreview),
		decoding(filled[observer.Explanation](), DecodeExplanation, EncodeExplanation),
		decoding(filled[Policy](), DecodePolicy, EncodePolicy),
		decoding(evidence, DecodeEvidence, EncodeEvidence),
		func(t *testing.T, c *choices) { decodeRecords(t, c, record) },
		func(t *testing.T, c *choices) { decodeSignal(t, c, record, running) },
	}
	for i := range decoders {
		f.Add([]byte{byte(i)})
		f.Add(append([]byte{byte(i)}, "what is here is replaced by something that nobody would have expected"...))
	}
	for event := range byte(6) {
		f.Add([]byte{byte(len(decoders) - 1), event})
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c := choices(data)
		decoders[c.next(len(decoders))](t, &c)
	})
}

// decodeRecords decodes a record where it stands alone, in a list, and as an outcome.
func decodeRecords(t *testing.T, c *choices, record status.Record) {
	d := c.disturb(EncodeRecord(&record)).(Dict)
	outcome, err := DecodeOutcome(d)
	require.True(
		t, err != nil || outcome.Finished == nil || outcome.Running == nil, "it does not both run and have finished",
	)
	_, alone := DecodeRecord(d)
	_, inList := DecodeHistory([]Dict{d})
	require.Equal(t, alone == nil, inList == nil, "a record is one wherever it stands")
}

// decodeSignal decodes a signal with some other body.
func decodeSignal(t *testing.T, c *choices, record status.Record, running status.Transition) {
	events := []status.Event{
		{Finished: &record},
		{Started: &running},
		{StateChanged: &status.StateChanged{Reasons: []observer.Reason{{}}}},
		{Step: &status.StepEvent{}},
		{Progress: &status.StepProgress{}},
		{Prepare: &status.Prepare{}},
	}
	member, body := EncodeEvent(events[c.next(len(events))])
	if got, err := DecodeEvent(member, c.disturb(body).([]any)); err == nil {
		again, _ := EncodeEvent(got)
		require.Equal(t, member, again)
	}
}
