package dbusfuzz

import (
	"math"
	"strings"

	"github.com/dubnium/dubnium/internal/rawbus"
)

// value draws a value of the type, inside of this many containers.
func (d *draw) value(t string, depth int) rawbus.Value {
	d.left--
	v := rawbus.Value{Type: t}
	switch t[0] {
	case 's':
		v.Text = d.text()
	case 'o':
		v.Text = d.path()
	case 'g':
		v.Text = d.signature()
	case 'v':
		v.Parts = []rawbus.Value{d.inVariant(depth + 1)}
	case 'a':
		for range d.elements(depth) {
			v.Parts = append(v.Parts, d.value(t[1:], depth+1))
		}
	case '(', '{':
		for _, part := range split(t[1 : len(t)-1]) {
			v.Parts = append(v.Parts, d.value(part, depth+1))
		}
	default:
		v.Bits = d.bits(t[0])
	}
	return v
}

// elements draws how many an array has. One that is deep, or in a message that has
// many values already, has none.
func (d *draw) elements(depth int) int {
	if d.left <= 0 || depth > maxDepth-2*shallow-2 || d.chance(3) {
		return 0
	}
	if d.chance(20) {
		return d.IntN(d.left + 1)
	}
	return 1 + d.IntN(3)
}

// inVariant draws what a variant at this depth holds.
func (d *draw) inVariant(depth int) rawbus.Value {
	switch {
	case depth > maxDepth-2*shallow-2 || d.left <= 0:
		return d.value(d.basic(), depth)
	case d.chance(12):
		return d.deep(depth)
	case d.chance(4):
		return d.empty()
	case d.chance(4):
		return d.value(d.dictionary(maxSignature, 0), depth)
	}
	return d.value(d.complete(maxSignature, 0), depth)
}

// empty draws an array or a dictionary without an element, of any type.
func (d *draw) empty() rawbus.Value {
	switch d.IntN(5) {
	case 0:
		return rawbus.Value{Type: d.deepest()}
	case 1, 2:
		return rawbus.Value{Type: d.dictionary(maxSignature, 0)}
	}
	return rawbus.Value{Type: "a" + d.complete(maxSignature-1, 0)}
}

// deep draws a value in as many containers as the specification allows, or a few
// less, for one that is inside of depth containers itself.
func (d *draw) deep(depth int) rawbus.Value {
	inner := d.empty()
	if d.chance(2) {
		inner = d.value(d.basic(), maxDepth)
	}
	room := maxDepth - depth - d.IntN(3)*d.IntN(3)
	if room < 0 {
		room = 0
	}
	wrap := d.wrapper()
	for range room {
		inner = wrap(inner)
	}
	return inner
}

// wrapper draws a way to put a value into one more container.
func (d *draw) wrapper() func(rawbus.Value) rawbus.Value {
	style := d.IntN(4)
	return func(v rawbus.Value) rawbus.Value {
		arrays, structs := nesting(v.Type)
		if len(v.Type) > maxSignature-8 {
			return rawbus.Variant(v)
		}
		switch {
		case (style == 1 || style == 3) && arrays < maxArrays && d.chance(2):
			return rawbus.Array(v.Type, v)
		case (style == 2 || style == 3) && structs < maxStructs:
			return rawbus.Struct(v)
		case style == 1 && arrays < maxArrays:
			return rawbus.Array(v.Type, v)
		}
		return rawbus.Variant(v)
	}
}

// nesting counts the arrays and the structures that a type has inside of each
// other. An entry of a dictionary counts as a structure.
func nesting(t string) (arrays, structs int) {
	switch t[0] {
	case 'a':
		arrays, structs = nesting(t[1:])
		return arrays + 1, structs
	case '(', '{':
		for _, part := range split(t[1 : len(t)-1]) {
			a, s := nesting(part)
			arrays, structs = max(arrays, a), max(structs, s)
		}
		return arrays, structs + 1
	}
	return 0, 0
}

