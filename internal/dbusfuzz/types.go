package dbusfuzz

import (
	"math/rand/v2"
	"strings"
)

// The limits of the specification.
const (
	maxSignature = 255 // bytes
	maxName      = 255 // bytes, of an interface, a member or an error
	maxArrays    = 32  // arrays in arrays, in one signature
	maxStructs   = 32  // structures in structures, in one signature
	maxDepth     = 64  // containers in containers, variants among them, in one body
	headerDepth  = 3   // how deep the value of a header field lies already
)

// basics are the types that can be the key of a dictionary.
const basics = "ybnqiuxtdsogh"

// keys are the same with more of d: a number that is none is equal to no other, itself
// included, so that a map never finds it again.
const keys = basics + "ddd"

// draw draws values for one message.
type draw struct {
	*rand.Rand
	words []string
	// left is how many values may still be drawn: a message is kept small, so that
	// many can be sent.
	left int
}

// chance is true once in n times.
func (d *draw) chance(n int) bool { return d.IntN(n) == 0 }

func pick[T any](d *draw, list ...T) T { return list[d.IntN(len(list))] }

func (d *draw) basic() string { return string(basics[d.IntN(len(basics))]) }

// dictionary draws the type of one.
func (d *draw) dictionary(room, nested int) string {
	return "a{" + string(keys[d.IntN(len(keys))]) + d.complete(room-4, nested+2) + "}"
}

// shallow is how deep containers are nested in a type that is drawn at random.
const shallow = 5

// complete draws a complete type with at most room letters.
func (d *draw) complete(room, nested int) string {
	if room < 8 || nested >= shallow || d.chance(2) {
		return pick(d, d.basic(), d.basic(), d.basic(), "v")
	}
	switch d.IntN(4) {
	case 0:
		return "(" + d.several(1, room-2, nested+1) + ")"
	case 1:
		return d.dictionary(room, nested)
	default:
		return "a" + d.complete(room-1, nested+1)
	}
}

// several draws at least this many complete types, in at most room letters.
func (d *draw) several(least, room, nested int) string {
	var all strings.Builder
	for n := least + d.IntN(3); n > 0 && all.Len() < room; n-- {
		all.WriteString(d.complete((room-all.Len())/n, nested))
	}
	return all.String()
}

// deepest draws an array type with as much in each other as one signature may have.
func (d *draw) deepest() string {
	inner := pick(d, d.basic(), "v", "("+d.basic()+")", "{s"+d.basic()+"}")
	structs := pick(d, 0, 0, maxStructs-1)
	if inner[0] == '{' {
		structs = 0 // an entry has to be an array's element
	}
	return strings.Repeat("a", maxArrays) + strings.Repeat("(", structs) + inner + strings.Repeat(")", structs)
}

// signature draws one that is legal as a value of type g, and as a body's.
func (d *draw) signature() string {
	switch d.IntN(5) {
	case 0:
		return ""
	case 1:
		return strings.Repeat(d.basic(), maxSignature)
	case 2:
		return d.deepest()
	}
	return d.several(1, maxSignature, 0)
}

// first splits a signature into its first complete type and the rest.
func first(signature string) (one, rest string) {
	n := length(signature)
	return signature[:n], signature[n:]
}

func length(signature string) int {
	switch signature[0] {
	case 'a':
		return 1 + length(signature[1:])
	case '(', '{':
		at := 1
		for signature[at] != ')' && signature[at] != '}' {
			at += length(signature[at:])
		}
		return at + 1
	}
	return 1
}

// split is a signature's complete types.
func split(signature string) (types []string) {
	for signature != "" {
		var one string
		one, signature = first(signature)
		types = append(types, one)
	}
	return types
}
