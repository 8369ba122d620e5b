package busapi

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

// The evidence has many shapes, and more with each source, so they travel by one
// rule: a struct is an a{sv} whose keys are the names in its JSON form. Within it
// a word or a text is s, a time t (left out when it is not known), a duration t
// in microseconds, a number that may not be known d (left out when it is not),
// and lists and maps of structs are aa{sv} and a{sv}.

var (
	timeType     = reflect.TypeFor[time.Time]()
	durationType = reflect.TypeFor[time.Duration]()
	wordType     = reflect.TypeFor[encoding.TextMarshaler]()
)

// encodeStruct is v, a struct, as a dictionary.
func encodeStruct(v any) Dict {
	d := Dict{}
	encodeFields(d, reflect.ValueOf(v))
	return d
}

func encodeFields(d Dict, v reflect.Value) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if field.Anonymous {
			encodeFields(d, v.Field(i))
		} else if encoded, there := encodeValue(v.Field(i)); there {
			d[key(field)] = dbus.MakeVariant(encoded)
		}
	}
}

func key(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

// encodeValue returns what travels, and whether there is anything to.
func encodeValue(v reflect.Value) (any, bool) {
	switch {
	case v.Type() == timeType:
		us := micros(v.Interface().(time.Time))
		return us, us != 0
	case v.Type() == durationType:
		return uint64(max(0, v.Interface().(time.Duration).Microseconds())), true
	case v.Type().Implements(wordType):
		word, err := v.Interface().(encoding.TextMarshaler).MarshalText()
		return text(string(word)), err == nil
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil, false
		}
		return encodeValue(v.Elem())
	case reflect.String:
		return text(v.String()), true
	case reflect.Bool, reflect.Float64, reflect.Uint32, reflect.Uint64:
		return v.Interface(), true
	case reflect.Int:
		return v.Int(), true
	case reflect.Struct:
		return encodeStruct(v.Interface()), true
	case reflect.Slice:
		return encodeList(v), true
	case reflect.Map:
		d := Dict{}
		for _, k := range v.MapKeys() {
			if encoded, there := encodeValue(v.MapIndex(k)); there {
				d[text(k.String())] = dbus.MakeVariant(encoded)
			}
		}
		return d, true
	}
	panic(fmt.Sprintf("%s has no form on the bus", v.Type()))
}

func encodeList(v reflect.Value) any {
	if v.Type().Elem().Kind() == reflect.Struct {
		list := make([]Dict, v.Len())
		for i := range list {
			list[i] = encodeStruct(v.Index(i).Interface())
		}
		return list
	}
	list := make([]string, v.Len())
	for i := range list {
		list[i] = text(v.Index(i).String())
	}
	return list
}

// decodeStruct reads into v, a pointer to a struct, what encodeStruct wrote.
func decodeStruct(d Dict, v any) error { return decodeFields(d, reflect.ValueOf(v).Elem()) }

func decodeFields(d Dict, v reflect.Value) error {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if field.Anonymous {
			if err := decodeFields(d, v.Field(i)); err != nil {
				return err
			}
			continue
		}
		value, there := d[key(field)]
		if !there {
			continue
		}
		if err := decodeValue(value.Value(), v.Field(i)); err != nil {
			return fmt.Errorf("the key %s: %w", key(field), err)
		}
	}
	return nil
}

// decodeValue stores what travelled. An empty list or map is nil.
func decodeValue(got any, v reflect.Value) error {
	switch v.Type() {
	case timeType:
		us, ok := got.(uint64)
		v.Set(reflect.ValueOf(fromMicros(us)))
		return fits(ok, got)
	case durationType:
		us, ok := got.(uint64)
		v.SetInt(int64(us) * int64(time.Microsecond))
		return fits(ok, got)
	}
	// Only what travels as its own word is read by its own rule: a Mode reads a
	// policy strictly, and here may be one that this version does not know.
	if word, is := v.Addr().Interface().(encoding.TextUnmarshaler); is && v.Type().Implements(wordType) {
		s, ok := got.(string)
		if !ok {
			return fits(ok, got)
		}
		return word.UnmarshalText([]byte(s))
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return decodeValue(got, v.Elem())
	case reflect.Struct:
		d, ok := got.(Dict)
		if !ok {
			return fits(ok, got)
		}
		return decodeFields(d, v)
	case reflect.Slice:
		return decodeList(got, v)
	case reflect.Map:
		return decodeMap(got, v)
	}
	r := reflect.ValueOf(got)
	if r.Kind() != v.Kind() && !(v.Kind() == reflect.Int && r.Kind() == reflect.Int64) {
		return fits(false, got)
	}
	v.Set(r.Convert(v.Type()))
	return nil
}

func decodeList(got any, v reflect.Value) error {
	r := reflect.ValueOf(got)
	if r.Kind() != reflect.Slice {
		return fits(false, got)
	}
	for i := range r.Len() {
		element := reflect.New(v.Type().Elem()).Elem()
		if err := decodeValue(r.Index(i).Interface(), element); err != nil {
			return err
		}
		v.Set(reflect.Append(v, element))
	}
	return nil
}

func decodeMap(got any, v reflect.Value) error {
	d, ok := got.(Dict)
	if !ok {
		return fits(ok, got)
	}
	for name, value := range d {
		element := reflect.New(v.Type().Elem()).Elem()
		if err := decodeValue(value.Value(), element); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if v.IsNil() {
			v.Set(reflect.MakeMap(v.Type()))
		}
		v.SetMapIndex(reflect.ValueOf(name).Convert(v.Type().Key()), element)
	}
	return nil
}

func fits(ok bool, got any) error {
	if ok {
		return nil
	}
	return fmt.Errorf("%T is not what the contract says", got)
}