// bits draws those of a number, a boolean or a descriptor's index.
func (d *draw) bits(letter byte) uint64 {
	switch letter {
	case 'b':
		return uint64(d.IntN(2))
	case 'd':
		return d.double()
	}
	switch d.IntN(4) {
	case 0:
		return d.Uint64()
	case 1: // the greatest of each size and sign
		return pick[uint64](
			d, math.MaxUint64, math.MaxInt64, 1<<63, math.MaxUint32, math.MaxInt32, 1<<31, math.MaxUint16, 1<<15, math.MaxUint8,
		)
	}
	return uint64(d.IntN(4))
}

func (d *draw) double() uint64 {
	switch d.IntN(4) {
	case 0:
		return d.Uint64()
	case 1: // not a number, quiet, signalling and negative
		return pick[uint64](d, 0x7ff8000000000000, 0x7ff0000000000001, 0xffffffffffffffff)
	case 2:
		return math.Float64bits(
			pick(d, math.Inf(1), math.Inf(-1), math.Copysign(0, -1), math.SmallestNonzeroFloat64, math.MaxFloat64),
		)
	}
	return math.Float64bits(d.NormFloat64())
}

// odd are strings that a program may trip over. All are legal on the bus, which
// takes any UTF-8 without a NUL.
var odd = []string{
	"", " ", "\n", "\x1b[2J\x1b]0;x\a", "\x7f\x01", "%s%n%d", "../../etc/shadow", "a\r\nb", "\\", "\"", "'; --", "{}", "null", "NaN", "-1",
	"\u202eelif", "\ufeff", "\ufffd", "\ufffe", "\uffff", "\U0010ffff", "\U0001f4a9", "e\u0301\u0301\u0301", "ﷺ", "ẞß", "مرحبا", "漢字",
	":1.1", "org.freedesktop.DBus", "/org/dubnium/Mode1", "18446744073709551616", "1e999",
}

// lengths are those at which a bound may lie.
var lengths = []int{63, 64, 65, 127, 128, 255, 256, 257, 1023, 1024, 1025, 4095, 4096, 4097, 20000}

func (d *draw) text() string {
	switch d.IntN(8) {
	case 0, 1:
		return pick(d, odd...)
	case 2:
		return pick(d, d.words...) + pick(d, odd...)
	case 3:
		n := pick(d, lengths...)
		if d.chance(4) {
			n = pick(d, 40_000, 65_535, 66_000)
		}
		unit := pick(d, "x", "\x01", "\u00e9", "\u202e", "\U0001f4a9", "\"")
		return strings.Repeat(unit, 1+n/len(unit))
	}
	return pick(d, d.words...)
}

func (d *draw) path() string {
	switch d.IntN(6) {
	case 0:
		return "/"
	case 1:
		return "/" + d.name(1+d.IntN(maxName))
	case 2:
		return strings.Repeat("/a", 1+d.IntN(500))
	case 3:
		return "/org/freedesktop/systemd1/unit/greetd_2eservice"
	}
	return "/org/dubnium/Mode1"
}

// name draws an element of a name or a path, of this length.
func (d *draw) name(n int) string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789"
	b := make([]byte, n)
	for i := range b {
		b[i] = letters[d.IntN(len(letters)-10*b2i(i == 0))] // not a digit first
	}
	return string(b)
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// iface draws the name of an interface or an error: elements with dots between.
func (d *draw) iface() string {
	if d.chance(3) {
		n := d.IntN(maxName - 4)
		return "x." + d.name(1+n)
	}
	return pick(d, "org.dubnium.Mode1", "org.freedesktop.DBus.Properties", "org.freedesktop.DBus.Peer", "org.freedesktop.systemd1.Manager",
		"org.freedesktop.login1.Manager", "org.freedesktop.DBus", "a.b", strings.Repeat("a.", 127)+"a")
}
