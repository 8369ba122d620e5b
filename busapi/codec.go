package busapi

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

// One rule encodes every value, from the tags of its type. A struct is an a{sv} with
// the keys of its JSON form; a field without a JSON key ("-") is not sent. A string is
// s, a bool b, an integer x, u or t, a float d, a time t (left out if it is zero), a
// duration t in microseconds; a list is as or aa{sv}, a map a{sv}; a nil pointer is
// left out. A type that marshals itself to text is s.
//
// The tag "bus" adds to the JSON form: the type of an int (u, i) and of a map (a{ss}),
// "omitempty" for a field that is left out if it is empty, "always" for one that is
// sent even if it is zero or nil (0, an empty dictionary), and "-" for one of files
// only.

var (
	timeType     = reflect.TypeFor[time.Time]()
	durationType = reflect.TypeFor[time.Duration]()
	dictType     = reflect.TypeFor[Dict]()
	textType     = reflect.TypeFor[encoding.TextMarshaler]()
	stringsType  = reflect.TypeFor[[]string]()
	dictsType    = reflect.TypeFor[[]Dict]()
)

// scalars are the types on the bus of scalar kinds; tags select others.
var scalars = map[reflect.Kind]reflect.Type{
	reflect.String:  reflect.TypeFor[string](),
	reflect.Bool:    reflect.TypeFor[bool](),
	reflect.Float64: reflect.TypeFor[float64](),
	reflect.Int:     reflect.TypeFor[int64](),
	reflect.Uint32:  reflect.TypeFor[uint32](),
	reflect.Uint64:  reflect.TypeFor[uint64](),
}

var tagged = map[string]reflect.Type{"u": reflect.TypeFor[uint32](), "i": reflect.TypeFor[int32]()}

const textMap = "a{ss}"

func scalar(kind reflect.Kind, signature string) reflect.Type {
	if t, ok := tagged[signature]; ok {
		return t
	}
	t, ok := scalars[kind]
	if !ok {
		panic(kind.String() + " has no form on the bus")
	}
	return t
}

// form is how a field of a struct is encoded.
type form struct{ key, signature, option string }

func formOf(f reflect.StructField) form {
	key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	signature, option, _ := strings.Cut(f.Tag.Get("bus"), ",")
	switch {
	case signature == "-":
		key = "-"
	case key == "":
		key = f.Name
	}
	return form{key, signature, option}
}

// onBus reports whether the field has a key on the bus.
func (f form) onBus() bool { return f.key != "-" }

// omits reports whether a field of this value is left out.
func (f form) omits(v reflect.Value) bool {
	return f.option == "omitempty" && (v.IsZero() || v.Kind() == reflect.Slice && v.Len() == 0)
}

// keys are the keys of a struct without embedded structs.
func keys(t reflect.Type) []string {
	list := make([]string, t.NumField())
	for i := range list {
		list[i] = formOf(t.Field(i)).key
	}
	return list
}

// encode encodes v, a struct, as a dictionary.
func encode(v any) Dict {
	d := Dict{}
	encodeFields(d, reflect.ValueOf(v))
	return d
}

// encodeOptional encodes nil as an empty dictionary.
func encodeOptional[T any](v *T) Dict {
	if v == nil {
		return Dict{}
	}
	return encode(*v)
}

func encodeAll[T any](list []T) []Dict { return encodeList(reflect.ValueOf(list)).([]Dict) }

func encodeFields(d Dict, v reflect.Value) {
	for i := range v.NumField() {
		if v.Type().Field(i).Anonymous {
			encodeFields(d, v.Field(i))
			continue
		}
		f := formOf(v.Type().Field(i))
		if !f.onBus() || f.omits(v.Field(i)) {
			continue
		}
		if encoded, known := encodeValue(v.Field(i), f.signature); known || f.option == "always" {
			d[f.key] = dbus.MakeVariant(encoded)
		}
	}
}

