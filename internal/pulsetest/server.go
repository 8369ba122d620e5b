// Package pulsetest is an audio server for tests, as far as looking at one goes:
// it speaks PulseAudio's native protocol of version 19 (pulsecore,
// protocol-native.c), shows what it is told to, and announces changes. It is
// written from the protocol and shares no code with who reads it.
package pulsetest

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
)

// Client is one of the server's clients.
type Client struct {
	Index      uint32
	Name       string
	Properties map[string]string
}

// Stream is a sink input or a source output.
type Stream struct {
	Client     uint32
	Media      string
	Corked     bool
	Properties map[string]string
}

// Device is a sink or a source.
type Device struct {
	Name  string
	State uint32
}

// State is all that the server shows.
type State struct {
	Clients        []Client
	Playback       []Stream
	Capture        []Stream
	Sinks, Sources []Device
}

// Server is a running server.
type Server struct {
	listener *net.UnixListener
	running  sync.WaitGroup

	mu          sync.Mutex
	state       State
	asked       int
	conns       map[net.Conn]bool
	subscribers map[net.Conn]bool
}

// Start listens on a socket.
func Start(socket string, state State) (*Server, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("cannot start an audio server: %w", err)
	}
	s := &Server{listener: l, state: state, conns: map[net.Conn]bool{}, subscribers: map[net.Conn]bool{}}
	s.running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			s.mu.Lock()
			s.conns[conn] = true
			s.mu.Unlock()
			s.running.Go(func() { s.serve(conn) })
		}
	})
	return s, nil
}

// Socket is where the server listens.
func (s *Server) Socket() string { return s.listener.Addr().String() }

// Close ends the server; its socket goes with it.
func (s *Server) Close() {
	_ = s.listener.Close()
	s.mu.Lock()
	for conn := range s.conns {
		_ = conn.Close()
	}
	s.mu.Unlock()
	s.running.Wait()
}

// Set changes what the server shows and announces it.
func (s *Server) Set(state State) {
	s.SetQuietly(state)
	s.Announce(1)
}

// SetQuietly changes what the server shows and tells nobody.
func (s *Server) SetQuietly(state State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = state
}

// Announce sends n announcements of a change.
func (s *Server) Announce(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.subscribers {
		for range n {
			send(conn, new(body).u32(66).u32(0xFFFFFFFF).u32(0x12).u32(7).data) // a sink input changed
		}
	}
}

// Asked is how often the clients were listed.
func (s *Server) Asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

func send(conn net.Conn, data []byte) {
	head := make([]byte, 20, 20+len(data))
	binary.BigEndian.PutUint32(head, uint32(len(data)))
	binary.BigEndian.PutUint32(head[4:], 0xFFFFFFFF)
	_, _ = conn.Write(append(head, data...)) // who has gone need not hear it
}

func (s *Server) serve(conn net.Conn) {
	defer func() {
		s.mu.Lock()
		delete(s.conns, conn)
		delete(s.subscribers, conn)
		s.mu.Unlock()
		_ = conn.Close()
	}()
	for {
		var head [20]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return
		}
		request := make([]byte, binary.BigEndian.Uint32(head[:])&0xFFFF)
		if _, err := io.ReadFull(conn, request); err != nil || len(request) < 10 {
			return
		}
		op, tag := binary.BigEndian.Uint32(request[1:]), binary.BigEndian.Uint32(request[6:])
		s.mu.Lock()
		send(conn, s.reply(conn, op, tag))
		s.mu.Unlock()
	}
}

// reply is called under the lock.
func (s *Server) reply(conn net.Conn, op, tag uint32) []byte {
	b := new(body).u32(2).u32(tag)
	switch op {
	case 8:
		b.u32(35)
	case 9:
		b.u32(1)
	case 20:
		b.text("a server for tests").text("1").text("alice").text("desk").raw('a', 3, 2, 0, 0, 0xBB, 0x80)
		b.text("speakers").text("microphone").u32(0xC0FFEE).raw('m', 2, 1, 2)
	case 22:
		b.devices(s.state.Sinks)
	case 24:
		b.devices(s.state.Sources)
	case 28:
		s.asked++
		for _, c := range s.state.Clients {
			b.u32(c.Index).text(c.Name).u32(0).text("driver").properties(c.Properties)
		}
	case 30:
		b.streams(s.state.Playback, true)
	case 32:
		b.streams(s.state.Capture, false)
	case 35:
		s.subscribers[conn] = true
	default:
		return new(body).u32(0).u32(tag).u32(1).data // access denied
	}
	return b.data
}

// body is a message in the making.
type body struct{ data []byte }

func (b *body) raw(v ...byte) *body { b.data = append(b.data, v...); return b }

func (b *body) u32(v uint32) *body {
	b.data = binary.BigEndian.AppendUint32(b.raw('L').data, v)
	return b
}

func (b *body) text(s string) *body { return b.raw('t').raw([]byte(s)...).raw(0) }

func (b *body) bool(v bool) *body {
	if v {
		return b.raw('1')
	}
	return b.raw('0')
}

func (b *body) properties(p map[string]string) *body {
	b.raw('P')
	for key, value := range p {
		b.text(key).u32(uint32(len(value) + 1)).raw('x')
		b.data = binary.BigEndian.AppendUint32(b.data, uint32(len(value)+1))
		b.raw([]byte(value)...).raw(0)
	}
	return b.raw('N')
}

// format is a sample specification and a channel map, of two channels.
func (b *body) format() *body { return b.raw('a', 3, 2, 0, 0, 0xBB, 0x80).raw('m', 2, 1, 2) }

func (b *body) volume() *body { return b.raw('v', 2, 0, 1, 0, 0, 0, 1, 0, 0) }

func (b *body) usec() *body { return b.raw('U', 0, 0, 0, 0, 0, 0, 0, 9) }

func (b *body) streams(list []Stream, playback bool) {
	for i, s := range list {
		b.u32(uint32(i)).text(s.Media).u32(0xFFFFFFFF).u32(s.Client).u32(0).format()
		if playback {
			b.volume()
		}
		b.usec().usec().raw('N').text("driver")
		if playback {
			b.bool(false)
		}
		b.properties(s.Properties).bool(s.Corked)
	}
}

func (b *body) devices(list []Device) {
	for i, d := range list {
		b.u32(uint32(i)).text(d.Name).text("a device").format().u32(0).volume().bool(false)
		b.u32(0).text("monitor").usec().text("driver").u32(0).properties(map[string]string{"device.api": "alsa"}).usec()
		b.raw('V', 0, 1, 0, 0).u32(d.State).u32(65537).u32(0)
		b.u32(1).text("port").text("a port").u32(0).text("port")
	}
}
