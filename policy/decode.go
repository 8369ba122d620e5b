package policy

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
)

// decoder puts a tree into a Go value by the rules of its type, and goes on after
// a fault, so that whoever mends a file sees all of them. What is at fault keeps
// its default.
type decoder struct {
	places map[string]*node // every key and element of the file by its path
	faults []fault
}

// fault is a finding whose place is still to be looked up by its key.
type fault struct{ key, text string }

func (d *decoder) fault(key, format string, args ...any) {
	d.faults = append(d.faults, fault{key, fmt.Sprintf(format, args...)})
}

// into decodes n, which stands at path, into v.
func (d *decoder) into(v reflect.Value, path string, n *node) {
	d.places[path] = n
	if words, is := v.Addr().Interface().(encoding.TextUnmarshaler); is {
		if text, ok := take[string](d, path, n, "text"); ok {
			if err := words.UnmarshalText([]byte(text)); err != nil {
				d.fault(path, "%v", err)
			}
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.fields(v, path, n)
	case reflect.Map:
		d.entries(v, path, n)
	case reflect.Slice:
		d.elements(v, path, n)
	case reflect.String:
		if text, ok := take[string](d, path, n, "text"); ok {
			v.SetString(text)
		}
	case reflect.Bool:
		if yes, ok := take[bool](d, path, n, "true or false"); ok {
			v.SetBool(yes)
		}
	case reflect.Float64:
		d.float(v, path, n)
	case reflect.Int, reflect.Int64:
		d.whole(v, path, n)
	default:
		panic(fmt.Sprintf("%s has no form in a policy file", v.Type()))
	}
}

// take returns the node's value when it is a T; else it notes what was wanted.
func take[T any](d *decoder, path string, n *node, want string) (T, bool) {
	v, ok := n.value.(T)
	if !ok {
		d.fault(path, "%s is wanted, not %s", want, n)
	}
	return v, ok
}

// float takes a whole number too. TOML's nan and inf are numbers that nothing can
// be compared with.
func (d *decoder) float(v reflect.Value, path string, n *node) {
	if whole, is := n.value.(int64); is {
		v.SetFloat(float64(whole))
		return
	}
	f, ok := take[float64](d, path, n, "a number")
	switch {
	case ok && (math.IsNaN(f) || math.IsInf(f, 0)):
		d.fault(path, "%v cannot be compared with", f)
	case ok:
		v.SetFloat(f)
	}
}

func (d *decoder) whole(v reflect.Value, path string, n *node) {
	whole, ok := take[int64](d, path, n, "a whole number")
	switch {
	case ok && v.OverflowInt(whole):
		d.fault(path, "%d is too large", whole)
	case ok:
		v.SetInt(whole)
	}
}

func (d *decoder) fields(v reflect.Value, path string, n *node) {
	t, ok := take[*table](d, path, n, "a table")
	if !ok {
		return
	}
	fields := map[string]reflect.Value{}
	for i := range v.NumField() {
		fields[keyOf(v.Type().Field(i))] = v.Field(i)
	}
	for _, name := range t.names {
		key := join(path, name)
		if field, known := fields[name]; known {
			d.into(field, key, t.nodes[name])
			continue
		}
		d.places[key] = t.nodes[name]
		d.fault(key, "%s", unknownKey)
	}
}

const unknownKey = "unknown key"

// keyOf is a field's key, in TOML and JSON alike.
func keyOf(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("toml"), ",")
	return name
}

func (d *decoder) entries(v reflect.Value, path string, n *node) {
	t, ok := take[*table](d, path, n, "a table")
	if !ok {
		return
	}
	m := reflect.MakeMap(v.Type())
	for _, name := range t.names {
		entry := reflect.New(v.Type().Elem()).Elem()
		d.into(entry, join(path, name), t.nodes[name])
		m.SetMapIndex(reflect.ValueOf(name).Convert(v.Type().Key()), entry)
	}
	v.Set(m)
}

func (d *decoder) elements(v reflect.Value, path string, n *node) {
	l, ok := take[list](d, path, n, "a list")
	if !ok {
		return
	}
	s := reflect.MakeSlice(v.Type(), len(l), len(l))
	for i, e := range l {
		d.into(s.Index(i), element(path, i), e)
	}
	v.Set(s)
}

// findings gives each fault its place. Of a key whose value could not be taken
// nothing else is told: it has its default, which is not what the file says.
func (d *decoder) findings(file string, data []byte, more []fault) []Finding {
	var all []Finding
	add := func(f fault) {
		found := Finding{File: file, Key: f.key, Text: f.text}
		if n := d.nearest(f.key); n != nil {
			at := n.at
			if f.text == unknownKey {
				at = n.key
			}
			found.Line, found.Column = place(data, at)
		}
		all = append(all, found)
	}
	for _, f := range d.faults {
		add(f)
	}
	for _, f := range more {
		if !slices.ContainsFunc(d.faults, func(known fault) bool { return within(known.key, f.key) || within(f.key, known.key) }) {
			add(f)
		}
	}
	return all
}

// within reports whether key is outer or stands in it.
func within(key, outer string) bool {
	rest, ok := strings.CutPrefix(key, outer)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// nearest is where a key stands, or the table that it could stand in: what the file
// says may contradict a default.
func (d *decoder) nearest(key string) *node {
	for key != "" && d.places[key] == nil {
		key = key[:max(0, strings.LastIndexAny(key, ".["))]
	}
	return d.places[key]
}
