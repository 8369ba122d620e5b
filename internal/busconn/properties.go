package busconn

import (
	"encoding/hex"
	"fmt"
	"math"
	"time"

	"github.com/godbus/dbus/v5"
)

// Properties are the properties of one interface of one object. Reading a value fails if
// it is missing or has another type, so that it is unknown instead of zero.
type Properties map[string]dbus.Variant

func get[T any](p Properties, name string) (T, error) {
	value, ok := p[name].Value().(T)
	if !ok {
		return value, fmt.Errorf("the property %s is missing or has an unexpected type", name)
	}
	return value, nil
}

// Reader reads several values and has the first error.
type Reader struct {
	properties Properties
	err        error
}

// Read starts reading.
func (p Properties) Read() *Reader { return &Reader{properties: p} }

// Err is the first error.
func (r *Reader) Err() error { return r.err }

func read[T any](r *Reader, name string) T {
	value, err := get[T](r.properties, name)
	if err != nil && r.err == nil {
		r.err = err
	}
	return value
}

// String reads an s.
func (r *Reader) String(name string) string { return read[string](r, name) }

// Strings reads an as.
func (r *Reader) Strings(name string) []string { return read[[]string](r, name) }

// Bool reads a b.
func (r *Reader) Bool(name string) bool { return read[bool](r, name) }

// Uint32 reads a u.
func (r *Reader) Uint32(name string) uint32 { return read[uint32](r, name) }

// Uint64 reads a t.
func (r *Reader) Uint64(name string) uint64 { return read[uint64](r, name) }

// Bytes reads an ay.
func (r *Reader) Bytes(name string) []byte { return read[[]byte](r, name) }

// Time reads a t of microseconds since the epoch; 0 is the zero time.
func (r *Reader) Time(name string) time.Time {
	at := read[uint64](r, name)
	if at == 0 || at > math.MaxInt64 {
		return time.Time{}
	}
	return time.UnixMicro(int64(at))
}

// Hex reads an ay as hexadecimal digits; one that is empty or all zero is empty.
func (r *Reader) Hex(name string) string {
	bytes := read[[]byte](r, name)
	for _, b := range bytes {
		if b != 0 {
			return hex.EncodeToString(bytes)
		}
	}
	return ""
}

// Number reads the first field of a (uo): the id of a job, of a user.
func (r *Reader) Number(name string) uint32 { return first[uint32](r, name) }

// Name reads the first field of an (so): the name of a seat.
func (r *Reader) Name(name string) string { return first[string](r, name) }

func first[T any](r *Reader, name string) T {
	fields := read[[]any](r, name)
	if len(fields) > 0 {
		if value, ok := fields[0].(T); ok {
			return value
		}
	}
	if r.err == nil {
		r.err = fmt.Errorf("the property %s has an unexpected type", name)
	}
	var none T
	return none
}
