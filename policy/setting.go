package policy

import (
	"bytes"
	"cmp"
	"encoding"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Setting is one key of a policy with its value.
type Setting struct {
	Key   string `json:"key"`
	Value JSON   `json:"value"`
	// Origin is where the value comes from: file:line, or OriginDefault.
	Origin string `json:"origin"`
	// Restart says that a change needs a restart of the daemon.
	Restart bool `json:"restart"`
}

// JSON is a value as text in JSON, and itself in what is JSON.
type JSON string

// MarshalJSON writes the value; null for one that another version wrote and that is none.
func (v JSON) MarshalJSON() ([]byte, error) {
	if !json.Valid([]byte(v)) {
		return []byte("null"), nil
	}
	return []byte(v), nil
}

// OriginDefault is the origin of a value that the file does not give.
const OriginDefault = "default"

// Settings lists every key of the policy, in the order of the types.
func (d Document) Settings() []Setting {
	var all []Setting
	eachLeaf(reflect.ValueOf(d.Policy), "", func(key string, v reflect.Value) {
		s := Setting{Key: key, Value: JSON(inJSON(v.Interface())), Origin: OriginDefault, Restart: fixed(key)}
		if line := d.lines[key]; line > 0 {
			s.Origin = fmt.Sprintf("%s:%d", d.File, line)
		}
		all = append(all, s)
	})
	return all
}

// eachLeaf visits every value except tables whose keys the schema names: a file gives
// each of these values as a whole.
func eachLeaf(v reflect.Value, path string, visit func(key string, v reflect.Value)) {
	for i := range v.NumField() {
		key, field := join(path, keyOf(v.Type().Field(i))), v.Field(i)
		if isTable(field.Type()) {
			eachLeaf(field, key, visit)
		} else {
			visit(key, field)
		}
	}
}

var wordType = reflect.TypeFor[encoding.TextUnmarshaler]()

// isTable reports whether a type is a table whose keys the schema names.
func isTable(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && !reflect.PointerTo(t).Implements(wordType)
}

// inJSON writes a value of a policy in JSON, which every type of it has a form in.
func inJSON(v any) string {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		panic(fmt.Sprintf("%T has no form in JSON: %v", v, err))
	}
	return strings.TrimSpace(b.String())
}

// Line is the setting as a line of a policy file.
func (s Setting) Line() string { return s.Key + " = " + tomlValue(string(s.Value)) }

// tomlValue turns JSON into TOML, which writes tables differently and does not allow one
// character in strings.
func tomlValue(value string) string {
	var entries map[string]json.RawMessage
	if json.Unmarshal([]byte(value), &entries) != nil {
		return strings.ReplaceAll(value, "\x7f", `\u007f`)
	}
	if len(entries) == 0 {
		return "{}"
	}
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		pairs = append(pairs, join("", name)+" = "+tomlValue(string(entries[name])))
	}
	return "{ " + strings.Join(pairs, ", ") + " }"
}

// Change is a key whose value differs between two policies.
type Change struct {
	Key string  `json:"key"`
	Old Setting `json:"old"`
	New Setting `json:"new"`
}

// Diff lists the keys whose values differ in next. A key that only one of the two has,
// because it is of another version, is left out.
func Diff(old, next []Setting) []Change {
	var changes []Change
	for _, n := range next {
		i := slices.IndexFunc(old, func(o Setting) bool { return o.Key == n.Key })
		if i >= 0 && old[i].Value != n.Value {
			changes = append(changes, Change{n.Key, old[i], n})
		}
	}
	return changes
}

// fixed reports whether a change of a key needs a restart. The daemon has files under
// paths open, and scripts read them there.
func fixed(key string) bool { return strings.HasPrefix(key, "paths.") }

// CannotReload returns a BadPolicy with the changes from d to next that need a restart,
// nil if there are none.
func (d Document) CannotReload(next Document) error {
	var findings []Finding
	for _, c := range Diff(d.Settings(), next.Settings()) {
		if c.New.Restart {
			findings = append(findings, Finding{
				File: cmp.Or(next.File, "the default policy"), Key: c.Key,
				Line: next.lines[c.Key], Column: min(1, next.lines[c.Key]),
				Text: fmt.Sprintf("cannot change from %s to %s while dubniumd runs: restart it (systemctl restart dubniumd)",
					c.Old.Value, c.New.Value),
			})
		}
	}
	return bad(findings)
}
