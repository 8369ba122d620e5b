package rawbus

import (
	"encoding/binary"
	"math"
	"strings"
)

// Value is a value of any type.
type Value struct {
	// Type is one complete type, in the specification's letters.
	Type string
	// Bits are those of a number, a boolean (0 or 1) or a descriptor's index.
	Bits uint64
	// Text is that of a string, a path or a signature.
	Text string
	// Parts are the elements of an array, the fields of a structure, the key and
	// the value of a dictionary's entry, or what a variant holds.
	Parts []Value
}

// String is a value of type s.
func String(s string) Value { return Value{Type: "s", Text: s} }

// Path is a value of type o.
func Path(s string) Value { return Value{Type: "o", Text: s} }

// Signature is a value of type g.
func Signature(s string) Value { return Value{Type: "g", Text: s} }

// Uint32 is a value of type u.
func Uint32(n uint32) Value { return Value{Type: "u", Bits: uint64(n)} }

// Uint64 is a value of type t.
func Uint64(n uint64) Value { return Value{Type: "t", Bits: n} }

// Bool is a value of type b.
func Bool(b bool) Value {
	v := Value{Type: "b"}
	if b {
		v.Bits = 1
	}
	return v
}

// Double is a value of type d.
func Double(f float64) Value { return Value{Type: "d", Bits: math.Float64bits(f)} }

// Variant is a value of type v.
func Variant(of Value) Value { return Value{Type: "v", Parts: []Value{of}} }

// Array is an array of elements, which all are of type element.
func Array(element string, elements ...Value) Value {
	return Value{Type: "a" + element, Parts: elements}
}

// Entry is an entry of a dictionary.
func Entry(key, value Value) Value {
	return Value{Type: "{" + key.Type + value.Type + "}", Parts: []Value{key, value}}
}

// Dict is an a{sv}, in this order.
func Dict(entries ...Value) Value { return Array("{sv}", entries...) }

// Option is an entry of an a{sv}.
func Option(key string, value Value) Value { return Entry(String(key), Variant(value)) }

// Struct is a structure.
func Struct(fields ...Value) Value {
	var t strings.Builder
	t.WriteByte('(')
	for _, f := range fields {
		t.WriteString(f.Type)
	}
	t.WriteByte(')')
	return Value{Type: t.String(), Parts: fields}
}

// Encoder appends values to Bytes. It aligns them relative to its beginning.
type Encoder struct {
	Order binary.AppendByteOrder
	Bytes []byte
}

// Alignment is that of a type with this first letter.
func Alignment(letter byte) int {
	switch letter {
	case 'n', 'q':
		return 2
	case 'b', 'i', 'u', 'h', 'a', 's', 'o':
		return 4
	case 'x', 't', 'd', '(', '{':
		return 8
	}
	return 1
}

// Pad appends zeros up to a multiple of n.
func (e *Encoder) Pad(n int) {
	for len(e.Bytes)%n != 0 {
		e.Bytes = append(e.Bytes, 0)
	}
}

// Uint32 appends a number of four bytes.
func (e *Encoder) Uint32(n uint32) {
	e.Pad(4)
	e.Bytes = e.Order.AppendUint32(e.Bytes, n)
}

// Array appends an array whose elements are aligned so, and which fill appends.
func (e *Encoder) Array(alignment int, fill func()) {
	e.Uint32(0)
	at := len(e.Bytes)
	e.Pad(alignment) // even when there is no element
	began := len(e.Bytes)
	fill()
	length := e.Order.AppendUint32(nil, uint32(len(e.Bytes)-began))
	copy(e.Bytes[at-4:], length)
}

// Value appends a value.
func (e *Encoder) Value(v Value) {
	e.Pad(Alignment(v.Type[0]))
	switch v.Type[0] {
	case 'y':
		e.Bytes = append(e.Bytes, byte(v.Bits))
	case 'n', 'q':
		e.Bytes = e.Order.AppendUint16(e.Bytes, uint16(v.Bits))
	case 'b', 'i', 'u', 'h':
		e.Bytes = e.Order.AppendUint32(e.Bytes, uint32(v.Bits))
	case 'x', 't', 'd':
		e.Bytes = e.Order.AppendUint64(e.Bytes, v.Bits)
	case 's', 'o':
		e.Uint32(uint32(len(v.Text)))
		e.Bytes = append(append(e.Bytes, v.Text...), 0)
	case 'g':
		e.signature(v.Text)
	case 'v':
		e.signature(v.Parts[0].Type)
		e.Value(v.Parts[0])
	case 'a':
		e.Array(Alignment(v.Type[1]), func() { e.values(v.Parts) })
	default: // a structure, or the entry of a dictionary
		e.values(v.Parts)
	}
}

func (e *Encoder) values(list []Value) {
	for _, v := range list {
		e.Value(v)
	}
}

func (e *Encoder) signature(s string) {
	e.Bytes = append(e.Bytes, byte(len(s)))
	e.Bytes = append(append(e.Bytes, s...), 0)
}
