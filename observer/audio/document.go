package audio

import (
	"errors"
	"fmt"

	"github.com/dubnium/dubnium/internal/probeclient"
	"github.com/dubnium/dubnium/observer"
)

// Document is one line of the audio probe: the complete state of the server of a user.
type Document struct {
	// Answers is the number of requests that the probe had received on this connection when
	// it read the server.
	Answers uint64                 `json:"answers"`
	Running bool                   `json:"running"`
	Name    string                 `json:"name"`
	Streams []observer.AudioStream `json:"streams"`
	JACK    []observer.JACKClient  `json:"jack"`
	Devices []observer.AudioDevice `json:"devices"`
	// Error is why the server cannot be read. It is empty if no server runs.
	Error string `json:"error,omitempty"`
}

// Limits of a valid document.
const (
	MaxLine   = 2 << 20 // bytes
	MaxText   = 128     // bytes of a name
	maxItems  = 2048    // in a list
	maxReason = 200
)

// Decode parses a line and validates it. The strings of the result are printable and within their
// limits.
func Decode(line []byte) (Document, error) {
	var d Document
	if err := probeclient.Decode(line, &d); err != nil {
		return Document{}, err
	}
	if d.Error != "" {
		return Document{Answers: d.Answers, Error: probeclient.Clean(d.Error, maxReason)}, nil
	}
	switch {
	case d.Streams == nil || d.JACK == nil || d.Devices == nil:
		return Document{}, errors.New("it lacks the streams, the JACK clients or the devices")
	case len(d.Streams) > maxItems || len(d.JACK) > maxItems || len(d.Devices) > maxItems:
		return Document{}, errors.New("it exceeds the limits of a list")
	case !d.Running && len(d.Streams)+len(d.JACK)+len(d.Devices) > 0:
		return Document{}, errors.New("it lists items of a server that does not run")
	}
	return d, d.check()
}

// check rejects what the probe cannot have written, and cleans the strings.
func (d *Document) check() error {
	d.Name = probeclient.Clean(d.Name, MaxText)
	for i := range d.Streams {
		s := &d.Streams[i]
		if err := direction(s.Direction); err != nil || s.PID < 0 {
			return errors.Join(errors.New("it lists an invalid stream"), err)
		}
		s.Application, s.Media = probeclient.Clean(s.Application, MaxText), probeclient.Clean(s.Media, MaxText)
	}
	for i := range d.JACK {
		if d.JACK[i].PID < 0 {
			return fmt.Errorf("it lists a JACK client with pid %d", d.JACK[i].PID)
		}
		d.JACK[i].Application = probeclient.Clean(d.JACK[i].Application, MaxText)
	}
	for i := range d.Devices {
		v := &d.Devices[i]
		if err := direction(v.Direction); err != nil {
			return err
		}
		v.Name, v.State = probeclient.Clean(v.Name, MaxText), probeclient.Clean(v.State, MaxText)
	}
	return nil
}

func direction(word string) error {
	if word != observer.Playback && word != observer.Capture {
		return fmt.Errorf("it names a direction %q", probeclient.Clean(word, maxReason))
	}
	return nil
}
