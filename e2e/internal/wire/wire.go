// Package wire is the language that the host and the agent inside the test machine speak over a virtio-serial port.
//
// The link is a byte stream that either side may lose the place in: the guest reboots in the middle of a transfer, or
// is restored from a saved state. Every frame therefore starts with a mark, and a reader that lost its place skips to
// the next one. A frame fits into one write of the guest's driver (32 KiB), which hands it over whole: the host never
// sees half a frame of an agent that was killed.
package wire

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
)

// PortName is what QEMU calls the virtio-serial port and the agent looks for.
const PortName = "dubnium.agent"

const (
	mark       = "\xd1bd\x1f"
	headerSize = len(mark) + 4 + 1 + 4
	// MaxBody keeps a frame within one write of the guest's virtio console driver.
	MaxBody = 32<<10 - headerSize
)

// Kind says what a frame means.
type Kind uint8

const (
	// Hello (guest to host) announces an agent that has just started; body: Greeting.
	Hello Kind = iota + 1
	// Open (host to guest) starts a stream; body: Request.
	Open
	// Input (host to guest) carries bytes for the stream: a file, an archive, a process's standard input.
	Input
	// InputEnd (host to guest) says that no more input follows.
	InputEnd
	// Signal (host to guest) sends the signal in the one-byte body to the stream's process group.
	Signal
	// Resize (host to guest) changes the terminal's size; body: Size.
	Resize
	// Cancel (host to guest) gives the stream up; its processes are killed.
	Cancel
	// Ready (guest to host) says that the process runs or the subscription is in place; body: Started.
	Ready
	// Output (guest to host) carries what the stream produces, a process's standard output among others.
	Output
	// ErrOutput (guest to host) carries a process's standard error.
	ErrOutput
	// Done (guest to host) ends the stream; body: Result.
	Done
	kindEnd
)

// Frame is one message on the link. ID names the stream it belongs to.
type Frame struct {
	Kind Kind
	ID   uint32
	Body []byte
}

// JSON returns a frame whose body is v as JSON.
func JSON(kind Kind, id uint32, v any) (Frame, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return Frame{}, fmt.Errorf("cannot encode a message for the link: %w", err)
	}
	return Frame{Kind: kind, ID: id, Body: body}, nil
}

// Append appends the frame's bytes to buf.
func (f Frame) Append(buf []byte) ([]byte, error) {
	if len(f.Body) > MaxBody {
		return buf, fmt.Errorf("cannot send a frame of %d bytes: at most %d fit", len(f.Body), MaxBody)
	}
	buf = append(buf, mark...)
	buf = binary.BigEndian.AppendUint32(buf, uint32(len(f.Body)))
	buf = append(buf, byte(f.Kind))
	buf = binary.BigEndian.AppendUint32(buf, f.ID)
	return append(buf, f.Body...), nil
}

// Read returns the next frame. Bytes that belong to no frame are skipped.
func Read(r *bufio.Reader) (Frame, error) {
	for {
		header, err := r.Peek(headerSize)
		if err != nil {
			return Frame{}, err
		}
		size := binary.BigEndian.Uint32(header[len(mark):])
		kind := Kind(header[len(mark)+4])
		if string(header[:len(mark)]) != mark || size > uint32(MaxBody) || kind == 0 || kind >= kindEnd {
			if _, err := r.Discard(1); err != nil {
				return Frame{}, err
			}
			continue
		}
		f := Frame{Kind: kind, ID: binary.BigEndian.Uint32(header[len(mark)+5:])}
		if _, err := r.Discard(headerSize); err != nil {
			return Frame{}, err
		}
		f.Body = make([]byte, size)
		if _, err := io.ReadFull(r, f.Body); err != nil {
			return Frame{}, err
		}
		return f, nil
	}
}

// Chunks calls send with the parts of data that fit into a frame each, in order.
func Chunks(data []byte, send func([]byte) error) error {
	for len(data) > 0 {
		n := min(len(data), MaxBody)
		if err := send(data[:n]); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// ProbeWord on the kernel's command line makes the initial RAM disk print ProbeMark and reset the machine.
const (
	ProbeWord = "bedprobe"
	ProbeMark = "bed: this accelerator runs the kernel"
)
