package audio_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/pulsetest"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/observer/audio"
	"github.com/dubnium/dubnium/observer/audio/probe"
	"github.com/dubnium/dubnium/policy"
)

// host starts probes the way systemd would: the socket of a unit that was started
// is there.
type host struct {
	t      *testing.T
	dir    string
	source *audio.Source
	pokes  chan struct{}
	cancel context.CancelFunc
	ended  chan error
	serve  func(net.Conn) // what a probe does with its connection

	mu        sync.Mutex
	did       []string
	listeners map[string]net.Listener
	conns     []net.Conn
	fail      error
}

func newHost(t *testing.T, serve func(net.Conn)) *host {
	t.Helper()
	h := &host{
		t: t, dir: t.TempDir(), pokes: make(chan struct{}, 1), ended: make(chan error, 1), serve: serve,
		listeners: map[string]net.Listener{},
	}
	p := policy.Default()
	p.Paths.Probes = h.dir
	h.source = audio.New(p, h)
	ctx, cancel := context.WithCancel(t.Context())
	h.cancel = cancel
	go func() {
		h.ended <- h.source.Watch(ctx, func() {
			select {
			case h.pokes <- struct{}{}:
			default:
			}
		})
	}()
	t.Cleanup(func() {
		cancel()
		for _, l := range h.listeners {
			l.Close()
		}
	})
	return h
}

func (h *host) Start(_ context.Context, unit string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.did = append(h.did, "start "+unit)
	if h.fail != nil || h.listeners[unit] != nil {
		return h.fail
	}
	var uid uint32
	if _, err := fmt.Sscanf(unit, "dubnium-probe-audio@%d.socket", &uid); err != nil {
		return err
	}
	l, err := net.Listen("unix", filepath.Join(h.dir, audio.Socket(uid)))
	if err != nil {
		return err
	}
	h.listeners[unit] = l
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			h.mu.Lock()
			h.conns = append(h.conns, conn)
			h.mu.Unlock()
			go func() {
				h.serve(conn)
				conn.Close()
			}()
		}
	}()
	return nil
}

func (h *host) Stop(_ context.Context, unit string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.did = append(h.did, "stop "+unit)
	if l := h.listeners[unit]; l != nil {
		l.Close()
		delete(h.listeners, unit)
	}
	return nil
}

func (h *host) hasDone(what string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Contains(h.did, what)
}

// killProbes ends what serves now.
func (h *host) killProbes() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, conn := range h.conns {
		conn.Close()
	}
	h.conns = nil
}

func (h *host) present(uids ...uint32) {
	s := observer.Snapshot{Logind: observer.Logind{Reading: observer.Reading{At: time.Now()}}}
	for _, uid := range uids {
		s.Logind.Sessions = append(
			s.Logind.Sessions, observer.Session{ID: fmt.Sprint(uid), UID: uid, Class: "user", Type: "wayland", Seat: "seat0"},
		)
	}
	h.source.OnSnapshot(s)
}

func (h *host) look() observer.Audio {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 10*time.Second)
	defer cancel()
	var s observer.Snapshot
	h.source.Read(ctx).Into(&s)
	require.True(h.t, s.Audio.Known())
	return s.Audio
}

// until looks after each poke, and only then.
func (h *host) until(right func(observer.Audio) bool) observer.Audio {
	h.t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		select {
		case <-h.pokes:
			if seen := h.look(); right(seen) {
				return seen
			}
		case <-timeout:
			require.FailNow(h.t, "no poke led to the right look", "%+v", h.look())
		}
	}
}

func (h *host) reason(text string) observer.Audio {
	h.t.Helper()
	return h.until(
		func(a observer.Audio) bool { return len(a.Servers) == 1 && strings.Contains(a.Servers[0].Reason, text) },
	)
}

// real serves with the real probe on a server that is there.
func real(t *testing.T, state pulsetest.State) (func(net.Conn), *pulsetest.Server) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "native")
	server, err := pulsetest.Start(socket, state)
	require.NoError(t, err)
	t.Cleanup(server.Close)
	return func(conn net.Conn) {
		_ = probe.Stream(
			t.Context(), probe.Server{Socket: socket}, conn, conn,
			probe.Watchdog{Alive: func() {}, Stuck: func() { panic("stuck") }},
		)
	}, server
}

var music = pulsetest.State{
	Clients:  []pulsetest.Client{{Index: 1, Name: "mpv"}},
	Playback: []pulsetest.Stream{{Client: 1, Media: "song"}},
}

func TestProbeLifetime(t *testing.T) {
	serve, server := real(t, pulsetest.State{})
	h := newHost(t, serve)
	h.present()
	require.Empty(t, h.look().Servers)
	h.present(1000)
	h.until(func(a observer.Audio) bool {
		return len(a.Servers) == 1 && a.Servers[0].Known() && a.Servers[0].Running
	})
	server.Set(music)
	seen := h.until(func(a observer.Audio) bool { return len(a.Servers[0].Streams) == 1 })
	require.Equal(
		t, observer.AudioStream{Direction: "playback", Application: "mpv", Media: "song"}, seen.Servers[0].Streams[0],
	)
	h.killProbes()
	h.until(func(a observer.Audio) bool { return a.Servers[0].Known() && len(a.Servers[0].Streams) == 1 })

	h.present(1000, 1001)
	h.until(func(a observer.Audio) bool { return len(a.Servers) == 2 && a.Servers[1].Known() })
	h.present(1001)
	h.until(func(observer.Audio) bool { return h.hasDone("stop dubnium-probe-audio@1000.service") })
	require.True(t, h.hasDone("stop dubnium-probe-audio@1000.socket"))
	require.Len(t, h.look().Servers, 1)

	h.cancel()
	require.NoError(t, <-h.ended)
	require.False(t, h.hasDone("stop dubnium-probe-audio@1001.socket"), "the next daemon wants it")
	require.False(t, h.look().Servers[0].Known())
}

