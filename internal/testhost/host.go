package testhost

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubnium/dubnium/internal/pulsetest"
	"github.com/dubnium/dubnium/internal/testhost/sim"
	"github.com/dubnium/dubnium/internal/vllmstandin"
)

// Options shape the machine. The zero value is a workstation in desktop mode
// with alice logged in.
type Options struct {
	// Units are added to the workstation's, or replace them by name.
	Units []Unit
	// DefaultTarget is what the machine boots to; empty: desktop.target.
	// graphical.target gives a host where the daemon has yet to start it.
	DefaultTarget string
	// Booting leaves the manager `starting` until FinishBoot.
	Booting bool
	// NoAutoLogin shows the greeter instead of logging alice in.
	NoAutoLogin bool
	// JobTime is how long every job takes at least; zero: none, but it is
	// still done after the reply.
	JobTime time.Duration
	// GreeterTakes and UserStopTakes replace the defaults of 5 and 20 ms; the
	// real values are up to 1 s and 10 s.
	GreeterTakes, UserStopTakes time.Duration
	// HDMIAudio makes alice's PipeWire hold the display GPU's audio function
	// for as long as her user manager lives.
	HDMIAudio bool
	// SecondGPU adds card1 at 0000:41:00.0.
	SecondGPU bool
	// Devices replaces the device nodes that stand for card0, renderD128, ...
	Devices map[string]string

	// ProbeDir is where the probes' sockets go; empty: in the host's own.
	ProbeDir string
	// ProbeCommand is started for each connection, with the probe's name as
	// its argument, for holders --proc and --sys, then ProbeArgs[name].
	ProbeCommand []string
	ProbeArgs    map[string][]string
	// GPUProbe is started for each connection to the GPU probe's socket, which is
	// not there without it: a machine without NVIDIA.
	GPUProbe []string

	// VLLM is how the stand-in behind vllm.service behaves.
	VLLM vllmstandin.Options

	// PolicyDirs are read by the bus daemon, which is then as strict as the
	// system bus; otherwise everybody may do everything.
	PolicyDirs []string
	// NoPolkit leaves the name free for the real polkitd.
	NoPolkit bool
	// Authorize answers for polkit; nil: AllowAll.
	Authorize Authorize
}

// The model's types that tests need.
type (
	// Unit declares a unit.
	Unit = sim.Unit
	// Program is what a unit runs.
	Program = sim.Program
	// Fault is what goes wrong with a unit.
	Fault = sim.Fault
	// Process is one row of the simulated process table.
	Process = sim.Process
	// Session is a logind session.
	Session = sim.Session
)

func (o Options) defaultTarget() string {
	if o.DefaultTarget == "" {
		return "desktop.target"
	}
	return o.DefaultTarget
}

// Host is a running simulated machine.
type Host struct {
	opts    Options
	dir     string
	address string
	ctx     context.Context
	cancel  context.CancelFunc
	out     *outbox
	bus     *child
	tree    *tree
	systemd *systemd
	login   *login
	polkit  *polkit

	audio      *pulsetest.Server
	probes     map[string]*probe
	probeDir   string
	vllm       *vllmstandin.Server
	vllmPort   int
	vllmSocket int
	vllmRuns   map[string]bool // the units that are up

	wake chan struct{} // capacity 1: the model has something new to do
	wg   sync.WaitGroup

	mu      sync.Mutex
	model   *sim.Model
	changed chan struct{} // closed and replaced at every event
	err     error
}

