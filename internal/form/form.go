// Package form tells by what they are made of whether texts are names: of units,
// of PCI functions, of keys.
//
// Regular expressions would say the same in a line each. They are compiled when a
// program starts, though, whether it asks for a name or not: that was six
// sevenths of all that modectl executed before main, and 0.5 MB of a daemon that
// is to be small.
package form

import "strings"

// Only reports whether every byte of text is allowed. An empty text has none that
// is not.
func Only(text string, allowed func(byte) bool) bool {
	for i := range len(text) {
		if !allowed(text[i]) {
			return false
		}
	}
	return true
}

// Alphanumeric reports whether c is a letter or a digit of ASCII.
func Alphanumeric(c byte) bool { return lower(c) || 'A' <= c && c <= 'Z' || Digit(c) }

// Digit reports whether c is a decimal digit.
func Digit(c byte) bool { return '0' <= c && c <= '9' }

// Number reports whether text is one or more decimal digits.
func Number(text string) bool { return text != "" && Only(text, Digit) }

func lower(c byte) bool { return 'a' <= c && c <= 'z' }

func hex(c byte) bool { return Digit(c) || 'a' <= c && c <= 'f' }

// Word reports whether text is one or more letters, digits, - and _.
func Word(text string) bool {
	return text != "" && Only(text, func(c byte) bool { return Alphanumeric(c) || c == '-' || c == '_' })
}

// Printable reports whether text has no more than that many bytes, all of them
// printable ASCII.
func Printable(text string, most int) bool {
	return len(text) <= most && Only(text, func(c byte) bool { return ' ' <= c && c <= '~' })
}

// Unit reports whether text is the name of a unit of one of these types, as far as
// its characters go (man 5 systemd.unit).
func Unit(text string, types ...string) bool {
	stem, kind, ok := cutLast(text, '.')
	if !ok || stem == "" || !Only(stem, func(c byte) bool { return Alphanumeric(c) || strings.IndexByte(`:_.\@-`, c) >= 0 }) {
		return false
	}
	for _, t := range types {
		if kind == t {
			return true
		}
	}
	return false
}

// Template reports whether text names a unit that cannot run without an instance.
func Template(text string) bool {
	stem, kind, ok := cutLast(text, '.')
	return ok && strings.HasSuffix(stem, "@") && kind != "" && Only(kind, lower)
}

// PCI reports whether text is the address of a PCI function, domain:bus:device.function,
// whose domain has from four to that many digits: the kernel's has four, unless it is a
// virtual one.
func PCI(text string, digits int) bool {
	domain, slot, _ := strings.Cut(text, ":")
	return len(domain) >= 4 && len(domain) <= digits && Only(domain, hex) &&
		len(slot) == len("00:00.0") && Only(slot[:2], hex) && slot[2] == ':' && Only(slot[3:5], hex) &&
		slot[5] == '.' && '0' <= slot[6] && slot[6] <= '7'
}

func cutLast(text string, separator byte) (before, after string, found bool) {
	i := strings.LastIndexByte(text, separator)
	if i < 0 {
		return text, "", false
	}
	return text[:i], text[i+1:], true
}
