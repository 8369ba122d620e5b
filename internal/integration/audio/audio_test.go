//go:build integration

// Package audio tries the audio probe on the real thing: PipeWire, WirePlumber
// and pipewire-pulse on a bus and in directories of their own.
package audio

import (
	"bufio"
	"context"
	"encoding/binary"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/observer/audio"
	"github.com/dubnium/dubnium/observer/audio/probe"
)

// desk is a user's audio stack with the probe on it.
type desk struct {
	t               *testing.T
	ctx             context.Context
	env             []string
	dir             string
	pulse, pipewire *program

	lines *bufio.Scanner
	conn  net.Conn
	last  audio.Document
}

// program is one that runs until it is killed.
type program struct {
	cmd  *exec.Cmd
	done chan struct{}
	said strings.Builder // once done
}

func (p *program) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.done
}

func (d *desk) start(args ...string) *program {
	d.t.Helper()
	p := &program{cmd: exec.Command(args[0], args[1:]...), done: make(chan struct{})}
	p.cmd.Env = d.env
	p.cmd.Stdout, p.cmd.Stderr = &p.said, &p.said
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(d.t, p.cmd.Start())
	go func() {
		_ = p.cmd.Wait() // killed
		close(p.done)
	}()
	d.t.Cleanup(func() {
		p.kill()
		if d.t.Failed() {
			d.t.Logf("%s said:\n%s", args[0], p.said.String())
		}
	})
	return p
}

// until reads what the probe says until it is right. A probe that has ended is
// followed by the next, as the daemon has it.
func (d *desk) until(what string, right func(audio.Document) bool) {
	d.t.Helper()
	for !right(d.last) {
		for !d.lines.Scan() {
			require.NoError(d.t, d.lines.Err(), "waited for %s; last: %+v", what, d.last)
			d.look()
		}
		var err error
		d.last, err = audio.Decode(d.lines.Bytes())
		require.NoError(d.t, err)
	}
}

func (d *desk) socket() string { return filepath.Join(d.dir, "run/pulse/native") }

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{t: t, ctx: t.Context(), dir: t.TempDir()}
	for _, sub := range []string{"run", "home"} {
		require.NoError(t, os.Mkdir(filepath.Join(d.dir, sub), 0o700))
	}
	run := filepath.Join(d.dir, "run")
	bus := "unix:path=" + filepath.Join(run, "bus")
	d.env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Join(d.dir, "home"), "XDG_RUNTIME_DIR=" + run,
		"DBUS_SESSION_BUS_ADDRESS=" + bus, "DBUS_SYSTEM_BUS_ADDRESS=" + bus,
	}
	daemon := d.start("dbus-daemon", "--session", "--nofork", "--nopidfile", "--address="+bus)
	d.appears(filepath.Join(run, "bus"), daemon)
	d.pipewire = d.start("pipewire")
	d.appears(filepath.Join(run, "pipewire-0"), d.pipewire)
	d.start("wireplumber")
	d.startPulse()
	d.look()
	d.until("the server", func(d audio.Document) bool { return d.Running })
	d.load()
	d.until("a sink", func(d audio.Document) bool { return len(d.Devices) > 0 })
	return d
}

// look starts a probe.
func (d *desk) look() {
	d.t.Helper()
	ours, theirs := net.Pipe()
	ended := make(chan struct{})
	stuck := func() { panic("stuck") }
	go func() {
		defer close(ended)
		defer theirs.Close()
		_ = probe.Stream(context.Background(), probe.Server{Socket: d.socket()}, theirs, theirs, // the pipe is closed
			probe.Watchdog{Alive: func() {}, Stuck: stuck})
	}()
	d.t.Cleanup(func() {
		ours.Close()
		<-ended
	})
	require.NoError(d.t, ours.SetReadDeadline(time.Now().Add(time.Minute)))
	d.conn, d.lines = ours, bufio.NewScanner(ours)
	d.lines.Buffer(nil, audio.MaxLine)
}

func (d *desk) startPulse() {
	d.t.Helper()
	d.pulse = d.start("pipewire-pulse")
	d.appears(d.socket(), d.pulse)
}

// appears waits until a program listens on a socket.
func (d *desk) appears(socket string, by *program) {
	d.t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			conn.Close()
			return
		}
		select {
		case <-by.done:
			require.FailNow(d.t, "it ended", "%s: %s", by.cmd.Path, by.said.String())
		case <-time.After(20 * time.Millisecond): // nothing tells when a socket listens
		}
	}
	require.FailNow(d.t, "nothing listens", socket)
}