// encodeValue encodes a value. known is false for a zero time, a nil pointer and text
// that cannot be marshaled.
func encodeValue(v reflect.Value, signature string) (encoded any, known bool) {
	switch t := v.Type(); {
	case t == timeType:
		us := micros(v.Interface().(time.Time))
		return us, us != 0
	case t == durationType:
		return uint64(max(0, v.Interface().(time.Duration).Microseconds())), true
	case t == dictType:
		return v.Interface(), true
	case t.Implements(textType):
		word, err := v.Interface().(encoding.TextMarshaler).MarshalText()
		return text(string(word)), err == nil
	}
	switch v.Kind() {
	case reflect.String:
		return text(v.String()), true
	case reflect.Pointer:
		if v.IsNil() {
			return Dict{}, false
		}
		return encodeValue(v.Elem(), signature)
	case reflect.Struct:
		return encode(v.Interface()), true
	case reflect.Slice:
		return encodeList(v), true
	case reflect.Map:
		return encodeMap(v, signature), true
	}
	return v.Convert(scalar(v.Kind(), signature)).Interface(), true
}

func encodeList(v reflect.Value) any {
	if v.Type().Elem().Kind() == reflect.Struct {
		list := make([]Dict, v.Len())
		for i := range list {
			list[i] = encode(v.Index(i).Interface())
		}
		return list
	}
	list := make([]string, v.Len())
	for i := range list {
		list[i] = text(v.Index(i).String())
	}
	return list
}

func encodeMap(v reflect.Value, signature string) any {
	texts, d := map[string]string{}, Dict{}
	for _, k := range v.MapKeys() {
		if signature == textMap {
			texts[text(k.String())] = text(v.MapIndex(k).String())
		} else if encoded, known := encodeValue(v.MapIndex(k), ""); known {
			d[text(k.String())] = dbus.MakeVariant(encoded)
		}
	}
	if signature == textMap {
		return texts
	}
	return d
}

// decode decodes what encode encoded. Errors name what and the key.
func decode[T any](d Dict, what string) (v T, err error) {
	if err = decodeFields(d, reflect.ValueOf(&v).Elem()); err != nil {
		err = fmt.Errorf("cannot decode %s: %w", what, err)
	}
	return v, err
}

// decodeOptional decodes what encodeOptional encoded.
func decodeOptional[T any](d Dict, what string) (*T, error) {
	if len(d) == 0 {
		return nil, nil
	}
	v, err := decode[T](d, what)
	return &v, err
}

// decodeAll decodes what encodeAll encoded. An empty list is nil.
func decodeAll[T any](dicts []Dict, what string) (list []T, err error) {
	for _, d := range dicts {
		v, err := decode[T](d, what)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

func decodeFields(d Dict, v reflect.Value) error {
	for i := range v.NumField() {
		if v.Type().Field(i).Anonymous {
			if err := decodeFields(d, v.Field(i)); err != nil {
				return err
			}
			continue
		}
		f := formOf(v.Type().Field(i))
		value, ok := d[f.key]
		if !ok || !f.onBus() {
			continue
		}
		if err := decodeValue(value.Value(), v.Field(i), f.signature); err != nil {
			return within(f.key, err)
		}
	}
	return nil
}

// decodeValue stores a received value in v. An empty list or map is nil, and so is a
// pointer to an empty dictionary.
func decodeValue(got any, v reflect.Value, signature string) error {
	if decode := specialDecoder(v.Type()); decode != nil {
		return decode(got, v)
	}
	switch v.Kind() {
	case reflect.Pointer:
		if d, ok := got.(Dict); ok && len(d) == 0 {
			return nil
		}
		v.Set(reflect.New(v.Type().Elem()))
		return decodeValue(got, v.Elem(), signature)
	case reflect.Struct:
		d, err := as[Dict](got)
		if err != nil {
			return err
		}
		return decodeFields(d, v)
	case reflect.Slice:
		return decodeList(got, v)
	case reflect.Map:
		return decodeMap(got, v, signature)
	}
	t := scalar(v.Kind(), signature)
	if reflect.TypeOf(got) != t {
		return mismatch(got, t)
	}
	v.Set(reflect.ValueOf(got).Convert(v.Type()))
	return nil
}

// text replaces what D-Bus cannot carry: NUL and invalid UTF-8. Names of processes and
// replies of servers are arbitrary bytes; one of them must not break the whole reply.
func text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// micros is a time on the bus: microseconds since the epoch, 0 for none.
func micros(t time.Time) uint64 {
	if t.IsZero() || t.UnixMicro() < 0 {
		return 0
	}
	return uint64(t.UnixMicro())
}

func fromMicros(us uint64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(int64(us))
}
