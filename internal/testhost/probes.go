package testhost

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"

	"github.com/dubnium/dubnium/internal/pulsetest"
)

// ProbeFault is what a probe's socket does instead of starting the probe.
type ProbeFault string

// The faults. A socket that refuses is a file that nobody listens on.
const (
	ProbeWorks   ProbeFault = ""
	ProbeRefuses ProbeFault = "refuse"
	ProbeHangs   ProbeFault = "hang"    // takes the connection and says nothing
	ProbeGarbage ProbeFault = "garbage" // what is not the document that was asked for
	ProbeEOF     ProbeFault = "eof"     // hangs up in the middle of the document
)

// audioProbe is the socket of alice's.
const audioProbe = "audio-1000"

// ProbeNames are the sockets of the probes that every machine has. The audio
// probe's is there whether its unit was started or not.
func ProbeNames() []string { return []string{"holders", "inference", audioProbe} }

// probe stands in for a socket unit with Accept=yes: each connection becomes
// standard input and output of a fresh process (systemd.exec(5),
// StandardInput=socket).
type probe struct {
	path string
	args []string

	mu       sync.Mutex
	fault    ProbeFault
	listener *net.UnixListener
	children map[*child]bool
	held     []net.Conn
	closed   bool
	wg       sync.WaitGroup
}

func newProbe(path string, args []string) (*probe, error) {
	p := &probe{path: path, args: args, children: map[*child]bool{}}
	return p, p.listen()
}

func (p *probe) listen() error {
	if err := os.Remove(p.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot replace the probe's socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: p.path, Net: "unix"})
	if err != nil {
		return fmt.Errorf("cannot listen for the probe: %w", err)
	}
	l.SetUnlinkOnClose(false)
	p.listener = l
	p.wg.Go(func() {
		for {
			conn, err := l.AcceptUnix()
			if err != nil {
				return // closed
			}
			p.serve(conn)
		}
	})
	return nil
}

func (p *probe) serve(conn *net.UnixConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = conn.Close()
		return
	}
	switch p.fault {
	case ProbeHangs:
		p.held = append(p.held, conn)
		return
	case ProbeGarbage:
		p.say(conn, "\x00\xff{]}\n")
		return
	case ProbeEOF:
		p.say(conn, `{"version":1,"hol`)
		return
	default:
		p.start(conn)
	}
	_ = conn.Close() // a started probe has its own copy
}

// say answers and ends the answer. The connection itself stays, for closing one
// with an unread request in it would be a reset, not an end of file.
func (p *probe) say(conn *net.UnixConn, text string) {
	_, _ = conn.Write([]byte(text)) // who has gone need not hear it
	_ = conn.CloseWrite()
	p.held = append(p.held, conn)
}

// start runs the probe on the connection. One that does not start looks to the
// client like one that died.
func (p *probe) start(conn *net.UnixConn) {
	if len(p.args) == 0 {
		return
	}
	file, err := conn.File()
	if err != nil {
		return
	}
	defer file.Close()
	cmd := exec.Command(p.args[0], p.args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = file, file, os.Stderr
	c, err := startChild(cmd)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testhost:", err)
		return
	}
	p.children[c] = true
	p.wg.Go(func() {
		<-c.done
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.children, c)
	})
}

func (p *probe) setFault(f ProbeFault) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.fault
	p.fault = f
	switch {
	case f == ProbeRefuses && was != ProbeRefuses:
		return p.listener.Close()
	case was == ProbeRefuses && f != ProbeRefuses:
		return p.listen()
	}
	return nil
}

func (p *probe) close() {
	p.mu.Lock()
	p.closed = true
	_ = p.listener.Close() // it may refuse already
	for _, conn := range p.held {
		_ = conn.Close()
	}
	var running []*child
	for c := range p.children {
		running = append(running, c)
	}
	p.mu.Unlock()
	for _, c := range running {
		c.stop()
	}
	p.wg.Wait()
}

// startProbes makes the sockets. The command gets the probe's name, and where
// it may look; a machine without a command has sockets that hang up.
func (h *Host) startProbes() error {
	dir := h.opts.ProbeDir
	if dir == "" {
		dir = filepath.Join(h.dir, "probes")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("cannot make the probes' directory: %w", err)
	}
	h.probeDir = dir
	for _, name := range ProbeNames() {
		var args []string
		if len(h.opts.ProbeCommand) > 0 {
			args = slices.Clone(h.opts.ProbeCommand)
			switch name {
			case "holders":
				args = append(args, name, "--proc", filepath.Join(h.Root(), "proc"), "--sys", filepath.Join(h.Root(), "sys"))
			case audioProbe:
				args = append(args, "audio", "--server", h.AudioSocket())
			default:
				args = append(args, name)
			}
			args = append(args, h.opts.ProbeArgs[name]...)
		}
		if err := h.startProbe(name, args); err != nil {
			return err
		}
	}
	if len(h.opts.GPUProbe) > 0 {
		return h.startProbe("gpu", h.opts.GPUProbe)
	}
	return nil
}

func (h *Host) startProbe(name string, args []string) error {
	p, err := newProbe(filepath.Join(h.probeDir, name), args)
	if err != nil {
		return err
	}
	h.probes[name] = p
	return nil
}

// startAudio starts alice's audio server. It outlives her sessions, as nobody
// looks at it then.
func (h *Host) startAudio() (err error) {
	h.audio, err = pulsetest.Start(
		h.AudioSocket(), pulsetest.State{Sinks: []pulsetest.Device{{Name: "speakers", State: 2}}},
	)
	return err
}

// AudioSocket is where alice's audio server listens.
func (h *Host) AudioSocket() string { return filepath.Join(h.dir, "pulse") }

// Audio is alice's audio server.
func (h *Host) Audio() *pulsetest.Server { return h.audio }

// ProbeDir holds the probes' sockets.
func (h *Host) ProbeDir() string { return h.probeDir }

// SetProbeFault makes a probe's socket misbehave, or well again.
func (h *Host) SetProbeFault(name string, fault ProbeFault) error {
	p := h.probes[name]
	if p == nil {
		return fmt.Errorf("cannot set a fault: no probe %q", name)
	}
	return p.setFault(fault)
}