func TestReadIsFresh(t *testing.T) {
	serve, server := real(t, pulsetest.State{})
	h := newHost(t, serve)
	h.present(1000)
	h.until(func(a observer.Audio) bool { return len(a.Servers) == 1 && a.Servers[0].Known() })
	server.SetQuietly(music)
	var s observer.Snapshot
	h.source.ReadChanged(t.Context()).Into(&s)
	require.Empty(t, s.Audio.Servers[0].Streams, "an incremental read does not request anything")
	require.Len(t, h.look().Servers[0].Streams, 1)
}

func TestInvalidLines(t *testing.T) {
	const silent = `{"answers":0,"running":true,"streams":[],"jack":[],"devices":[]}` + "\n"
	cases := map[string]struct{ says, want string }{
		"nothing":         {"", "has ended"},
		"garbage":         {"\x00{]\n", "sent an invalid line"},
		"an endless line": {strings.Repeat("x", audio.MaxLine+1), "sent more than"},
		"an empty object": {"{}\n", "lacks the streams"},
		"a wrong direction": {
			strings.Replace(silent, `"streams":[]`, `"streams":[{"direction":"up\u001b"}]`, 1), `names a direction "up?"`,
		},
		"a wrong pid": {strings.Replace(silent, `"jack":[]`, `"jack":[{"pid":-4}]`, 1), "pid -4"},
		"a stream without a server": {
			strings.Replace(
				silent, `"running":true,"streams":[]`, `"running":false,"streams":[{"direction":"capture"}]`, 1,
			), "does not run",
		},
		"an error": {
			`{"answers":999,"error":"the audio server cannot be read: \u0007"}` + "\n", "cannot be read: ? (uid 1000)",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, func(conn net.Conn) {
				conn.Write([]byte(c.says))
			})
			h.present(1000)
			require.Nil(t, h.reason(c.want).Servers[0].Streams)
		})
	}
}

func TestHangingProbe(t *testing.T) {
	h := newHost(t, func(conn net.Conn) {
		conn.Write([]byte(`{"running":true,"streams":[],"jack":[],"devices":[]}` + "\n"))
		<-t.Context().Done()
	})
	h.present(1000)
	<-h.pokes
	for seen := false; !seen; {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		var s observer.Snapshot
		h.source.Read(ctx).Into(&s)
		cancel()
		seen = len(s.Audio.Servers) == 1 && strings.Contains(s.Audio.Servers[0].Reason, "did not answer in time")
	}
}

func TestNextPoll(t *testing.T) {
	p := policy.Default()
	source := audio.New(p, nil)
	at := time.Now()
	s := observer.Snapshot{Audio: observer.Audio{Reading: observer.Reading{At: at}}}
	require.Zero(t, source.NextPoll(s))
	s.Logind.Sessions = []observer.Session{{ID: "1", UID: 1000, Class: "user", Type: "wayland", Seat: "seat0"}}
	require.Equal(t, at.Add(10*p.Timeouts.Recheck.D()), source.NextPoll(s))
	s.Audio.Servers = []observer.AudioServer{
		{UID: 1000, Reading: observer.Reading{At: at.Add(-time.Minute)}}, {UID: 1001, Reading: observer.Reading{At: at}},
	}
	require.Equal(
		t, at.Add(-time.Minute).Add(10*p.Timeouts.Recheck.D()), source.NextPoll(s), "whoever was heard longest ago",
	)
}

func TestStartRetry(t *testing.T) {
	serve, _ := real(t, music)
	h := newHost(t, serve)
	h.mu.Lock()
	h.fail = errors.New("Unit is masked.")
	h.mu.Unlock()
	h.present(1000)
	h.reason("cannot be started: Unit is masked.")
	h.mu.Lock()
	h.fail = nil
	h.mu.Unlock()
	h.until(func(a observer.Audio) bool { return len(a.Servers) == 1 && a.Servers[0].Known() })
}

func TestLogindUnknown(t *testing.T) {
	serve, _ := real(t, music)
	h := newHost(t, serve)
	h.present(1000)
	h.until(func(a observer.Audio) bool { return len(a.Servers) == 1 && a.Servers[0].Known() })
	h.source.OnSnapshot(
		observer.Snapshot{Logind: observer.Logind{Reading: observer.Reading{At: time.Now(), Reason: "away"}}},
	)
	require.Len(t, h.look().Servers, 1)
}

// FuzzDecode: no line of a probe crashes the daemon or gets a control character
// past it.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"answers":1,"running":true,"name":"x","streams":[{"direction":"playback","application":"\u0007"}],` +
		`"jack":[],"devices":[]}`))
	f.Add([]byte(`{"error":"\u001b[2J"}`))
	f.Add([]byte(`{"running":false,"streams":[],"jack":[{"pid":1}],"devices":[]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := audio.Decode(data)
		if err != nil {
			return
		}
		texts := []string{d.Name, d.Error}
		for _, s := range d.Streams {
			texts = append(texts, s.Application, s.Media, s.Direction)
		}
		for _, c := range d.JACK {
			texts = append(texts, c.Application)
		}
		for _, v := range d.Devices {
			texts = append(texts, v.Name, v.State, v.Direction)
		}
		for _, s := range texts {
			require.LessOrEqual(t, len(s), 200)
			require.NotContains(t, s, "\x1b")
			require.NotContains(t, s, "\n")
		}
	})
}
