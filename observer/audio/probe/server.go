package probe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/jfreymuth/pulse/proto"

	"github.com/dubnium/dubnium/observer"
)

const (
	// version is the requested protocol version: the first one that reports whether streams
	// are corked. Later ones add nothing that is read here.
	version = 19
	// patience bounds the greeting, and all requests of one read.
	patience = 3 * time.Second
	// maxItems bounds each list. PipeWire itself fails long before.
	maxItems = 1024
)

// events are the changes that the server signals.
const events = proto.SubscriptionMaskSink | proto.SubscriptionMaskSource | proto.SubscriptionMaskSinkInput |
	proto.SubscriptionMaskSourceInput | proto.SubscriptionMaskClient

var (
	errSilent = errors.New("it did not answer in time")
	errHungUp = errors.New("it closed the connection")
)

// pulse is a connection to a server. The library does not defend against a hostile server, so the
// process must end after any error of pulse (docs/decisions/0007-audio.md).
type pulse struct {
	client  proto.Client
	conn    net.Conn
	changed chan struct{} // the server has signalled a change
	gone    chan struct{} // closed when the server has closed the connection
}

// state is the state of the server at one moment. Its lists are never nil.
type state struct {
	name    string
	streams []observer.AudioStream
	jack    []observer.JACKClient
	devices []observer.AudioDevice
}

// dial connects to a server and subscribes to its changes. pipewire-pulse accepts any cookie.
func dial(socket string, cookie []byte) (*pulse, error) {
	conn, err := net.DialTimeout("unix", socket, patience)
	if err != nil {
		return nil, err
	}
	p := &pulse{conn: conn, changed: make(chan struct{}, 1), gone: make(chan struct{})}
	p.client.Callback = func(message any) {
		if _, ok := message.(*proto.SubscribeEvent); ok {
			select {
			case p.changed <- struct{}{}:
			default:
			}
		}
	}
	p.client.Open(struct {
		io.Reader
		io.Writer
	}{&untilGone{conn: conn, gone: p.gone}, conn})
	p.client.SetVersion(version)
	if err := p.greet(cookie); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// forget drops a signalled change, because a read follows.
func (p *pulse) forget() {
	select {
	case <-p.changed:
	default:
	}
}

func (p *pulse) close() { _ = p.conn.Close() } // nothing is buffered

// untilGone closes gone at the end of the connection, and ends the goroutine that reads. It does not
// return the error to the library, which would append to an incomplete list forever, and reports only
// io.EOF.
type untilGone struct {
	conn net.Conn
	gone chan struct{}
	once sync.Once
}

func (r *untilGone) Read(b []byte) (int, error) {
	n, err := r.conn.Read(b)
	if n == 0 && err != nil {
		r.once.Do(func() { close(r.gone) })
		runtime.Goexit()
	}
	return n, nil
}

func (p *pulse) greet(cookie []byte) error {
	padded := make([]byte, 256) // the protocol has this size and no other
	copy(padded, cookie)
	end := time.Now().Add(patience)
	var auth proto.AuthReply
	if err := p.ask(end, &proto.Auth{Version: version, Cookie: padded}, &auth); err != nil {
		return err
	}
	if theirs := auth.Version.Version(); theirs < version {
		return fmt.Errorf("it has version %d of the protocol, which does not report corked streams", theirs)
	}
	name := proto.PropList{propName: proto.PropListString("dubnium-probe")}
	if err := p.ask(end, &proto.SetClientName{Props: name}, &proto.SetClientNameReply{}); err != nil {
		return err
	}
	return p.ask(end, &proto.Subscribe{Mask: events}, nil)
}

// ask sends a request and waits for its reply until end. The library still writes to a reply that
// arrives later, which is one reason to end the process after an error.
func (p *pulse) ask(end time.Time, request proto.RequestArgs, reply proto.Reply) error {
	p.client.SetTimeout(time.Until(end))
	if err := p.conn.SetWriteDeadline(end); err != nil {
		return err
	}
	answered := make(chan error, 1)
	go func() { answered <- p.client.Request(request, reply) }()
	select {
	case err := <-answered:
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
			err = errSilent
		}
		return err
	case <-p.gone:
		return errHungUp
	}
}

