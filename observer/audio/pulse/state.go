package pulse

import (
	"fmt"
	"strconv"
	"time"

	"github.com/dubnium/dubnium/observer"
)

// maxItems bounds each list. PipeWire itself gives up long before.
const maxItems = 1024

// State is what the server has at one moment. Its lists are never nil.
type State struct {
	Name    string
	Streams []observer.AudioStream
	JACK    []observer.JACKClient
	Devices []observer.AudioDevice
}

// State asks for everything. It is one moment only as far as the server's
// answers are: what changes meanwhile is announced, and asked again.
func (c *Conn) State() (s State, err error) {
	c.changed = false
	end := time.Now().Add(patience)
	clients := map[uint32]client{}
	s = State{Streams: []observer.AudioStream{}, JACK: []observer.JACKClient{}, Devices: []observer.AudioDevice{}}
	for _, list := range []struct {
		op   uint32
		name string
		item func(*values)
	}{
		{opClients, "clients", func(v *values) { s.client(v, clients) }},
		{opSinks, "sinks", func(v *values) { s.device(v, observer.Playback) }},
		{opSources, "sources", func(v *values) { s.device(v, observer.Capture) }},
		{opSinkInputs, "playback streams", func(v *values) { s.stream(v, observer.Playback, clients) }},
		{opSourceOutputs, "capture streams", func(v *values) { s.stream(v, observer.Capture, clients) }},
	} {
		v, err := c.ask(end, list.op, nil)
		if err != nil {
			return State{}, err
		}
		for n := 0; v.more(); n++ {
			if n == maxItems {
				return State{}, fmt.Errorf("it has more than %d %s", maxItems, list.name)
			}
			list.item(v)
		}
		if v.err != nil {
			return State{}, fmt.Errorf("cannot read its %s: %w", list.name, v.err)
		}
	}
	v, err := c.ask(end, opServerInfo, nil)
	if err != nil {
		return State{}, err
	}
	s.Name = v.text()
	return s, v.err
}

// client is what streams are joined to: those of pw-play and its like say nothing
// of their process themselves.
type client struct {
	name string
	pid  int
}

const (
	propName  = "application.name"
	propPID   = "application.process.id"
	propMedia = "media.name"
	propAPI   = "client.api"
	propTrue  = "pipewire.sec.pid"
)

func (s *State) client(v *values, clients map[uint32]client) {
	index, name := v.u32(), v.text()
	v.u32()  // module
	v.text() // driver
	p := v.properties(propName, propPID, propAPI, propTrue)
	if own := p[propName]; own != "" {
		name = own
	}
	clients[index] = client{name, pid(p[propPID])}
	if p[propAPI] == "jack" {
		s.JACK = append(s.JACK, observer.JACKClient{Application: name, PID: pid(p[propTrue])})
	}
}

// pid reads a process id, 0 for what is none.
func pid(text string) int {
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 0 {
		return 0
	}
	return int(n)
}

// stream reads a sink input or a source output, which are alike up to this
// version.
func (s *State) stream(v *values, direction string, clients map[uint32]client) {
	v.u32() // index
	media := v.text()
	v.u32() // module
	of := clients[v.u32()]
	v.u32() // device
	v.spec()
	v.mapping()
	if direction == observer.Playback {
		v.volume()
	}
	v.usec()
	v.usec()
	v.text() // resampler
	v.text() // driver
	if direction == observer.Playback {
		v.bool() // mute
	}
	p := v.properties(propName, propPID, propMedia)
	stream := observer.AudioStream{Direction: direction, Corked: v.bool(), Application: of.name, Media: media, PID: of.pid}
	if own := p[propName]; own != "" {
		stream.Application = own
	}
	if own := p[propMedia]; own != "" {
		stream.Media = own
	}
	if own := pid(p[propPID]); own != 0 {
		stream.PID = own
	}
	s.Streams = append(s.Streams, stream)
}

// states are pa_sink_state_t and pa_source_state_t.
var states = map[uint32]string{0: "RUNNING", 1: "IDLE", 2: "SUSPENDED"}

func (s *State) device(v *values, direction string) {
	v.u32() // index
	name := v.text()
	v.text() // description
	v.spec()
	v.mapping()
	v.u32() // module
	v.volume()
	v.bool() // mute
	v.u32()  // monitor
	v.text()
	v.usec()
	v.text() // driver
	v.u32()  // flags
	v.properties()
	v.usec()
	v.number('V') // base volume
	state, known := states[v.u32()]
	if !known {
		state = "UNKNOWN"
	}
	v.u32() // volume steps
	v.u32() // card
	v.ports()
	s.Devices = append(s.Devices, observer.AudioDevice{Direction: direction, Name: name, State: state})
}

func (v *values) ports() {
	for n := v.u32(); n > 0 && v.err == nil; n-- {
		v.text()
		v.text()
		v.u32()
	}
	v.text() // the active one
}
