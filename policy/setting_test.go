package policy

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
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
		change(key, v)
		require.NotEqual(t, before, inJSON(v.Interface()), "%s has to be changed by change()", key)
	})
	require.Empty(t, p.faults(), "change() has to make a policy that can be used")
	return p
}

// change gives a key another value that makes sense.
func change(key string, v reflect.Value) {
	switch value := v.Interface().(type) {
	case Trust:
		v.Set(reflect.ValueOf(TrustAll))
	case Mode:
		v.Set(reflect.ValueOf(StudioLocal))
	case DrainAction:
		v.Set(reflect.ValueOf(DrainStop))
	case Duration:
		v.Set(reflect.ValueOf(value + Duration(time.Second)))
	case bool:
		v.SetBool(!value)
	case int:
		v.SetInt(int64(value) + 7)
	case float64:
		v.SetFloat(value / 2)
	case map[string]string:
		v.Set(reflect.ValueOf(map[string]string{"fast": "vllm-fast.service", "2": "vllm-two.service"}))
	case []string:
		v.Set(reflect.ValueOf([]string{otherText(key, ""), "other-" + otherText(key, "")}))
		if strings.HasPrefix(key, "gpu.") && key != "gpu.permitted_holders" {
			v.Set(reflect.ValueOf([]string{fmt.Sprintf("0000:%02x:00.0", len(key)), "0000:ff:00.1"}))
		}
	case string:
		v.SetString(otherText(key, value))
	}
}

func otherText(key, value string) string {
	switch {
	case strings.HasPrefix(value, "http://"):
		return strings.Replace(value, "8000", "8001", 1)
	case strings.HasPrefix(value, "/"):
		return value + "/elsewhere"
	case value == "":
		return "thing.service"
	}
	return "other-" + value
}

// A policy of every option at a value that is not the default says the same in
// every form that it has.
func TestEveryOptionReadsBackAsItWasWritten(t *testing.T) {
	p := otherwise(t)
	text, err := p.TOML()
	require.NoError(t, err)
	for form, written := range map[string]string{"TOML": text, "JSON": p.JSON(), "policy show": shown(Document{Policy: p})} {
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
	d, err := ParseDocument("p.toml", []byte("transitions = \"all\"\n\nvllm.enabled = false\n[vllm.profiles]\nfast = \"vllm-fast.service\"\n[gpu]\nai = [\n]"))
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

	d, err = ParseDocument("p.json", []byte("{\n\"gpu\":\n{\"ai\": []}}"))
	require.NoError(t, err)
	i := slices.IndexFunc(d.Settings(), func(s Setting) bool { return s.Key == "gpu.ai" })
	assert.Equal(t, "p.json:3", d.Settings()[i].Origin)
}

func TestADiffNamesWhatChanges(t *testing.T) {
	d, err := ParseDocument("p.toml", []byte("transitions = \"all\"\ndefault_mode = \"desktop\"\n[paths]\nstate = \"/state\""))
	require.NoError(t, err)
	old := Document{Policy: Default()}
	changes := Diff(old.Settings(), d.Settings())
	require.Len(t, changes, 2, "a default that is spelt out is no change")
	assert.Equal(t, "transitions", changes[0].Key)
	assert.Equal(t, "paths.state", changes[1].Key)
	assert.True(t, changes[1].New.Restart)

	err = old.CannotReload(d)
	require.ErrorContains(t, err, "p.toml:4:1: paths.state: cannot change from \"/var/lib/mode-controller\" to \"/state\" while dubniumd runs: restart it")
	require.ErrorContains(t, d.CannotReload(old), "the policy of no file: paths.state: cannot change")
	d.Paths = old.Paths
	require.NoError(t, old.CannotReload(d))
}
