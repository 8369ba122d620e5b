// Package wire reads D-Bus messages before the bus library does.
//
// Any user on the host can send the daemon a valid message that the library cannot decode,
// so that it closes the connection, or on which it panics. So every message is bounded by
// its header, and its body is checked against its signature, before it is used. Method
// calls never reach the library: Header.Args reads their arguments, of the types that the
// daemon's methods take.
//
// The format is that of the D-Bus specification, "Message Protocol". The functions do not
// panic, and allocate no more than a small multiple of their input.
package wire

import (
	"encoding/binary"
	"errors"
)

// Type is a message type.
type Type byte

// The message types. Others are valid, and must be ignored.
const (
	MethodCall   Type = 1
	MethodReturn Type = 2
	Error        Type = 3
	Signal       Type = 4
)

// FixedSize is the size, in bytes, of the fixed part of every message: the byte order, the
// type, the flags, the version, the length of the body, the serial number and the length
// of the header fields.
const FixedSize = 16

// MaxMessage is the longest message that the specification allows, in bytes.
const MaxMessage = 128 << 20

// version is the protocol version.
const version = 1

const (
	flagNoReply     = 1
	flagNoAutoStart = 2
	flagInteractive = 4
	knownFlags      = flagNoReply | flagNoAutoStart | flagInteractive
)

// ErrNotDBus: the data is not a message of version 1 of the protocol. The beginning of the
// next message is unknown.
var ErrNotDBus = errors.New("the bus has sent data that is not a D-Bus message")

// Fixed is the fixed part of a message.
type Fixed struct {
	Type   Type
	Serial uint32
	// Fields and Body are the lengths, in bytes, of the padded header fields and of the
	// body.
	Fields, Body int

	flags byte
	order binary.ByteOrder
	// unpadded is the length of the header fields without the padding.
	unpadded int
}

// ParseFixed parses the fixed part of a message, which has FixedSize bytes. Error:
// ErrNotDBus.
func ParseFixed(data []byte) (Fixed, error) {
	var order binary.ByteOrder
	switch data[0] {
	case 'l':
		order = binary.LittleEndian
	case 'B':
		order = binary.BigEndian
	default:
		return Fixed{}, ErrNotDBus
	}
	f := Fixed{Type: Type(data[1]), flags: data[2], order: order, Serial: order.Uint32(data[8:])}
	body, fields := order.Uint32(data[4:]), order.Uint32(data[12:])
	if data[3] != version || fields > maxArray || body > MaxMessage ||
		uint64(fields)+uint64(body)+FixedSize > MaxMessage {
		return Fixed{}, ErrNotDBus
	}
	f.unpadded, f.Body = int(fields), int(body)
	f.Fields = (f.unpadded + 7) &^ 7
	return f, nil
}

// Header is the header of a message. Missing fields are empty.
type Header struct {
	Fixed
	Path, Interface, Member, ErrorName string
	Destination, Sender, Signature     string
	ReplySerial                        uint32

	// unknown: the header has fields or flags of a later version of the protocol.
	unknown bool
}

// The codes of the header fields.
const (
	fieldPath        = 1
	fieldInterface   = 2
	fieldMember      = 3
	fieldErrorName   = 4
	fieldReplySerial = 5
	fieldDestination = 6
	fieldSender      = 7
	fieldSignature   = 8
	fieldUnixFDs     = 9
)

// ParseHeader parses the header fields, which have fixed.Fields bytes. Unknown fields are
// ignored, as the specification requires.
func ParseHeader(fixed Fixed, fields []byte) (Header, error) {
	h := Header{Fixed: fixed, unknown: fixed.flags&^knownFlags != 0}
	r := &reader{data: fields, order: fixed.order} // FixedSize is a multiple of 8
	for end := fixed.unpadded; r.more(end); {
		r.align(8)
		code := r.uint8()
		h.readField(r, code, r.variantType())
	}
	return h, r.err
}

func (h *Header) readField(r *reader, code uint8, t string) {
	value, want := h.text(code)
	switch {
	case value != nil && t != string(want), code == fieldReplySerial && t != "u", code == 0:
		r.fail(errValue)
	case want == 'g':
		*value = r.signature()
	case value != nil:
		*value = r.text()
	case code == fieldReplySerial:
		h.ReplySerial = r.uint32()
	default:
		h.unknown = h.unknown || code != fieldUnixFDs
		r.skip(t, 2)
	}
}