// load makes a sink that needs no hardware. The session manager may not be ready
// for it yet, so there is no more to it than that the command succeeds.
func (d *desk) load() {
	d.t.Helper()
	cmd := exec.CommandContext(d.ctx, "pactl", "load-module", "module-null-sink", "sink_name=desk")
	cmd.Env = d.env
	out, err := cmd.CombinedOutput()
	require.NoError(d.t, err, string(out))
}

// silence is some minutes of it: s16le, two channels, 48 kHz, as a WAV file.
func (d *desk) silence() string {
	d.t.Helper()
	const size = 64 << 20
	le := binary.LittleEndian
	wav := le.AppendUint32([]byte("RIFF"), 36+size)
	wav = le.AppendUint32(append(wav, "WAVEfmt "...), 16)
	wav = le.AppendUint16(le.AppendUint16(wav, 1), 2)
	wav = le.AppendUint32(le.AppendUint32(wav, 48000), 4*48000)
	wav = le.AppendUint16(le.AppendUint16(wav, 4), 16)
	wav = le.AppendUint32(append(wav, "data"...), size)
	file := filepath.Join(d.dir, "silence.wav")
	require.NoError(d.t, os.WriteFile(file, append(wav, make([]byte, size)...), 0o600))
	return file
}

func plays(name string, corked bool) func(audio.Document) bool {
	return func(d audio.Document) bool {
		for _, s := range d.Streams {
			if s.Application == name && s.Corked == corked && s.Direction == "playback" {
				return true
			}
		}
		return false
	}
}

func nothing(d audio.Document) bool { return d.Running && len(d.Streams)+len(d.JACK) == 0 }

func jack(name string) func(audio.Document) bool {
	return func(d audio.Document) bool {
		for _, c := range d.JACK {
			if c.Application == name && c.PID > 0 {
				return true
			}
		}
		return false
	}
}

func device(state string) func(audio.Document) bool {
	return func(d audio.Document) bool {
		for _, v := range d.Devices {
			if v.Name == "desk" && v.State == state {
				return true
			}
		}
		return false
	}
}

func TestEachKindOfClientAppearsAsWhatItIsAndGoesWhenItGoes(t *testing.T) {
	d := newDesk(t)
	silence := d.silence()
	native := []string{"pw-cat", "-p"}
	for _, c := range []struct {
		args []string
		seen func(audio.Document) bool
	}{
		{append(slices.Clone(native), silence), plays("pw-cat", false)},
		{[]string{"paplay", silence}, plays("paplay", false)},
		{append(slices.Clone(native), "--target", "0", silence), plays("pw-cat", true)}, // linked to nothing
		{[]string{"pw-jack", "jack_simple_client"}, jack("jack_simple_client")},
		{[]string{"pw-jack", "jack_metro", "-b", "120"}, jack("jack_metro")},
	} {
		p := d.start(c.args...)
		d.until(strings.Join(c.args, " "), c.seen)
		p.kill()
		d.until("it to go", nothing)
	}
}

func TestASinkRunsWhileSomethingPlays(t *testing.T) {
	d := newDesk(t)
	d.until("a sink at rest", func(doc audio.Document) bool { return device("SUSPENDED")(doc) || device("IDLE")(doc) })
	silence := d.silence()
	d.start("paplay", "--device=desk", silence)
	d.until("a running sink", device("RUNNING"))
}

func TestAServerThatIsKilledIsGoneAndTheNextOneIsFound(t *testing.T) {
	d := newDesk(t)
	d.pulse.kill()
	d.until("its end", func(d audio.Document) bool { return !d.Running && d.Error == "" })
	require.NoError(t, os.RemoveAll(filepath.Dir(d.socket())))
	d.startPulse()
	d.until("the next one", func(d audio.Document) bool { return d.Running })
}

func TestAServerThatHangsIsUnknownWhenAsked(t *testing.T) {
	d := newDesk(t)
	require.NoError(t, d.pulse.cmd.Process.Signal(syscall.SIGSTOP))
	_, err := d.conn.Write([]byte{'\n'})
	require.NoError(t, err)
	d.until("the doubt", func(d audio.Document) bool { return strings.Contains(d.Error, "did not answer in time") })
	require.NoError(t, d.pulse.cmd.Process.Signal(syscall.SIGCONT))
	d.until("its return", func(d audio.Document) bool { return d.Running })
}
