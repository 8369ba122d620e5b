package main

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/pulsetest"
	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/observer/audio"
)

const control = 0xFFFFFFFF // the channel of everything but sound

var be = binary.BigEndian

func u32(v uint32) []byte { return be.AppendUint32([]byte{'L'}, v) }

// head begins a message that claims to have a length.
func head(length uint32) []byte {
	return append(be.AppendUint32(be.AppendUint32(nil, length), control), make([]byte, 12)...)
}

func join(parts ...[]byte) []byte {
	var all []byte
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func message(parts ...[]byte) []byte {
	body := join(parts...)
	return append(head(uint32(len(body))), body...)
}

// greeted answers politely until the clients are asked for, and returns the head
// of the answer to that.
func greeted(conn net.Conn) (answer []byte) {
	for {
		var h [20]byte
		if _, err := io.ReadFull(conn, h[:]); err != nil {
			return nil
		}
		request := make([]byte, be.Uint32(h[:]))
		if _, err := io.ReadFull(conn, request); err != nil {
			return nil
		}
		answer := join(u32(2), u32(be.Uint32(request[6:])))
		switch be.Uint32(request[1:]) {
		case 8, 9: // the protocol's version, and the client's number
			conn.Write(message(answer, u32(35)))
		case 28:
			return answer
		default:
			conn.Write(message(answer))
		}
	}
}

// asked waits for the first request: an answer before it is nobody's.
func asked(conn net.Conn) net.Conn {
	var h [20]byte
	if _, err := io.ReadFull(conn, h[:]); err == nil {
		_, _ = io.CopyN(io.Discard, conn, int64(be.Uint32(h[:]))) // who has gone asks nothing
	}
	return conn
}

func again(conn net.Conn, what []byte) {
	for {
		if _, err := conn.Write(what); err != nil {
			return
		}
	}
}

var client = join(u32(1), []byte("tmpv\x00"), u32(0), []byte("tdriver\x00PN"))

// hostile is what a server can do to its reader. When a case returns, the server
// hangs up; those that keep the connection wait for the reader to.
var hostile = map[string]func(net.Conn){
	"an end at once":             func(net.Conn) {},
	"an end in the head":         func(c net.Conn) { c.Write(head(40)[:7]) },
	"an end in the body":         func(c net.Conn) { c.Write(append(head(40), u32(2)...)) },
	"silence":                    func(c net.Conn) { io.Copy(io.Discard, c) },
	"silence after the greeting": func(c net.Conn) { greeted(c); io.Copy(io.Discard, c) },
	"garbage": func(c net.Conn) {
		c.Write([]byte(strings.Repeat("garbage!", 1000)))
		io.Copy(io.Discard, c)
	},
	"garbage of ones": func(c net.Conn) {
		c.Write([]byte(strings.Repeat("\xff", 4096)))
		io.Copy(io.Discard, c)
	},
	"4 GiB outside": func(c net.Conn) { again(c, append(head(0xFFFFFFFF), join(u32(0xDEAD), u32(0))...)) },
	"4 GiB of sound": func(c net.Conn) {
		c.Write(make([]byte, 8))
		again(
			c, []byte(strings.Repeat("\xfe", 1<<16)),
		)
	},
	"4 GiB inside": func(c net.Conn) {
		asked(c).Write(message(u32(2), u32(0), []byte("x\xff\xff\xff\xff")))
		io.Copy(io.Discard, c)
	},
	"an empty message": func(c net.Conn) { c.Write(head(0)); io.Copy(io.Discard, c) },
	"an empty byte string": func(c net.Conn) {
		c.Write(message(greeted(c), u32(1), []byte("x\x00\x00\x00\x00")))
		io.Copy(io.Discard, c)
	},
	"a text where a number goes": func(c net.Conn) {
		c.Write(message(greeted(c), []byte("ttext\x00")))
		io.Copy(io.Discard, c)
	},
	"a text that is long": func(c net.Conn) {
		c.Write(message(greeted(c), u32(1), []byte("t"+strings.Repeat("x", 5000)+"\x00")))
		io.Copy(io.Discard, c)
	},
	"a list that breaks off":  func(c net.Conn) { c.Write(append(head(1<<20), append(greeted(c), client...)...)) },
	"an item that breaks off": func(c net.Conn) { c.Write(message(greeted(c), client, u32(2))); io.Copy(io.Discard, c) },
	"a list that never ends":  func(c net.Conn) { c.Write(append(head(0xFFFFFFFF), greeted(c)...)); again(c, client) },
	"a list that is long": func(c net.Conn) {
		c.Write(message(greeted(c), []byte(strings.Repeat(string(client), 5000))))
		politely(c)
	},
	"a flood of changes":           func(c net.Conn) { again(c, message(u32(66), u32(control), u32(0x12), u32(7))) },
	"a flood of what nobody knows": func(c net.Conn) { again(c, message(u32(0xDEAD), u32(control))) },
	"a refusal": func(c net.Conn) {
		asked(c).Write(message(u32(0), u32(0), u32(1)))
		io.Copy(io.Discard, c)
	},
	"an old version": func(c net.Conn) {
		asked(c).Write(message(u32(2), u32(0), u32(12)))
		io.Copy(io.Discard, c)
	},
}

// politely answers everything else with nothing.
func politely(conn net.Conn) {
	for greeted(conn) != nil {
	}
}

// hostileServer does the same to everybody who connects.
func hostileServer(t *testing.T, socket string, does func(net.Conn)) (stop func()) {
	t.Helper()
	l, err := net.Listen("unix", socket)
	require.NoError(t, err)
	var mu sync.Mutex
	var conns []net.Conn
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			running.Go(func() {
				does(conn)
				conn.Close()
			})
		}
	})
	stop = sync.OnceFunc(func() {
		l.Close()
		mu.Lock()
		for _, conn := range conns {
			conn.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	t.Cleanup(stop)
	return stop
}

// TestAHostileServerIsUnknownAndAGoodOneIsReadAgain: whatever a server does to its
// probe, the daemon says in time that the audio is unknown, and why; it never says
// that there is none, and it finds the next server.
func TestAHostileServerIsUnknownAndAGoodOneIsReadAgain(t *testing.T) {
	program(t)
	for name, does := range hostile {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, p := workstation(t, testhost.Options{})
			h.Audio().Close()
			stop := hostileServer(t, h.AudioSocket(), does)
			l := listen(t, h, p)
			began := time.Now()
			seen := l.until(func(s observer.AudioServer) bool {
				require.False(t, s.Known(), "%+v", s)
				return !strings.Contains(s.Reason, "has not answered yet")
			})
			took := time.Since(began)
			t.Logf("%s after %s", seen.Reason, took.Round(time.Millisecond))
			require.Contains(t, seen.Reason, "uid 1000")
			require.Less(t, took, 15*time.Second)
			stop()
			good, err := pulsetest.Start(h.AudioSocket(), pulsetest.State{Playback: []pulsetest.Stream{{Media: "song"}}})
			require.NoError(t, err)
			t.Cleanup(good.Close)
			l.until(func(s observer.AudioServer) bool {
				return s.Known() && len(s.Streams) == 1 && s.Streams[0].Media == "song"
			})
			l.leave()
		})
	}
}

