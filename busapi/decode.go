package busapi

import (
	"encoding"
	"errors"
	"fmt"
	"math"
	"reflect"
	"time"

	"github.com/godbus/dbus/v5"
)

// specialDecoder is the decoder of a type that is not decoded by its kind; else nil.
func specialDecoder(t reflect.Type) func(got any, v reflect.Value) error {
	switch {
	case t == timeType:
		return decodeTime
	case t == durationType:
		return decodeDuration
	case t == dictType:
		return decodeDict
	case t.Implements(textType):
		return decodeText
	}
	return nil
}

func decodeTime(got any, v reflect.Value) error {
	us, err := bounded(got, math.MaxInt64)
	v.Set(reflect.ValueOf(fromMicros(us)))
	return err
}

func decodeDuration(got any, v reflect.Value) error {
	us, err := bounded(got, math.MaxInt64/uint64(time.Microsecond))
	v.SetInt(int64(us) * int64(time.Microsecond))
	return err
}

func decodeDict(got any, v reflect.Value) error {
	d, err := as[Dict](got)
	v.Set(reflect.ValueOf(d))
	return err
}

// decodeText is for types that marshal themselves to text. Strings such as Mode are
// not among them: UnmarshalText of Mode rejects a mode that this version does not know.
func decodeText(got any, v reflect.Value) error {
	word, err := as[string](got)
	if err != nil {
		return err
	}
	return v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(word))
}

func decodeList(got any, v reflect.Value) error {
	want := stringsType
	if v.Type().Elem().Kind() == reflect.Struct {
		want = dictsType
	}
	if reflect.TypeOf(got) != want {
		return mismatch(got, want)
	}
	for _, part := range reflect.ValueOf(got).Seq2() {
		element := reflect.New(v.Type().Elem()).Elem()
		if err := decodeValue(part.Interface(), element, ""); err != nil {
			return err
		}
		v.Set(reflect.Append(v, element))
	}
	return nil
}

func decodeMap(got any, v reflect.Value, signature string) error {
	if signature == textMap {
		texts, err := as[map[string]string](got)
		if len(texts) > 0 {
			v.Set(reflect.MakeMap(v.Type()))
		}
		key, value := v.Type().Key(), v.Type().Elem()
		for name, word := range texts {
			v.SetMapIndex(reflect.ValueOf(name).Convert(key), reflect.ValueOf(word).Convert(value))
		}
		return err
	}
	d, err := as[Dict](got)
	if len(d) > 0 {
		v.Set(reflect.MakeMap(v.Type()))
	}
	for name, value := range d {
		element := reflect.New(v.Type().Elem()).Elem()
		if err := decodeValue(value.Value(), element, ""); err != nil {
			return within(name, err)
		}
		v.SetMapIndex(reflect.ValueOf(name).Convert(v.Type().Key()), element)
	}
	return err
}

// as asserts the type of the contract.
func as[T any](got any) (T, error) {
	value, ok := got.(T)
	if !ok {
		return value, mismatch(got, reflect.TypeFor[T]())
	}
	return value, nil
}

// bounded is a number of microseconds, at most the given one.
func bounded(got any, most uint64) (uint64, error) {
	us, err := as[uint64](got)
	if us > most {
		return 0, &valueError{what: fmt.Sprintf("is %d microseconds, which is out of range", us)}
	}
	return us, err
}

// valueError is a value that the contract does not permit, with the path of its keys.
type valueError struct{ key, what string }

func (e *valueError) Error() string { return "the key " + e.key + " " + e.what }

func mismatch(got any, want reflect.Type) error {
	signature := "no type"
	if got != nil {
		signature = "type " + dbus.SignatureOf(got).String()
	}
	return &valueError{what: fmt.Sprintf("is of %s, not %s", signature, dbus.SignatureOfType(want))}
}

// within adds the key of a dictionary to the error of its value.
func within(key string, err error) error {
	var inside *valueError
	if !errors.As(err, &inside) {
		return fmt.Errorf("the key %s: %w", key, err)
	}
	if inside.key != "" {
		key += "." + inside.key
	}
	return &valueError{key, inside.what}
}
