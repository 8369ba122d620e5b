package busapi

import (
	"fmt"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

// text makes s fit for D-Bus, which carries neither NUL nor what is not UTF-8.
// Names of processes and answers of servers are any bytes; one of them must not
// cost a caller the whole reply.
func text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

func texts(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = text(s)
	}
	return out
}

func textVariant[T ~string](s T) dbus.Variant { return dbus.MakeVariant(text(string(s))) }

// micros is a time as it travels: microseconds since the epoch, 0 for none.
func micros(t time.Time) uint64 {
	if t.IsZero() || t.UnixMicro() < 0 {
		return 0
	}
	return uint64(t.UnixMicro())
}

// putTime leaves a time that is not known out, as the contract says.
func putTime(d Dict, key string, t time.Time) {
	if us := micros(t); us != 0 {
		d[key] = dbus.MakeVariant(us)
	}
}

func dicts[T any](list []T, encode func(T) Dict) []Dict {
	out := make([]Dict, len(list))
	for i, v := range list {
		out[i] = encode(v)
	}
	return out
}

// reader takes values out of a dictionary and keeps the first thing that was
// wrong, so that a decoder reads like the table in the contract.
type reader struct {
	dict Dict
	err  error
}

// get returns the value of key, or the zero value when it is missing or of
// another type; the latter is the reader's error.
func get[T any](r *reader, key string) T {
	var zero T
	v, ok := r.dict[key]
	if !ok {
		return zero
	}
	value, ok := v.Value().(T)
	if !ok {
		r.fail(fmt.Errorf("the key %s is of type %s", key, v.Signature()))
		return zero
	}
	return value
}

// word reads a string as one of the contract's words.
func word[T ~string](r *reader, key string) T { return T(get[string](r, key)) }

// moment reads a time.
func moment(r *reader, key string) time.Time { return fromMicros(get[uint64](r, key)) }

func fromMicros(us uint64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(int64(us))
}

// list reads an array of dictionaries. An empty array is nil.
func list[T any](r *reader, key string, decode func(Dict) (T, error)) []T {
	values, err := decodeAll(get[[]Dict](r, key), decode)
	if err != nil {
		r.fail(fmt.Errorf("the key %s: %w", key, err))
	}
	return values
}

func decodeAll[T any](dicts []Dict, decode func(Dict) (T, error)) ([]T, error) {
	var values []T
	for _, d := range dicts {
		v, err := decode(d)
		if err != nil {
			return nil, err
		}
		values = append(values, v)
	}
	return values, nil
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// structure notes an error of another decoder.
func (r *reader) structure(err error) {
	if err != nil {
		r.fail(err)
	}
}

// finish gives the reader's error the name of what was being decoded.
func (r *reader) finish(what string) error {
	if r.err == nil {
		return nil
	}
	return fmt.Errorf("cannot decode %s: %w", what, r.err)
}

// words are a list of words as it travels.
func words[T ~string](list []T) []string {
	out := make([]string, len(list))
	for i, w := range list {
		out[i] = text(string(w))
	}
	return out
}

// readWords reads what words wrote; an empty list is nil.
func readWords[T ~string](r *reader, key string) []T {
	var list []T
	for _, w := range get[[]string](r, key) {
		list = append(list, T(w))
	}
	return list
}