// TestAHostileServerCostsNoMoreThanTheBound: the probe holds its own bound, without
// systemd, and ends by itself.
func TestAHostileServerCostsNoMoreThanTheBound(t *testing.T) {
	for _, name := range []string{
		"a list that never ends", "a list that breaks off", "4 GiB inside", "4 GiB outside", "silence",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			socket := filepath.Join(t.TempDir(), "native")
			hostileServer(t, socket, hostile[name])
			cmd := exec.Command(program(t), "audio", "--server", socket)
			asks, theirs, err := os.Pipe()
			require.NoError(t, err)
			defer asks.Close()
			defer theirs.Close()
			cmd.Stdin = asks
			began := time.Now()
			out, err := cmd.Output()
			t.Logf("%v after %s: %s", err, time.Since(began).Round(time.Millisecond), out)
			require.Less(t, time.Since(began), 15*time.Second)
			peak := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
			t.Logf("it took %d MiB at most", peak>>20)
			require.Less(t, peak, int64(memory+(64<<20)), "its data, and what it maps from files")
		})
	}
}

// TestTheAudioProbeServesOneConnection: systemd keeps the socket, and starts a
// fresh process for the next connection.
func TestTheAudioProbeServesOneConnection(t *testing.T) {
	dir := t.TempDir()
	server, err := pulsetest.Start(filepath.Join(dir, "native"), pulsetest.State{})
	require.NoError(t, err)
	defer server.Close()
	address := &net.UnixAddr{Name: filepath.Join(dir, "audio"), Net: "unix"}
	socket, err := net.ListenUnix("unix", address)
	require.NoError(t, err)
	defer socket.Close()
	file, err := socket.File()
	require.NoError(t, err)
	defer file.Close()
	for range 2 {
		// LISTEN_PID has to be the probe's own.
		const script = `LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" audio --server "$1"`
		cmd := exec.Command("sh", "-c", script, program(t), server.Socket())
		cmd.ExtraFiles = []*os.File{file}
		var said strings.Builder
		cmd.Stdout, cmd.Stderr = &said, &said
		require.NoError(t, cmd.Start())
		conn, err := net.DialUnix("unix", nil, address)
		require.NoError(t, err)
		line, err := bufio.NewReader(conn).ReadBytes('\n')
		require.NoError(t, err)
		d, err := audio.Decode(line)
		require.NoError(t, err)
		require.True(t, d.Running)
		require.NoError(t, conn.Close())
		require.NoError(t, cmd.Wait())
		require.Empty(t, said.String())
	}
}
