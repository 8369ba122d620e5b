package pulse

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The protocol's constants (pulsecore/native-common.h, tagstruct.h).
const (
	control = 0xFFFFFFFF // the channel of commands; others carry sound
	header  = 20         // length, channel, offset in two halves, flags

	opError         = 0
	opReply         = 2
	opAuth          = 8
	opSetClientName = 9
	opServerInfo    = 20
	opSinks         = 22
	opSources       = 24
	opClients       = 28
	opSinkInputs    = 30
	opSourceOutputs = 32
	opSubscribe     = 35
	opEvent         = 66
)

// maxFrame bounds one message: the list of all clients of a busy desktop is a
// tenth of it.
const maxFrame = 4 << 20

// frame reads one message. What a server claims of its length costs nothing
// until it has sent that much.
func frame(from io.Reader) (channel uint32, body []byte, err error) {
	var head [header]byte
	if _, err := io.ReadFull(from, head[:]); err != nil {
		return 0, nil, err
	}
	length := binary.BigEndian.Uint32(head[:])
	if length > maxFrame {
		return 0, nil, fmt.Errorf("it announced a message of %d bytes", length)
	}
	body, err = io.ReadAll(io.LimitReader(from, int64(length)))
	if err == nil && len(body) < int(length) {
		err = io.ErrUnexpectedEOF
	}
	return binary.BigEndian.Uint32(head[4:]), body, err
}

// message is a command to be sent, in the making.
type message struct{ data []byte }

func command(op, tag uint32) *message {
	m := &message{make([]byte, header, header+300)}
	return m.u32(op).u32(tag)
}

func (m *message) u32(v uint32) *message {
	m.data = binary.BigEndian.AppendUint32(append(m.data, 'L'), v)
	return m
}

func (m *message) bytes(v []byte) *message {
	m.data = binary.BigEndian.AppendUint32(append(m.data, 'x'), uint32(len(v)))
	m.data = append(m.data, v...)
	return m
}

// name is a property list with nothing but the application's name.
func (m *message) name(name string) *message {
	value := append([]byte(name), 0)
	m.data = append(append(append(m.data, 'P', 't'), "application.name"...), 0)
	m.u32(uint32(len(value))).bytes(value)
	m.data = append(m.data, 'N')
	return m
}

// wire is the message with its header.
func (m *message) wire() []byte {
	binary.BigEndian.PutUint32(m.data, uint32(len(m.data)-header))
	binary.BigEndian.PutUint32(m.data[4:], control)
	return m.data
}

var errGarbage = errors.New("it does not speak the protocol")

// values reads the tagged values of a message. The first one that is not what
// was asked for makes all that follow zero, and is the error.
type values struct {
	rest []byte
	err  error
}

func (v *values) more() bool { return v.err == nil && len(v.rest) > 0 }

func (v *values) fail() {
	v.rest = nil
	if v.err == nil {
		v.err = errGarbage
	}
}

// take returns the next n bytes.
func (v *values) take(n int) []byte {
	if n < 0 || n > len(v.rest) {
		v.fail()
		return []byte{0}
	}
	b := v.rest[:n]
	v.rest = v.rest[n:]
	return b
}

// tag takes the next value's type, which has to be one of these.
func (v *values) tag(of ...byte) byte {
	b := v.take(1)[0]
	for _, t := range of {
		if b == t {
			return b
		}
	}
	v.fail()
	return 0
}

func (v *values) u32() uint32 { return v.number('L') }

func (v *values) number(tag byte) uint32 {
	v.tag(tag)
	b := v.take(4)
	if v.err != nil {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}

func (v *values) bool() bool { return v.tag('0', '1') == '1' }

func (v *values) usec() {
	v.tag('U')
	v.take(8)
}

// text is a string, which may be none.
func (v *values) text() string {
	if v.tag('t', 'N') != 't' {
		return ""
	}
	return v.untilNUL()
}

func (v *values) untilNUL() string {
	for i, b := range v.rest {
		if b == 0 {
			return string(v.take(i + 1)[:i])
		}
	}
	v.fail()
	return ""
}

// spec skips a sample format, channel map and volume.
func (v *values) spec()    { v.tag('a'); v.take(6) }
func (v *values) mapping() { v.tag('m'); v.take(int(v.take(1)[0])) }
func (v *values) volume()  { v.tag('v'); v.take(4 * int(v.take(1)[0])) }

// properties reads a property list and keeps the ones of these names.
func (v *values) properties(wanted ...string) map[string]string {
	kept := map[string]string{}
	v.tag('P')
	for v.err == nil && v.tag('t', 'N') == 't' {
		key := v.untilNUL()
		size := v.u32()
		if again := v.number('x'); again != size || size > maxFrame {
			v.fail()
			return nil
		}
		value := v.take(int(size))
		for _, w := range wanted {
			if key == w {
				kept[key] = string(trimNUL(value))
			}
		}
	}
	return kept
}

func trimNUL(b []byte) []byte {
	if n := len(b); n > 0 && b[n-1] == 0 {
		return b[:n-1]
	}
	return b
}
