package wire

import (
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/godbus/dbus/v5"
)

// The limits of the D-Bus specification on values.
const (
	maxArray = 64 << 20
	maxDepth = 64
)

// maxLibraryDepth is the nesting that the bus library can decode, with a margin: it counts
// levels differently from the specification.
const maxLibraryDepth = 56

var errValue = errors.New("a value does not match its signature")

// reader decodes values. After the first error every read returns a zero value.
type reader struct {
	data  []byte // begins at an offset that is a multiple of 8
	pos   int
	order binary.ByteOrder
	err   error
	// foreign: a value that the bus library cannot decode has been read.
	foreign bool
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// take returns the next n bytes.
func (r *reader) take(n int) []byte {
	if r.err == nil && (n < 0 || n > len(r.data)-r.pos) {
		r.fail(errValue)
	}
	if r.err != nil {
		return nil
	}
	r.pos += n
	return r.data[r.pos-n : r.pos]
}

// align skips the padding before a value.
func (r *reader) align(n int) { r.take((n - r.pos%n) % n) }

func (r *reader) uint8() uint8 {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	r.align(2)
	if b := r.take(2); b != nil {
		return r.order.Uint16(b)
	}
	return 0
}

func (r *reader) uint32() uint32 {
	r.align(4)
	if b := r.take(4); b != nil {
		return r.order.Uint32(b)
	}
	return 0
}

func (r *reader) uint64() uint64 {
	r.align(8)
	if b := r.take(8); b != nil {
		return r.order.Uint64(b)
	}
	return 0
}

func (r *reader) bool() bool {
	v := r.uint32()
	if v > 1 {
		r.fail(errValue)
	}
	return v == 1
}

// text reads an s or an o.
func (r *reader) text() string { return r.terminated(int(r.uint32())) }

// signature reads a g.
func (r *reader) signature() string {
	s := r.terminated(int(r.uint8()))
	for rest := s; rest != "" && r.err == nil; {
		_, after, err := complete(rest)
		if err != nil {
			r.fail(err)
		}
		rest = after
	}
	return s
}

// terminated reads n bytes of text and the terminating NUL.
func (r *reader) terminated(n int) string {
	text, end := r.take(n), r.take(1)
	if r.err != nil {
		return ""
	}
	if end[0] != 0 || !utf8.Valid(text) || strings.IndexByte(string(text), 0) >= 0 {
		r.fail(errValue)
		return ""
	}
	return string(text)
}

// array reads the length of an array of elements of the type, and returns the offset of
// its end.
func (r *reader) array(element byte) (end int) {
	n := r.uint32()
	r.align(alignment(element))
	if n > maxArray || int(n) > len(r.data)-r.pos {
		r.fail(errValue)
	}
	return r.pos + int(n)
}

// more reports whether an array that ends at end has more elements. An element that
// extends beyond the end is an error.
func (r *reader) more(end int) bool {
	if r.pos > end {
		r.fail(errValue)
	}
	return r.err == nil && r.pos < end
}

// skip checks one value of a complete type.
func (r *reader) skip(t string, depth int) {
	if r.err != nil {
		return
	}
	if depth > maxDepth {
		r.fail(errValue)
		return
	}
	r.foreign = r.foreign || depth > maxLibraryDepth
	switch t[0] {
	case 'a':
		r.skipArray(t[1:], depth+1)
	case '(':
		r.align(8)
		r.skipAll(t[1:len(t)-1], depth+1)
	case '{':
		r.align(8)
		r.skipAll(t[1:len(t)-1], depth+1)
	case 'v':
		r.skip(r.variantType(), depth+1)
	default:
		r.basic(t[0])
	}
}

// skipAll checks values of the types.
func (r *reader) skipAll(types string, depth int) {
	for types != "" && r.err == nil {
		first, rest, err := complete(types)
		if err != nil {
			r.fail(err)
			return
		}
		r.skip(first, depth)
		types = rest
	}
}

func (r *reader) skipArray(element string, depth int) {
	end := r.array(element[0])
	if element[0] == '{' {
		// The library cannot use keys of these types, or cannot find them again (NaN).
		r.foreign = r.foreign || strings.IndexByte("bgd", element[1]) >= 0
	}
	if r.err == nil && strings.IndexByte("ynqiuhxtd", element[0]) >= 0 { // any value is valid
		n := end - r.pos
		if n%alignment(element[0]) != 0 {
			r.fail(errValue)
		}
		r.take(n)
		return
	}
	for r.more(end) {
		r.skip(element, depth)
	}
}

// variantType reads the signature of a variant, which is one complete type.
func (r *reader) variantType() string {
	s := r.signature()
	first, rest, err := complete(s)
	if err != nil || rest != "" {
		r.fail(errSignature)
		return "y"
	}
	return first
}

// basic reads a value of a basic type.
func (r *reader) basic(code byte) any {
	switch code {
	case 'y':
		return r.uint8()
	case 'b':
		return r.bool()
	case 'n':
		return int16(r.uint16())
	case 'q':
		return r.uint16()
	case 'i':
		return int32(r.uint32())
	case 'u':
		return r.uint32()
	case 'x':
		return int64(r.uint64())
	case 't':
		return r.uint64()
	case 'd':
		return math.Float64frombits(r.uint64())
	case 's':
		return r.text()
	case 'o':
		path := dbus.ObjectPath(r.text())
		if r.err == nil && !path.IsValid() {
			r.fail(errValue)
		}
		return path
	case 'g':
		signature, err := dbus.ParseSignature(r.signature())
		if err != nil {
			r.fail(errSignature)
		}
		return signature
	case 'h':
		return dbus.UnixFDIndex(r.uint32())
	}
	r.fail(errSignature)
	return nil
}

// value reads a value of a type that the daemon's methods take: a basic type, a variant,
// as or a{sv}.
func (r *reader) value(t string) any {
	switch t {
	case "as":
		list := []string{}
		for end := r.array('s'); r.more(end); {
			list = append(list, r.text())
		}
		return list
	case "a{sv}":
		return r.dictionary()
	case "v":
		return r.variant()
	}
	if len(t) != 1 {
		r.fail(errSignature)
		return nil
	}
	return r.basic(t[0])
}

func (r *reader) dictionary() map[string]dbus.Variant {
	values := map[string]dbus.Variant{}
	for end := r.array('{'); r.more(end); {
		r.align(8)
		key := r.text()
		if _, twice := values[key]; twice {
			r.fail(errors.New("duplicate key in a dictionary"))
		}
		values[key] = r.variant()
	}
	return values
}

// variant reads a variant. Only the type of one that is not basic is kept: no method takes
// such a value.
func (r *reader) variant() dbus.Variant {
	t := r.variantType()
	var value any
	if r.err == nil && strings.IndexByte(basic, t[0]) >= 0 {
		value = r.basic(t[0])
	} else {
		r.skip(t, 2)
	}
	signature, err := dbus.ParseSignature(t)
	if err != nil {
		r.fail(errSignature)
	}
	return dbus.MakeVariantWithSignature(value, signature)
}
