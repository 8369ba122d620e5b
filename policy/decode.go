package policy

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// decoder puts the values of a file into a Go value by the rules of its type. It
// goes on after a fault, so that all of them are reported at once. A key with a
// fault keeps its default.
type decoder struct {
	positions map[string]*position // of every key and element of the file by its path
	faults    []fault
}

// fault is a finding whose position is still to be looked up by its key.
type fault struct{ key, text string }

func (d *decoder) fault(key, format string, args ...any) {
	d.faults = append(d.faults, fault{key, fmt.Sprintf(format, args...)})
}

// into decodes value, which the file has at path, into v.
func (d *decoder) into(v reflect.Value, path string, value any) {
	if word, is := v.Addr().Interface().(encoding.TextUnmarshaler); is {
		if text, ok := take[string](d, path, value, expected(v.Type(), "a string")); ok {
			if err := word.UnmarshalText([]byte(text)); err != nil {
				d.fault(path, "%v", err)
			}
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.fields(v, path, value)
	case reflect.Map:
		d.entries(v, path, value)
	case reflect.Slice:
		d.elements(v, path, value)
	case reflect.String:
		if text, ok := take[string](d, path, value, "a string"); ok {
			v.SetString(text)
		}
	case reflect.Bool:
		if yes, ok := take[bool](d, path, value, "true or false"); ok {
			v.SetBool(yes)
		}
	case reflect.Float64:
		d.float(v, path, value)
	case reflect.Int, reflect.Int64:
		d.whole(v, path, value)
	default:
		panic(fmt.Sprintf("%s has no form in a policy file", v.Type()))
	}
}

// examples are values of types that a name alone does not explain.
var examples = map[reflect.Type]string{
	reflect.TypeFor[Duration](): `"90s"`,
	reflect.TypeFor[Memory]():   `"12G"`,
	reflect.TypeFor[CPUList]():  `"0-3,6"`,
	reflect.TypeFor[Profile]():  `{ unit = "vllm.service" }`,
}

func expected(t reflect.Type, what string) string {
	if example, ok := examples[t]; ok {
		return what + " such as " + example
	}
	return what
}

// take returns value when it is a T; else it notes what was expected.
func take[T any](d *decoder, path string, value any, expected string) (T, bool) {
	v, ok := value.(T)
	if !ok {
		d.fault(path, "expected %s, found %s", expected, describe(value))
	}
	return v, ok
}

// describe says of a value what it is, and which.
func describe(value any) string {
	const longest = 40
	switch v := value.(type) {
	case string:
		if len(v) > longest {
			return "a string"
		}
		return "the string " + strconv.Quote(v)
	case bool:
		return strconv.FormatBool(v)
	case int64, float64:
		return fmt.Sprintf("the number %v", v)
	case []any:
		return "a list"
	case map[string]any:
		return "a table"
	}
	return "a date or time"
}

// float accepts a whole number as well. It rejects nan and inf, which no threshold
// can be compared with.
func (d *decoder) float(v reflect.Value, path string, value any) {
	if whole, is := value.(int64); is {
		v.SetFloat(float64(whole))
		return
	}
	f, ok := take[float64](d, path, value, "a number")
	switch {
	case ok && (math.IsNaN(f) || math.IsInf(f, 0)):
		d.fault(path, "must be a finite number")
	case ok:
		v.SetFloat(f)
	}
}

func (d *decoder) whole(v reflect.Value, path string, value any) {
	whole, ok := take[int64](d, path, value, "a whole number")
	switch {
	case ok && v.OverflowInt(whole):
		d.fault(path, "%d is too large", whole)
	case ok:
		v.SetInt(whole)
	}
}

func (d *decoder) fields(v reflect.Value, path string, value any) {
	table, ok := take[map[string]any](d, path, value, expected(v.Type(), "a table"))
	if !ok {
		return
	}
	fields := map[string]reflect.Value{}
	for i := range v.NumField() {
		fields[keyOf(v.Type().Field(i))] = v.Field(i)
	}
	for name, entry := range table {
		key := join(path, name)
		if field, known := fields[name]; known {
			d.into(field, key, entry)
			continue
		}
		d.fault(key, "%s%s", unknownKey, hint(key))
	}
}

const unknownKey = "unknown key"

// replaced says what to use instead of a key that earlier versions had.
var replaced = map[string]string{
	"units.vllm":           "set vllm.profiles.default.unit",
	"vllm.template":        "name an instance of it as vllm.profiles.NAME.unit",
	"vllm.worker_units":    "set vllm.profiles.NAME.worker_units",
	"placement.platform":   "it had no effect",
	"modes.MODE.latency":   "it had no effect",
	"modes.MODE.security":  "it had no effect",
	"modes.MODE.permitted": "it had no effect",
}

// hint is what to say of an unknown key beside that it is unknown.
func hint(key string) string {
	if parts := strings.Split(key, "."); parts[0] == "modes" {
		key = "modes.MODE." + parts[len(parts)-1]
	}
	if instead, removed := replaced[key]; removed {
		return " (removed: " + instead + ")"
	}
	return ""
}

// keyOf is the key of a field in a file.
func keyOf(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("toml"), ",")
	return name
}

func (d *decoder) entries(v reflect.Value, path string, value any) {
	table, ok := take[map[string]any](d, path, value, "a table")
	if !ok {
		return
	}
	m := reflect.MakeMap(v.Type())
	for name, value := range table {
		entry := reflect.New(v.Type().Elem()).Elem()
		d.into(entry, join(path, name), value)
		m.SetMapIndex(reflect.ValueOf(name).Convert(v.Type().Key()), entry)
	}
	v.Set(m)
}

func (d *decoder) elements(v reflect.Value, path string, value any) {
	list, ok := take[[]any](d, path, value, "a list")
	if !ok {
		return
	}
	s := reflect.MakeSlice(v.Type(), len(list), len(list))
	for i, e := range list {
		d.into(s.Index(i), element(path, i), e)
	}
	v.Set(s)
}

// findings gives each fault its position. A key whose value could not be decoded
// has its default, which is not what the file says, so further faults of it are left
// out.
func (d *decoder) findings(file string, data []byte, more []fault) []Finding {
	var all []Finding
	add := func(f fault) {
		found := Finding{File: file, Key: f.key, Text: f.text}
		at := d.nearest(f.key)
		offset := at.value
		if strings.HasPrefix(f.text, unknownKey) {
			offset = at.key
		}
		found.Line, found.Column = lineColumn(data, offset)
		all = append(all, found)
	}
	for _, f := range d.faults {
		add(f)
	}
	for _, f := range more {
		known := func(known fault) bool { return within(known.key, f.key) || within(f.key, known.key) }
		if !slices.ContainsFunc(d.faults, known) {
			add(f)
		}
	}
	return all
}

// within reports whether key is outer or an entry of it.
func within(key, outer string) bool {
	rest, ok := strings.CutPrefix(key, outer)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// nearest is the position of a key or, where the file does not have it, of the table
// that it belongs to: what the file says may contradict a default.
func (d *decoder) nearest(key string) *position {
	for key != "" && d.positions[key] == nil {
		key = key[:max(0, strings.LastIndexAny(key, ".["))]
	}
	return d.positions[key]
}
