package busapi

import (
	"math"
	"reflect"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/observer"
)

func TestExplanationsSurviveTheWire(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var want observer.Explanation
		fill(t, reflect.ValueOf(&want).Elem())
		got, err := DecodeExplanation(travelDict(t, EncodeExplanation(want)))
		require.NoError(t, err)
		require.Equal(t, want, got)
	})
}

// fill draws any value of a type, as a decoder returns it: whatever a new source
// adds to the snapshot is drawn too.
func fill(t *rapid.T, v reflect.Value) {
	switch v.Type() {
	case timeType:
		v.Set(reflect.ValueOf(genTime.Draw(t, "time")))
		return
	case durationType:
		v.SetInt(rapid.Int64Range(0, 1<<40).Draw(t, "duration") * 1000)
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(genText.Draw(t, "text"))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	case reflect.Int8: // a Truth
		v.SetInt(rapid.Int64Range(0, 2).Draw(t, "truth"))
	case reflect.Int:
		v.SetInt(int64(rapid.Int().Draw(t, "int")))
	case reflect.Uint32:
		v.SetUint(uint64(rapid.Uint32().Draw(t, "uint")))
	case reflect.Uint64:
		v.SetUint(rapid.Uint64().Draw(t, "long uint"))
	case reflect.Float64:
		v.SetFloat(rapid.Float64().Draw(t, "float"))
	case reflect.Pointer:
		if rapid.Bool().Draw(t, "known") {
			v.Set(reflect.New(v.Type().Elem()))
			fill(t, v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i))
		}
	case reflect.Slice:
		for range rapid.IntRange(0, 2).Draw(t, "length") {
			element := reflect.New(v.Type().Elem()).Elem()
			fill(t, element)
			v.Set(reflect.Append(v, element))
		}
	case reflect.Map:
		for range rapid.IntRange(0, 2).Draw(t, "length") {
			element := reflect.New(v.Type().Elem()).Elem()
			fill(t, element)
			if v.IsNil() {
				v.Set(reflect.MakeMap(v.Type()))
			}
			v.SetMapIndex(reflect.ValueOf(genText.Draw(t, "key")).Convert(v.Type().Key()), element)
		}
	default:
		t.Fatalf("%s has no form on the bus", v.Type())
	}
}

func TestEvidenceOfAnotherTypeIsAnError(t *testing.T) {
	for key, wrong := range map[string]any{
		"state": 7, "systemd": "text", "logind": Dict{"sessions": dbus.MakeVariant("none")},
		"context": Dict{"in_flight": dbus.MakeVariant("yes")},
		"holders": Dict{"at": dbus.MakeVariant("now")}, "procfs": Dict{
			"cores": dbus.MakeVariant(Dict{"value": dbus.MakeVariant("two")}),
		},
		"facts": Dict{
			"x": dbus.MakeVariant(Dict{"truth": dbus.MakeVariant(uint32(1))}),
		}, "inference": Dict{"healthy": dbus.MakeVariant(1.5)},
	} {
		d := EncodeEvidence(Evidence{})
		d[key] = dbus.MakeVariant(wrong)
		_, err := DecodeEvidence(d)
		require.ErrorContains(t, err, "cannot decode the evidence", key)
	}
}

func TestAValueThatTheContractDoesNotAllowIsNamed(t *testing.T) {
	inside := func(key string, v any) []Dict { return []Dict{{key: dbus.MakeVariant(v)}} }
	for _, c := range []struct {
		key   string
		value any
		want  string
	}{
		{"started", uint64(math.MaxUint64), "started is 18446744073709551615 microseconds, which is out of range"},
		{"id", uint32(1), "id is of type u, not t"},
		{"cause", dbus.ObjectPath("/a"), "cause is of type o, not s"},
		{"forced", []uint64{}, "forced is of type at, not as"},
		{"steps", "none", "steps is of type s, not aa{sv}"},
		{"steps", inside("notes", []uint32{1}), "steps.notes is of type au, not as"},
		{"guards", inside("code", uint32(1)), "guards.code is of type u, not i"},
	} {
		_, err := DecodeRecord(Dict{c.key: dbus.MakeVariant(c.value)})
		require.EqualError(t, err, "cannot decode the record of a transition: the key "+c.want)
	}
	_, err := DecodePreview(Dict{"expected": dbus.MakeVariant(Dict{"median": dbus.MakeVariant(uint64(math.MaxInt64))})})
	require.ErrorContains(t, err, "expected.median is 9223372036854775807 microseconds, which is out of range")
}

func TestWhatIsForFilesOnlyDoesNotTravel(t *testing.T) {
	d := EncodeRecord(&status.Record{Restarted: true, Private: []observer.Secret{{Text: "vim"}}})
	require.Equal(t, EncodeRecord(&status.Record{}), d)
	require.NotContains(t, EncodeTransition(&status.Transition{UID: 1000}), "uid")

	// Nor is it read, and a key that is not known is ignored.
	got, err := DecodeRecord(Dict{
		"restarted": dbus.MakeVariant(true), "-": dbus.MakeVariant("x"),
		"id": dbus.MakeVariant(uint64(3)), "newer": dbus.MakeVariant(1.5),
	})
	require.NoError(t, err)
	require.Equal(t, &status.Record{ID: 3}, got)
}
