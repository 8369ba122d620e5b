package policy

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// otherwise is a policy with no value at its default. It finds the keys by
// reflection, so that a new one cannot be forgotten: a key that it cannot change
// fails the test that asks for it.
func otherwise(t *testing.T) Policy {
	t.Helper()
	p := Default()
	eachLeaf(reflect.ValueOf(&p).Elem(), "", func(key string, v reflect.Value) {
		before := inJSON(v.Interface())
		for _, value := range append(others(v), reflect.ValueOf(p.GPU.AI)) {
			if value.Type() != v.Type() {
				continue
			}
			v.Set(value)
			if inJSON(v.Interface()) != before && len(p.faults()) == 0 {
				return
			}
		}
		if slices.Contains(single, key) {
			require.NoError(t, json.Unmarshal([]byte(before), v.Addr().Interface()))
			return
		}
		require.Fail(t, "others() has to offer another value that can be used", key)
	})
	return p
}

// single are the keys that have one value for now.
var single = []string{"modes.studio-local.vllm_profile"}

// others are values that a key might take instead of v; not all make sense.
func others(v reflect.Value) []reflect.Value {
	var all []reflect.Value
	switch value := v.Interface().(type) {
	case Duration:
		return []reflect.Value{reflect.ValueOf(value + Duration(time.Second))}
	case bool:
		return []reflect.Value{reflect.ValueOf(!value)}
	case int:
		return []reflect.Value{reflect.ValueOf(value + 7), reflect.ValueOf(value + 128), reflect.ValueOf(value + 1)}
	case float64:
		return []reflect.Value{reflect.ValueOf(value/2 + 0.25)}
	case map[string]Profile:
		return []reflect.Value{reflect.ValueOf(map[string]Profile{
			"default": {Unit: "vllm@1.service", WorkerUnits: []string{"ray.service"}}, "2": {Unit: "vllm@two.service"},
		})}
	case map[string]Slice:
		return []reflect.Value{reflect.ValueOf(map[string]Slice{
			"user.slice": {CPUWeight: 10000, IOWeight: 1, MemoryHigh: "12G", MemoryLow: "0M", AllowedCPUs: "0-3,6"},
			"a-b.slice":  {MemoryHigh: "infinity"}, "none.slice": {},
		})}
	}
	if v.Kind() == reflect.Slice {
		for _, element := range otherWords(reflect.Zero(v.Type().Elem())) {
			all = append(all, reflect.Append(reflect.Zero(v.Type()), element))
		}
		return all
	}
	return otherWords(v)
}

func otherWords(v reflect.Value) []reflect.Value {
	before := v.String()
	var all []reflect.Value
	for _, text := range []string{
		"all", "studio-local", "stop", "never", "remote", ProfileDefault, ProfileOff, "check_user_jobs_safe", "none",
		strings.Replace(before, "8000", "8001", 1), "other-" + before, "/elsewhere" + before,
		fmt.Sprintf("0000:%02x:00.0", another.Add(1)), fmt.Sprintf("thing%d.service", another.Load()), "quiet.timer",
	} {
		word := reflect.New(v.Type())
		if strict, ok := word.Interface().(encoding.TextUnmarshaler); !ok {
			word.Elem().SetString(text)
		} else if strict.UnmarshalText([]byte(text)) != nil {
			continue
		}
		all = append(all, word.Elem())
	}
	return all
}

// another makes each GPU and unit another one: the same in two sets may contradict
// itself.
var another atomic.Int32

// A policy of every option at a value that is not the default says the same in
// every form that it has.
func TestEveryOptionReadsBackAsItWasWritten(t *testing.T) {
	p := otherwise(t)
	text, err := p.TOML()
	require.NoError(t, err)
	for form, written := range map[string]string{"TOML": text, "policy show": shown(Document{Policy: p})} {
		got, err := Parse(form, []byte(written))
		require.NoError(t, err, written)
		assert.Equal(t, p, got, form)
	}
}

// shown is what `modectl policy show` prints.
func shown(d Document) string {
	var lines strings.Builder
	for _, s := range d.Settings() {
		lines.WriteString(s.Line() + " # " + s.Origin + "\n")
	}
	return lines.String()
}

func TestEverySettingSaysWhereItComesFrom(t *testing.T) {
	d, err := ParseDocument("p.toml", []byte(`transitions = "all"

vllm.enabled = false
[vllm.profiles.fast]
unit = "vllm-fast.service"
[gpu]
ai = [
]`))
	require.NoError(t, err)
	origins := map[string]string{}
	for _, s := range d.Settings() {
		if s.Origin != OriginDefault {
			origins[s.Key] = s.Origin
		}
	}
	assert.Equal(t, map[string]string{
		"transitions": "p.toml:1", "vllm.enabled": "p.toml:3", "vllm.profiles": "p.toml:4", "gpu.ai": "p.toml:7",
	}, origins)
}

func TestADiffNamesWhatChanges(t *testing.T) {
	text := "transitions = \"all\"\ndefault_mode = \"desktop\"\n[paths]\nstate = \"/state\""
	d, err := ParseDocument("p.toml", []byte(text))
	require.NoError(t, err)
	old := Document{Policy: Default()}
	changes := Diff(old.Settings(), d.Settings())
	require.Len(t, changes, 2, "a default that is spelt out is no change")
	assert.Equal(t, "transitions", changes[0].Key)
	assert.Equal(t, "paths.state", changes[1].Key)
	assert.True(t, changes[1].New.Restart)

	err = old.CannotReload(d)
	require.ErrorContains(t, err, "p.toml:4:1: paths.state: cannot change from "+
		"\"/var/lib/mode-controller\" to \"/state\" while dubniumd runs: restart it")
	require.ErrorContains(t, d.CannotReload(old), "the default policy: paths.state: cannot change")
	d.Paths = old.Paths
	require.NoError(t, old.CannotReload(d))
}