// replies are the replies to all requests of one read.
type replies struct {
	clients proto.GetClientInfoListReply
	sinks   proto.GetSinkInfoListReply
	sources proto.GetSourceInfoListReply
	inputs  proto.GetSinkInputInfoListReply
	outputs proto.GetSourceOutputInfoListReply
	server  proto.GetServerInfoReply
}

// state reads everything. The replies may be of different moments: the server signals a change between
// them, which causes another read.
func (p *pulse) state() (state, error) {
	var r replies
	end := time.Now().Add(patience)
	for _, call := range []struct {
		request proto.RequestArgs
		reply   proto.Reply
	}{
		{&proto.GetClientInfoList{}, &r.clients},
		{&proto.GetSinkInfoList{}, &r.sinks},
		{&proto.GetSourceInfoList{}, &r.sources},
		{&proto.GetSinkInputInfoList{}, &r.inputs},
		{&proto.GetSourceOutputInfoList{}, &r.outputs},
		{&proto.GetServerInfo{}, &r.server},
	} {
		if err := p.ask(end, call.request, call.reply); err != nil {
			return state{}, err
		}
	}
	longest := max(len(r.clients), len(r.sinks), len(r.sources), len(r.inputs), len(r.outputs))
	if longest > maxItems {
		return state{}, fmt.Errorf("a list has %d items, more than %d", longest, maxItems)
	}
	return r.state(), nil
}

func (r replies) state() state {
	s := state{
		name: r.server.PackageName, streams: []observer.AudioStream{}, jack: []observer.JACKClient{},
		devices: []observer.AudioDevice{},
	}
	of := s.addClients(r.clients)
	for _, v := range r.sinks {
		s.addDevice(observer.Playback, v.SinkName, v.State)
	}
	for _, v := range r.sources {
		s.addDevice(observer.Capture, v.SourceName, v.State)
	}
	for _, v := range r.inputs {
		s.addStream(observer.Playback, v.MediaName, v.Corked, of[v.ClientIndex], v.Properties)
	}
	for _, v := range r.outputs {
		s.addStream(observer.Capture, v.MediaName, v.Corked, of[v.ClientIndex], v.Properties)
	}
	return s
}

// owner is the client of a stream. Some streams, as those of pw-play, do not report their process
// themselves.
type owner struct {
	name string
	pid  int
}

const (
	propName  = "application.name"
	propPID   = "application.process.id"
	propMedia = "media.name"
	propAPI   = "client.api"
	propSec   = "pipewire.sec.pid"
)

// property returns a text property, "" if it is missing or not a text.
func property(p proto.PropList, key string) string {
	if v := p[key]; len(v) > 0 && v[len(v)-1] == 0 {
		return v.String()
	}
	return ""
}

// pid parses a process id, 0 if it is invalid.
func pid(text string) int {
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 0 {
		return 0
	}
	return int(n)
}

// addClients adds the JACK clients, and returns all clients by index.
func (s *state) addClients(clients proto.GetClientInfoListReply) map[uint32]owner {
	of := make(map[uint32]owner, len(clients))
	for _, c := range clients {
		name := cmp.Or(property(c.Properties, propName), c.Application)
		of[c.ClientIndex] = owner{name, pid(property(c.Properties, propPID))}
		if property(c.Properties, propAPI) == "jack" {
			s.jack = append(s.jack, observer.JACKClient{Application: name, PID: pid(property(c.Properties, propSec))})
		}
	}
	return of
}

func (s *state) addStream(direction, media string, corked bool, of owner, p proto.PropList) {
	s.streams = append(s.streams, observer.AudioStream{
		Direction: direction, Corked: corked,
		Application: cmp.Or(property(p, propName), of.name),
		Media:       cmp.Or(property(p, propMedia), media),
		PID:         cmp.Or(pid(property(p, propPID)), of.pid),
	})
}

// states are pa_sink_state_t and pa_source_state_t.
var states = map[uint32]string{0: "RUNNING", 1: "IDLE", 2: "SUSPENDED"}

func (s *state) addDevice(direction, name string, number uint32) {
	s.devices = append(
		s.devices, observer.AudioDevice{Direction: direction, Name: name, State: cmp.Or(states[number], "UNKNOWN")},
	)
}

// down reports whether an error of dial means that no server runs.
func down(err error) bool {
	return errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED)
}
