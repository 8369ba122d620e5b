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
	// version is the protocol that is asked for: the first in which streams say
	// whether they are corked. Later ones only add what nobody here reads.
	version = 19
	// patience is how long the server may take for all that is asked at once.
	patience = 3 * time.Second
	// maxItems bounds each list. PipeWire itself gives up long before.
	maxItems = 1024
)

// events is what to hear of.
const events = proto.SubscriptionMaskSink | proto.SubscriptionMaskSource | proto.SubscriptionMaskSinkInput |
	proto.SubscriptionMaskSourceInput | proto.SubscriptionMaskClient

var (
	errSilent = errors.New("it did not answer in time")
	errHungUp = errors.New("it hung up")
)

// pulse is a connection to a server. What the library does with a hostile one is
// for the process to bear (docs/decisions/0007-audio.md): after any error of pulse
// the process has to end.
type pulse struct {
	client  proto.Client
	conn    net.Conn
	changed chan struct{} // the server has announced a change
	gone    chan struct{} // closed when the server says no more
}

// state is what the server has at one moment. Its lists are never nil.
type state struct {
	name    string
	streams []observer.AudioStream
	jack    []observer.JACKClient
	devices []observer.AudioDevice
}

// dial connects to a server and subscribes to its changes. The cookie is the
// user's; pipewire-pulse takes any.
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

// forget drops a change that was announced: what comes next is a look.
func (p *pulse) forget() {
	select {
	case <-p.changed:
	default:
	}
}

func (p *pulse) close() { _ = p.conn.Close() } // nothing was left unsaid

// untilGone ends the goroutine that reads, rather than to tell the library that
// there is no more: it would append to a list that broke off for ever, and it
// passes on no end but an orderly one.
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
		return fmt.Errorf("it speaks version %d of the protocol, which has no corked streams yet", theirs)
	}
	name := proto.PropList{propName: proto.PropListString("dubnium-probe")}
	if err := p.ask(end, &proto.SetClientName{Props: name}, &proto.SetClientNameReply{}); err != nil {
		return err
	}
	return p.ask(end, &proto.Subscribe{Mask: events}, nil)
}

// ask sends a request and waits for its reply. A reply that comes too late is
// still written to by the library, which is one reason to end after an error.
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

// state asks for everything. It is one moment only as far as the server's answers
// are: what changes meanwhile is announced, and asked again.
func (p *pulse) state() (state, error) {
	var (
		clients proto.GetClientInfoListReply
		sinks   proto.GetSinkInfoListReply
		sources proto.GetSourceInfoListReply
		inputs  proto.GetSinkInputInfoListReply
		outputs proto.GetSourceOutputInfoListReply
		server  proto.GetServerInfoReply
	)
	end := time.Now().Add(patience)
	for _, question := range []struct {
		request proto.RequestArgs
		reply   proto.Reply
	}{
		{&proto.GetClientInfoList{}, &clients},
		{&proto.GetSinkInfoList{}, &sinks},
		{&proto.GetSourceInfoList{}, &sources},
		{&proto.GetSinkInputInfoList{}, &inputs},
		{&proto.GetSourceOutputInfoList{}, &outputs},
		{&proto.GetServerInfo{}, &server},
	} {
		if err := p.ask(end, question.request, question.reply); err != nil {
			return state{}, err
		}
	}
	if longest := max(len(clients), len(sinks), len(sources), len(inputs), len(outputs)); longest > maxItems {
		return state{}, fmt.Errorf("it lists %d things of a kind, and more than %d are too many", longest, maxItems)
	}
	s := state{
		name: server.PackageName, streams: []observer.AudioStream{}, jack: []observer.JACKClient{}, devices: []observer.AudioDevice{},
	}
	of := s.takeClients(clients)
	for _, v := range sinks {
		s.device(observer.Playback, v.SinkName, v.State)
	}
	for _, v := range sources {
		s.device(observer.Capture, v.SourceName, v.State)
	}
	for _, v := range inputs {
		s.stream(observer.Playback, v.MediaName, v.Corked, of[v.ClientIndex], v.Properties)
	}
	for _, v := range outputs {
		s.stream(observer.Capture, v.MediaName, v.Corked, of[v.ClientIndex], v.Properties)
	}
	return s, nil
}

// owner is what streams are joined to: those of pw-play and its like say nothing
// of their process themselves.
type owner struct {
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

// property is "" for one that is missing or no text.
func property(p proto.PropList, key string) string {
	if v := p[key]; len(v) > 0 && v[len(v)-1] == 0 {
		return v.String()
	}
	return ""
}

// pid reads a process id, 0 for what is none.
func pid(text string) int {
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 0 {
		return 0
	}
	return int(n)
}

func (s *state) takeClients(clients proto.GetClientInfoListReply) map[uint32]owner {
	of := make(map[uint32]owner, len(clients))
	for _, c := range clients {
		name := cmp.Or(property(c.Properties, propName), c.Application)
		of[c.ClientIndex] = owner{name, pid(property(c.Properties, propPID))}
		if property(c.Properties, propAPI) == "jack" {
			s.jack = append(s.jack, observer.JACKClient{Application: name, PID: pid(property(c.Properties, propTrue))})
		}
	}
	return of
}

func (s *state) stream(direction, media string, corked bool, of owner, p proto.PropList) {
	s.streams = append(s.streams, observer.AudioStream{
		Direction: direction, Corked: corked,
		Application: cmp.Or(property(p, propName), of.name),
		Media:       cmp.Or(property(p, propMedia), media),
		PID:         cmp.Or(pid(property(p, propPID)), of.pid),
	})
}

// states are pa_sink_state_t and pa_source_state_t.
var states = map[uint32]string{0: "RUNNING", 1: "IDLE", 2: "SUSPENDED"}

func (s *state) device(direction, name string, number uint32) {
	s.devices = append(
		s.devices, observer.AudioDevice{Direction: direction, Name: name, State: cmp.Or(states[number], "UNKNOWN")},
	)
}

// down reports whether err of dial says that no server is there: nothing has gone
// wrong, nobody listens.
func down(err error) bool {
	return errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED)
}
