package busapi

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// TestTheKeysOnTheBusStay: a key that goes away or changes its type breaks the clients
// of version 1. Adding one changes the golden file and docs/dbus-api.md.
func TestTheKeysOnTheBusStay(t *testing.T) {
	for name, value := range map[string]func(full bool) any{
		"transition":  wireForm(func(t status.Transition) any { return EncodeTransition(&t) }),
		"record":      wireForm(func(r status.Record) any { return EncodeRecord(&r) }),
		"history":     wireForm(func(r status.Record) any { return EncodeHistory([]status.Record{r}) }),
		"verdicts":    wireForm(func(v guards.Verdict) any { return EncodeVerdicts([]guards.Verdict{v}) }),
		"preview":     wireForm(func(p status.Preview) any { return EncodePreview(p) }),
		"explanation": wireForm(func(e observer.Explanation) any { return EncodeExplanation(e) }),
		"policy":      wireForm(func(p Policy) any { return EncodePolicy(p) }),
		"filter":      wireForm(func(f status.Filter) any { return EncodeFilter(f) }),
		"evidence": wireForm(func(e Evidence) any {
			return EncodeEvidence(e)
		}),
		"properties": wireForm(func(p Properties) any {
			p.View.Policy = policy.Document{}
			return EncodeProperties(p)
		}),
		"obstacle": wireForm(func(o struct {
			Verdict  guards.Verdict
			Sessions []observer.Session
		},
		) any {
			return EncodeObstacle(o.Verdict, o.Sessions)
		}),
		"signal-state-changed": wireForm(func(c status.StateChanged) any {
			return eventBody(status.Event{StateChanged: &c})
		}),
		"signal-started":  wireForm(func(s status.Transition) any { return eventBody(status.Event{Started: &s}) }),
		"signal-step":     wireForm(func(s status.StepEvent) any { return eventBody(status.Event{Step: &s}) }),
		"signal-progress": wireForm(func(p status.StepProgress) any { return eventBody(status.Event{Progress: &p}) }),
		"signal-prepare":  wireForm(func(p status.Prepare) any { return eventBody(status.Event{Prepare: &p}) }),
		"signal-finished": wireForm(func(r status.Record) any { return eventBody(status.Event{Finished: &r}) }),
	} {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			b.WriteString("with everything:\n")
			describe(&b, 1, value(true))
			b.WriteString("with nothing:\n")
			describe(&b, 1, value(false))
			file := filepath.Join("testdata", "wire-"+name+".golden")
			if os.Getenv("UPDATE_GOLDEN") == "1" {
				require.NoError(t, os.MkdirAll("testdata", 0o755))
				require.NoError(t, os.WriteFile(file, []byte(b.String()), 0o644))
			}
			want, err := os.ReadFile(file)
			require.NoError(t, err)
			require.Equal(t, string(want), b.String(), "UPDATE_GOLDEN=1 go test ./busapi -run Keys writes it")
		})
	}
}

// wireForm encodes a value whose every field says something, or nothing.
func wireForm[T any](encode func(T) any) func(full bool) any {
	return func(full bool) any {
		var v T
		if full {
			saturate(reflect.ValueOf(&v).Elem())
		}
		return encode(v)
	}
}

func eventBody(e status.Event) any {
	member, body := EncodeEvent(e)
	return append([]any{member}, body...)
}

// saturate gives everything in v a value that is not zero.
func saturate(v reflect.Value) {
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(time.UnixMicro(1_700_000_000_000_001)))
		return
	case time.Duration:
		v.SetInt(int64(1500 * time.Millisecond))
		return
	case policy.Document:
		return // does not travel
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int8, reflect.Int:
		v.SetInt(2)
	case reflect.Uint32, reflect.Uint64:
		v.SetUint(3)
	case reflect.Float64:
		v.SetFloat(0.5)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		saturate(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			saturate(v.Field(i))
		}
	case reflect.Slice:
		element := reflect.New(v.Type().Elem()).Elem()
		saturate(element)
		v.Set(reflect.Append(v, element))
	case reflect.Map:
		key, element := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		saturate(key)
		saturate(element)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, element)
	default:
		panic(fmt.Sprintf("%s has no form on the bus", v.Type()))
	}
}

// describe writes what travels: each key, its signature and its value.
func describe(b *strings.Builder, depth int, v any) {
	margin := strings.Repeat("  ", depth)
	switch v := v.(type) {
	case Dict:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			fmt.Fprintf(b, "%s%s", margin, key)
			describeValue(b, depth, v[key].Value())
		}
	case []Dict:
		for _, d := range v {
			fmt.Fprintf(b, "%s-\n", margin)
			describe(b, depth+1, d)
		}
	case []any:
		for i, part := range v {
			fmt.Fprintf(b, "%s%d", margin, i)
			describeValue(b, depth, part)
		}
	}
}

func describeValue(b *strings.Builder, depth int, v any) {
	fmt.Fprintf(b, " %s", dbus.SignatureOf(v))
	switch v.(type) {
	case Dict, []Dict:
		b.WriteString("\n")
		describe(b, depth+1, v)
	default:
		fmt.Fprintf(b, " %v\n", v)
	}
}
