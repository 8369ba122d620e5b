package probe_test

import (
	"bufio"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/pulsetest"
	"github.com/dubnium/dubnium/observer/audio"
	"github.com/dubnium/dubnium/observer/audio/probe"
)

// daemon is the other end of a probe that streams.
type daemon struct {
	t     *testing.T
	conn  net.Conn
	lines *bufio.Scanner
	ended chan error
}

func connect(t *testing.T, server probe.Server) *daemon {
	t.Helper()
	ours, theirs := net.Pipe()
	d := &daemon{t: t, conn: ours, lines: bufio.NewScanner(ours), ended: make(chan error, 1)}
	d.lines.Buffer(nil, audio.MaxLine)
	go func() {
		d.ended <- probe.Stream(
			t.Context(), server, theirs, theirs, probe.Watchdog{Alive: func() {}, Stuck: func() { panic("stuck") }},
		)
		theirs.Close()
	}()
	t.Cleanup(func() { ours.Close() })
	require.NoError(t, ours.SetReadDeadline(time.Now().Add(20*time.Second)))
	return d
}

func (d *daemon) line() audio.Document {
	d.t.Helper()
	require.True(d.t, d.lines.Scan(), "%v", d.lines.Err())
	doc, err := audio.Decode(d.lines.Bytes())
	require.NoError(d.t, err, d.lines.Text())
	return doc
}

func (d *daemon) ask() {
	d.t.Helper()
	_, err := d.conn.Write([]byte{'\n'})
	require.NoError(d.t, err)
}

func playing(corked bool) pulsetest.State {
	return pulsetest.State{
		Clients:  []pulsetest.Client{{Index: 1, Name: "mpv"}},
		Playback: []pulsetest.Stream{{Client: 1, Media: "song", Corked: corked}},
	}
}

func serve(t *testing.T, socket string, s pulsetest.State) *pulsetest.Server {
	t.Helper()
	server, err := pulsetest.Start(socket, s)
	require.NoError(t, err)
	t.Cleanup(server.Close)
	return server
}

func TestLinePerChange(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "native")
	server := serve(t, socket, pulsetest.State{})
	d := connect(t, probe.Server{Socket: socket})
	first := d.line()
	require.True(t, first.Running)
	require.Empty(t, first.Streams)

	server.Set(playing(true))
	require.True(t, d.line().Streams[0].Corked)
	server.Set(playing(false))
	require.False(t, d.line().Streams[0].Corked)

	require.NoError(t, d.conn.Close())
	require.NoError(t, <-d.ended, "the daemon has gone")
}

// A person who leaves takes the server along, and the daemon stops to listen: the probe
// may be telling of the first as the second happens.
func TestDaemonCloses(t *testing.T) {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	lines := os.NewFile(uintptr(pair[0]), "lines")
	defer lines.Close()
	require.NoError(t, syscall.Close(pair[1]))
	asks, open := io.Pipe()
	defer open.Close()
	nobody := probe.Server{Socket: filepath.Join(t.TempDir(), "native")}
	require.NoError(
		t, probe.Stream(t.Context(), nobody, asks, lines, probe.Watchdog{Alive: func() {}, Stuck: func() { panic("stuck") }}),
	)

	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	require.NoError(t, err)
	defer full.Close()
	require.ErrorIs(
		t, probe.Stream(t.Context(), nobody, asks, full, probe.Watchdog{Alive: func() {}, Stuck: func() { panic("stuck") }}),
		syscall.ENOSPC,
	)
}

func TestServerCloses(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "native")
	server := serve(t, socket, pulsetest.State{})
	d := connect(t, probe.Server{Socket: socket})
	require.True(t, d.line().Running)
	server.Close()
	require.Equal(t, "the audio server cannot be read: it closed the connection", d.line().Error)
	require.NoError(t, <-d.ended)

	d = connect(t, probe.Server{Socket: socket})
	got := d.line()
	require.False(t, got.Running, "that nobody listens is known")
	require.Empty(t, got.Error)
	serve(t, socket, playing(false))
	require.Len(t, d.line().Streams, 1, "and the next server is found")
}

func TestServerSilent(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "native")
	l, err := net.Listen("unix", socket)
	require.NoError(t, err)
	defer l.Close()
	d := connect(t, probe.Server{Socket: socket})
	require.Equal(t, "the audio server cannot be read: it did not answer in time", d.line().Error)
	require.NoError(t, <-d.ended)
}

// A new stream shows as corked, and nobody says when it no longer is.
// The daemon asks at once, and that is too early.
func TestSecondRead(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "native")
	server := serve(t, socket, pulsetest.State{})
	d := connect(t, probe.Server{Socket: socket})
	d.line()
	server.Set(playing(true))
	require.True(t, d.line().Streams[0].Corked)
	d.ask()
	require.True(t, d.line().Streams[0].Corked)
	server.SetQuietly(playing(false))
	require.False(t, d.line().Streams[0].Corked)
}

func TestRequestedRead(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "native")
	server := serve(t, socket, pulsetest.State{})
	d := connect(t, probe.Server{Socket: socket})
	require.Zero(t, d.line().Answers)
	d.ask()
	require.Equal(t, uint64(1), d.line().Answers, "although nothing is new")
	server.SetQuietly(playing(false))
	d.ask()
	got := d.line()
	require.Equal(t, uint64(2), got.Answers)
	require.Len(t, got.Streams, 1)
}

func TestChangeStorm(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "native")
	server := serve(t, socket, pulsetest.State{})
	d := connect(t, probe.Server{Socket: socket})
	d.line()
	started := time.Now()
	server.Announce(5000)
	server.Set(playing(false))
	require.Len(t, d.line().Streams, 1)
	// One in 50 ms at most, and the first.
	require.LessOrEqual(t, server.Asked(), 3+int(time.Since(started)/(50*time.Millisecond)))
}

func TestClientNamesBounded(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "native")
	serve(
		t, socket,
		pulsetest.State{
			Clients:  []pulsetest.Client{{Index: 1, Name: strings.Repeat("\x1b[", 500)}},
			Playback: []pulsetest.Stream{{Client: 1}},
		},
	)
	d := connect(t, probe.Server{Socket: socket})
	name := d.line().Streams[0].Application
	require.LessOrEqual(t, len(name), audio.MaxText)
	require.NotContains(t, name, "\x1b")
}

func TestCookiePipe(t *testing.T) {
	dir := t.TempDir()
	cookie := filepath.Join(dir, "cookie")
	require.NoError(t, syscall.Mkfifo(cookie, 0o600))
	serve(t, filepath.Join(dir, "native"), pulsetest.State{})
	require.True(t, connect(t, probe.Server{Socket: filepath.Join(dir, "native"), Cookie: cookie}).line().Running)
	require.NoError(t, os.Remove(cookie))
}
