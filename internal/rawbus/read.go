package rawbus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Received is what is told of a message that came: as much as one has to know to
// tell what it answers, and how.
type Received struct {
	Type, Flags byte
	Serial      uint32
	ReplySerial uint32
	Sender      string
	Member      string
	ErrorName   string
	Signature   string
	// Text is the first value of the body when that is a string.
	Text string
	// Size is that of all of it, in bytes.
	Size int
	// Body is the body as it came, in this order.
	Order binary.ByteOrder
	Body  []byte
}

// Answers reports whether it is the answer to a call with this serial.
func (r Received) Answers(serial uint32) bool {
	return (r.Type == Return || r.Type == Error) && r.ReplySerial == serial
}

// maxMessage is the specification's.
const maxMessage = 128 << 20

// read reads a message that the bus has sent, which has checked it.
func read(from io.Reader) (Received, error) {
	var fixed [16]byte
	if _, err := io.ReadFull(from, fixed[:]); err != nil {
		return Received{}, err
	}
	r := Received{Type: fixed[1], Flags: fixed[2], Order: binary.LittleEndian}
	if fixed[0] == 'B' {
		r.Order = binary.BigEndian
	}
	r.Serial = r.Order.Uint32(fixed[8:])
	body, fields := int(r.Order.Uint32(fixed[4:])), int(r.Order.Uint32(fixed[12:]))
	padded := (fields + 7) &^ 7
	if body+padded > maxMessage {
		return Received{}, fmt.Errorf("cannot read a message of %d bytes", body+padded)
	}
	rest := make([]byte, padded+body)
	if _, err := io.ReadFull(from, rest); err != nil {
		return Received{}, err
	}
	r.Size, r.Body = len(fixed)+len(rest), rest[padded:]
	if err := r.header(rest[:fields]); err != nil {
		return Received{}, err
	}
	if len(r.Signature) > 0 && r.Signature[0] == 's' {
		d := decoder{r.Order, r.Body, 0}
		r.Text = d.text()
	}
	return r, nil
}

var errHeader = errors.New("cannot read a message: its header has a field of another type than the specification's")

// header reads the fields, each of which is of the type that the specification
// says: the bus passes no other on.
func (r *Received) header(fields []byte) error {
	d := decoder{r.Order, fields, 0}
	for d.at < len(fields) {
		d.pad(8)
		code, signature := d.byte(), d.signature()
		switch {
		case signature == "u" && code == FieldReplySerial:
			r.ReplySerial = d.uint32()
		case signature == "u":
			d.uint32()
		case signature == "g":
			if text := d.signature(); code == FieldSignature {
				r.Signature = text
			}
		case signature == "s" || signature == "o":
			switch text := d.text(); code {
			case FieldSender:
				r.Sender = text
			case FieldMember:
				r.Member = text
			case FieldErrorName:
				r.ErrorName = text
			}
		default:
			return errHeader
		}
	}
	return nil
}

// decoder reads what the bus has found to be well-formed.
type decoder struct {
	order binary.ByteOrder
	data  []byte
	at    int
}

func (d *decoder) pad(n int) { d.at = (d.at + n - 1) / n * n }

func (d *decoder) byte() byte {
	d.at++
	return d.data[d.at-1]
}

func (d *decoder) uint32() uint32 {
	d.pad(4)
	d.at += 4
	return d.order.Uint32(d.data[d.at-4:])
}

func (d *decoder) text() string { return d.take(int(d.uint32())) }

func (d *decoder) signature() string { return d.take(int(d.byte())) }

// take reads a text and the zero behind it.
func (d *decoder) take(n int) string {
	text := string(d.data[d.at : d.at+n])
	d.at += n + 1
	return text
}