// text returns the field of that code and its type; nil if it is not a text field.
func (h *Header) text(code uint8) (value *string, t byte) {
	switch code {
	case fieldPath:
		return &h.Path, 'o'
	case fieldInterface:
		return &h.Interface, 's'
	case fieldMember:
		return &h.Member, 's'
	case fieldErrorName:
		return &h.ErrorName, 's'
	case fieldDestination:
		return &h.Destination, 's'
	case fieldSender:
		return &h.Sender, 's'
	case fieldSignature:
		return &h.Signature, 'g'
	}
	return nil, 0
}

// Interactive reports whether the caller allows a password prompt.
func (h Header) Interactive() bool { return h.flags&flagInteractive != 0 }

// NoReply reports whether the caller expects no reply.
func (h Header) NoReply() bool { return h.flags&flagNoReply != 0 }

// Check returns an error if the body does not match the signature or, with forLibrary, if
// the bus library cannot decode it.
func (h Header) Check(body []byte, forLibrary bool) error {
	r := &reader{data: body, order: h.order}
	r.skipAll(h.Signature, 0)
	switch {
	case r.err != nil:
		return r.err
	case r.pos != len(body):
		return errValue
	case forLibrary && r.foreign:
		return errors.New("a value has a type that the bus library cannot read")
	}
	return nil
}

// Args decodes the arguments of a method call: Go values for basic types, []string for
// as, map[string]dbus.Variant for a{sv}, dbus.Variant for v. A variant of any but a basic
// type has its signature and no value. Other types are an error.
func (h Header) Args(body []byte) ([]any, error) {
	var args []any
	r := &reader{data: body, order: h.order}
	for rest := h.Signature; rest != "" && r.err == nil; {
		first, after, err := complete(rest)
		if err != nil {
			return nil, err
		}
		args = append(args, r.value(first))
		rest = after
	}
	if r.err == nil && r.pos != len(body) {
		r.fail(errValue)
	}
	return args, r.err
}

// Rewritten encodes the header without fields and flags of later versions of the protocol,
// which the bus library rejects; nil if it has none.
func (h Header) Rewritten() []byte {
	if !h.unknown {
		return nil
	}
	return h.encode()
}

// Refusal encodes an error reply in place of a reply whose body cannot be used, so that
// the caller does not wait for ever.
func (h Header) Refusal(name, text string) []byte {
	refusal := Header{
		Fixed:     Fixed{Type: Error, Serial: h.Serial, order: h.order, flags: flagNoReply, Body: 4 + len(text) + 1},
		ErrorName: name, Sender: h.Sender, Destination: h.Destination, ReplySerial: h.ReplySerial, Signature: "s",
	}
	w := &writer{data: refusal.encode(), order: h.order}
	w.text('s', text)
	return w.data
}

func (h Header) encode() []byte {
	w := &writer{order: h.order}
	order := byte('l')
	if h.order == binary.BigEndian {
		order = 'B'
	}
	w.data = append(w.data, order, byte(h.Type), h.flags&knownFlags, version)
	w.uint32(uint32(h.Body))
	w.uint32(h.Serial)
	w.uint32(0) // the length of the fields, set below
	for code := uint8(fieldPath); code <= fieldSignature; code++ {
		if value, t := h.text(code); value != nil && *value != "" {
			w.field(code, t)
			w.text(t, *value)
		}
	}
	if h.ReplySerial != 0 {
		w.field(fieldReplySerial, 'u')
		w.uint32(h.ReplySerial)
	}
	h.order.PutUint32(w.data[12:], uint32(len(w.data)-FixedSize))
	w.align(8)
	return w.data
}

// writer encodes values.
type writer struct {
	data  []byte
	order binary.ByteOrder
}

func (w *writer) align(n int) {
	for len(w.data)%n != 0 {
		w.data = append(w.data, 0)
	}
}

func (w *writer) uint32(v uint32) {
	w.align(4)
	w.data = append(w.data, 0, 0, 0, 0)
	w.order.PutUint32(w.data[len(w.data)-4:], v)
}

// field begins a header field: its code, and the signature of its value.
func (w *writer) field(code, t byte) {
	w.align(8)
	w.data = append(w.data, code, 1, t, 0)
}

func (w *writer) text(t byte, s string) {
	if t == 'g' {
		w.data = append(w.data, byte(len(s)))
	} else {
		w.uint32(uint32(len(s)))
	}
	w.data = append(append(w.data, s...), 0)
}