// Start brings a machine up. ctx bounds the start and, when it ends, stops what
// waits for something; Close is still needed.
func Start(ctx context.Context, opts Options) (_ *Host, err error) {
	h := &Host{
		opts: opts, probes: map[string]*probe{}, wake: make(chan struct{}, 1), changed: make(chan struct{}), vllmSocket: -1,
	}
	h.ctx, h.cancel = context.WithCancel(ctx)
	h.out = newOutbox()
	defer func() {
		if err != nil {
			_ = h.Close()
		}
	}()
	for _, step := range []func() error{
		h.makeDir, h.startVLLM, h.buildModel, h.buildTree, h.startBus, h.connect, h.startAudio, h.startProbes,
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	h.wg.Go(h.loop)
	return h, nil
}

// makeDir keeps the path short, for a unix socket's has 107 characters at most,
// and in memory where it can: the tree is some hundred small files.
func (h *Host) makeDir() error {
	base := os.Getenv("TMPDIR")
	if base == "" || len(base) > 60 {
		base = "/dev/shm"
	}
	dir, err := os.MkdirTemp(base, "dbhost")
	if err != nil {
		dir, err = os.MkdirTemp("/tmp", "dbhost")
	}
	if err != nil {
		return fmt.Errorf("cannot make the host's directory: %w", err)
	}
	h.dir = dir
	if len(h.opts.PolicyDirs) > 0 { // other users are to connect
		if err := os.Chmod(dir, 0o755); err != nil {
			return fmt.Errorf("cannot open the host's directory: %w", err)
		}
	}
	return nil
}

func (h *Host) buildModel() error {
	seat := sim.Seat()
	if h.opts.NoAutoLogin {
		seat.AutoLogin = ""
	}
	if h.opts.GreeterTakes > 0 {
		seat.GreeterTakes = h.opts.GreeterTakes
	}
	if h.opts.UserStopTakes > 0 {
		seat.UserStopTakes = h.opts.UserStopTakes
	}
	if h.opts.HDMIAudio {
		seat.Users[0].Services[0].Opens = []string{"controlC0"}
	}
	model, err := sim.New(sim.Config{
		Units:         append(sim.Workstation(), h.opts.Units...),
		DefaultTarget: h.opts.defaultTarget(), Booting: h.opts.Booting, HoldBoot: bootBarrier,
		JobTime: h.opts.JobTime, Login: seat, Start: time.Now(),
	})
	if err != nil {
		return fmt.Errorf("cannot boot the simulated machine: %w", err)
	}
	h.model = model
	return nil
}

func (h *Host) buildTree() error {
	t, err := newTree(filepath.Join(h.dir, "root"), h.opts.Devices, h.opts.SecondGPU)
	if err != nil {
		return err
	}
	for _, p := range h.model.Processes() {
		t.process(p)
	}
	for _, u := range h.model.ListUnits() {
		t.cgroup(u)
	}
	h.tree = t
	return t.err
}

func (h *Host) startBus() (err error) {
	h.bus, h.address, err = startBus(h.dir, h.opts.PolicyDirs)
	return err
}

func (h *Host) connect() error {
	h.systemd, h.login, h.polkit = newSystemd(h), newLogin(h), newPolkit(h, h.opts.Authorize)
	if u, err := h.model.Unit(vllmUnits + ".service"); err == nil {
		h.vllmFollows(u)
	}
	h.model.SetSink(h.event)
	for _, s := range h.services() {
		if err := s.connect(h.address); err != nil {
			return err
		}
	}
	return nil
}

func (h *Host) services() []*service {
	if h.systemd == nil {
		return nil
	}
	out := []*service{&h.systemd.service, &h.login.service}
	if !h.opts.NoPolkit {
		out = append(out, &h.polkit.service)
	}
	return out
}

// Close ends the machine and everything that it started, in reverse order, and
// reports what could not be simulated while it ran.
func (h *Host) Close() error {
	h.cancel()
	for _, p := range h.probes {
		p.close()
	}
	for _, s := range h.services() {
		s.disconnect()
	}
	h.out.close()
	if h.bus != nil {
		h.bus.stop()
	}
	h.wg.Wait()
	if h.audio != nil {
		h.audio.Close()
	}
	if h.vllm != nil {
		h.vllm.Stop()
	}
	if h.vllmSocket >= 0 {
		_ = unix.Close(h.vllmSocket)
		h.vllmSocket = -1
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	err := h.err
	if h.tree != nil {
		err = errors.Join(err, h.tree.err)
	}
	if h.dir != "" {
		err = errors.Join(err, os.RemoveAll(h.dir))
	}
	return err
}

// Address is the bus, as DBUS_SYSTEM_BUS_ADDRESS takes it.
func (h *Host) Address() string { return h.address }

// Dir is the host's own directory; it goes away with Close.
func (h *Host) Dir() string { return h.dir }

// Root is the directory of the simulated proc and sys.
func (h *Host) Root() string { return filepath.Join(h.dir, "root") }

// enter takes the lock and lets the model catch up with the clock, so that what
// is asked now takes its time from now on. The result gives the lock back.
func (h *Host) enter() (leave func()) {
	h.mu.Lock()
	h.model.RunUntil(time.Now())
	return func() {
		h.mu.Unlock()
		select {
		case h.wake <- struct{}{}:
		default:
		}
	}
}

// loop does the model's work when it is due.
func (h *Host) loop() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-h.ctx.Done():
			return
		case <-h.wake:
		case <-timer.C:
		}
		h.mu.Lock()
		h.model.RunUntil(time.Now())
		next, ok := h.model.Next()
		h.mu.Unlock()
		if ok {
			timer.Reset(time.Until(next))
		} else {
			timer.Stop()
		}
	}
}

// event passes on what the model says. Called under the lock.
func (h *Host) event(e sim.Event) {
	switch e := e.(type) {
	case sim.ProcessChanged:
		h.tree.process(e.Process)
	case sim.ProcessExited:
		h.tree.exit(e.PID)
	case sim.UnitChanged:
		h.vllmFollows(e.Unit)
		h.tree.cgroup(e.Unit)
	}
	h.systemd.event(e)
	h.login.event(e)
	close(h.changed)
	h.changed = make(chan struct{})
}

// broken keeps the first thing that went wrong inside. Called under the lock.
func (h *Host) broken(err error) {
	if h.err == nil {
		h.err = err
	}
}

// watch runs gone when the other end of a pipe is closed.
func (h *Host) watch(f *os.File, gone func(*sim.Model)) {
	h.wg.Go(func() {
		stop := context.AfterFunc(h.ctx, func() { _ = f.Close() })
		_, _ = f.Read(make([]byte, 1)) // ends at EOF, or when the host closes
		if stop() {
			_ = f.Close()
			h.Do(gone)
		}
	})
}
