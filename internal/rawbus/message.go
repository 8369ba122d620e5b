// Package rawbus is a D-Bus client without a library: it writes any bytes to the
// bus and reads what comes back. It is for tests that send what a library of
// good manners does not: values that it cannot express, headers that it would
// refuse to write, messages that are too large.
//
// Failure semantics: encoding never fails and checks nothing; whoever builds a
// message is responsible for its being legal. The bus disconnects who sends an
// illegal one, and every later call of a Conn then fails.
package rawbus

import (
	"encoding/binary"
	"slices"
)

// The message types of the specification.
const (
	Call   byte = 1
	Return byte = 2
	Error  byte = 3
	Signal byte = 4
)

// The message flags of the specification.
const (
	NoReply     byte = 1
	NoAutoStart byte = 2
	Interactive byte = 4
)

// The header fields of the specification.
const (
	FieldPath        byte = 1
	FieldInterface   byte = 2
	FieldMember      byte = 3
	FieldErrorName   byte = 4
	FieldReplySerial byte = 5
	FieldDestination byte = 6
	FieldSender      byte = 7
	FieldSignature   byte = 8
	FieldUnixFDs     byte = 9
)

// Field is a header field. Its value is a variant's.
type Field struct {
	Code  byte
	Value Value
}

// Message is a message before it is encoded. Body is encoded already, in the same
// byte order; its signature is one of the fields.
type Message struct {
	Order  binary.AppendByteOrder
	Type   byte
	Flags  byte
	Serial uint32
	Fields []Field
	Body   []byte
}

// NewCall is a method call, in little endian, without a body.
func NewCall(destination, path, iface, member string) *Message {
	return &Message{Order: binary.LittleEndian, Type: Call, Fields: []Field{
		{FieldPath, Path(path)},
		{FieldDestination, String(destination)},
		{FieldInterface, String(iface)},
		{FieldMember, String(member)},
	}}
}

// NewSignal is a signal to one connection, in little endian, without a body.
func NewSignal(destination, path, iface, member string) *Message {
	m := NewCall(destination, path, iface, member)
	m.Type, m.Flags = Signal, NoReply
	return m
}

// NewReturn is the answer to a call, without a body.
func NewReturn(to Received) *Message {
	return &Message{Order: binary.LittleEndian, Type: Return, Flags: NoReply, Fields: []Field{
		{FieldDestination, String(to.Sender)},
		{FieldReplySerial, Uint32(to.Serial)},
	}}
}

// With appends the values to an empty body, and returns the message.
func (m *Message) With(values ...Value) *Message {
	var signature string
	e := Encoder{Order: m.Order}
	for _, v := range values {
		signature += v.Type
		e.Value(v)
	}
	return m.WithEncoded(signature, e.Bytes)
}

// WithEncoded makes bytes that have been encoded the body, and returns the message.
func (m *Message) WithEncoded(signature string, body []byte) *Message {
	m.Fields = slices.DeleteFunc(m.Fields, func(f Field) bool { return f.Code == FieldSignature })
	if signature != "" {
		m.Fields = append(m.Fields, Field{FieldSignature, Signature(signature)})
	}
	m.Body = body
	return m
}

// ExpectsReply reports whether whoever receives the message is to answer it.
func (m *Message) ExpectsReply() bool { return m.Type == Call && m.Flags&NoReply == 0 }

// version is that of the protocol.
const version = 1

// Encode is the message as it is sent.
func (m *Message) Encode() []byte {
	mark := byte('l')
	if m.Order == binary.AppendByteOrder(binary.BigEndian) {
		mark = 'B'
	}
	e := Encoder{Order: m.Order, Bytes: make([]byte, 0, 256+len(m.Body))}
	e.Bytes = append(e.Bytes, mark, m.Type, m.Flags, version)
	e.Uint32(uint32(len(m.Body)))
	e.Uint32(m.Serial)
	e.Array(8, func() {
		for _, f := range m.Fields {
			e.Pad(8)
			e.Bytes = append(e.Bytes, f.Code)
			e.Value(Variant(f.Value))
		}
	})
	e.Pad(8)
	return append(e.Bytes, m.Body...)
}
