package daemon

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/observer/unitgraph"
	"github.com/dubnium/dubnium/plans"
	"github.com/dubnium/dubnium/policy"
)

const (
	displayGPU = "0000:01:00.0"
	quietTimer = "fstrim.timer"
	sway       = 900
)

// fakeHost is a workstation as a value: the sources read it, the step handlers change
// it, and a copy of it together with a copy of the daemon's directories is the
// machine at the instant of a crash.
type fakeHost struct {
	mu      sync.Mutex
	policy  policy.Policy
	now     observer.Snapshot
	watches []func()
	// changes counts the changes.
	changes     int
	unhealthy   bool // vLLM never gets healthy
	noAudio     bool // no audio server runs
	playing     bool // something plays for whoever is at the screen
	systemdDown bool // systemd does not answer
	// onRead runs in the middle of each read, where people act as well.
	onRead func()
	// applied lists what was done, as "apply STEP" and "undo STEP".
	applied []string
	// fault is called before and after each thing that a step handler does.
	fault func(ctx context.Context, when, what string) error
	// extraUnits are units beside those that are watched; jobs are queued, by unit.
	extraUnits []string
	jobs       map[string]string
	// graphErr is why the unit graph cannot be read, nil when it can.
	graphErr error
	// slept is how long the machine has slept, in which no timer ran.
	slept time.Duration
	// booted is when the machine started, the zero time until a daemon reads the boot
	// clock: the host may be made outside of the bubble in which its time passes.
	booted time.Time
	// onSource is called when the systemd source adopts a policy or reads.
	onSource func(what string)
	// read runs before the unit graph is read: after the snapshot, and
	// before the guards are evaluated.
	read func()
}

func newFakeHost(p policy.Policy) *fakeHost {
	h := &fakeHost{policy: p}
	h.now.Systemd.State = "running"
	h.now.Systemd.Units = map[string]observer.Unit{}
	for _, name := range plans.Watched(p) {
		h.now.Systemd.Units[name] = observer.Unit{ID: name, LoadState: "loaded", ActiveState: "inactive", AllowIsolate: true}
	}
	for _, name := range p.Slices.Names() {
		h.now.Systemd.Units[name] = observer.Unit{
			ID: name, LoadState: "loaded", ActiveState: "active", Properties: defaultProperties(),
		}
	}
	for _, m := range policy.Modes() {
		h.now.Systemd.Units[policy.PrepareUnit(m)] = observer.Unit{LoadState: "not-found", ActiveState: "inactive"}
	}
	free := observer.Measure{Value: new(float64)}
	*free.Value = 1 << 40
	h.now.Processes = observer.ProcessScan{
		GPUs: []observer.GPU{{PCI: displayGPU, Display: true}}, SoundComplete: true, Jobs: observer.Jobs{Complete: true},
		Directories: []observer.Directory{{Path: p.Paths.State, Free: free}},
	}
	none := observer.Measure{Value: new(float64)}
	h.now.Procfs = observer.Procfs{
		LoadPerCore: none, PressureCPU: none, PressureIO: none, PressureMemory: none, MemAvailable: free,
	}
	h.now.Inference.NotListening = true
	h.start("graphical.target")
	h.start("desktop.target")
	h.start(quietTimer)
	return h
}

// defaultProperties are those of a slice that nobody has set.
func defaultProperties() policy.Properties {
	return policy.Properties{
		policy.CPUWeight: "", policy.IOWeight: "", policy.MemoryHigh: policy.Infinity, policy.MemoryLow: "0",
		policy.AllowedCPUs: "",
	}
}

// boottime is the kernel's CLOCK_BOOTTIME. The machine started a day before the test.
func (h *fakeHost) boottime() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.booted.IsZero() {
		h.booted = time.Now().Add(-24 * time.Hour)
	}
	return time.Since(h.booted) + h.slept
}

func (h *fakeHost) clone() *fakeHost {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := &fakeHost{
		policy: h.policy, now: h.now, booted: h.booted, slept: h.slept,
		unhealthy: h.unhealthy, noAudio: h.noAudio, playing: h.playing, systemdDown: h.systemdDown,
	}
	c.now.Systemd.Units = maps.Clone(h.now.Systemd.Units)
	c.now.Saved.Slices = maps.Clone(h.now.Saved.Slices)
	c.now.Logind.Sessions = slices.Clone(h.now.Logind.Sessions)
	c.now.Processes.Holders = slices.Clone(h.now.Processes.Holders)
	return c
}

// appliedSteps are the calls of step handlers so far.
func (h *fakeHost) appliedSteps() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.applied)
}

// change alters the host and notifies those who watch it.
func (h *fakeHost) change(f func()) {
	h.mu.Lock()
	f()
	h.changes++
	watches := slices.Clone(h.watches)
	h.mu.Unlock()
	for _, changed := range watches {
		changed()
	}
}

func (h *fakeHost) set(unit, state string) {
	u := h.now.Systemd.Units[unit]
	u.ActiveState = state
	h.now.Systemd.Units[unit] = u
}

// start and stop are what systemd, greetd and vLLM would make of it.
func (h *fakeHost) start(unit string) {
	h.set(unit, "active")
	switch unit {
	case "desktop.target":
		h.stop("compute.target")
		h.start("graphical.target")
	case "graphical.target":
		h.start("display-manager.service")
	case "display-manager.service":
		if len(h.now.Logind.Sessions) == 0 {
			h.now.Logind.Sessions = []observer.Session{
				{ID: "2", UID: 1000, User: "alice", Class: "user", Type: "wayland", Seat: "seat0"},
			}
			h.now.Processes.Holders = []observer.Holder{
				{GPU: displayGPU, PID: sway, Command: "sway", Unit: "session-2.scope", Session: "2"},
			}
		}
	case "compute.target":
		h.stop("desktop.target")
		h.stop("graphical.target")
		if h.policy.VLLM.Enabled {
			h.start("vllm.service")
		}
	case "vllm.service", "vllm-fast.service", "vllm@fast.service":
		h.now.Inference = observer.Inference{
			Healthy: !h.unhealthy, HealthText: "503", Running: new(float64), Waiting: new(float64),
		}
	}
}

func (h *fakeHost) stop(unit string) {
	h.set(unit, "inactive")
	if name, _ := observer.RunningVLLM(h.policy, h.now.Systemd); name == "" {
		h.now.Inference = observer.Inference{NotListening: true}
	}
}

func (h *fakeHost) endSessions() { h.now.Logind.Sessions, h.now.Processes.Holders = nil, nil }

// fakeSource reads one part of the host.
type fakeSource struct {
	host *fakeHost
	name string
}

func (s fakeSource) Name() string { return s.name }

func (s fakeSource) Watch(ctx context.Context, changed func()) error {
	s.host.mu.Lock()
	s.host.watches = append(s.host.watches, changed)
	s.host.mu.Unlock()
	<-ctx.Done()
	return nil
}

// fakeAudio is polled, as the real one is.
type fakeAudio struct{ fakeSource }

func (s fakeAudio) NextPoll(now observer.Snapshot) time.Time {
	return now.Audio.At.Add(observer.AudioRecheck(s.host.policy))
}

func (s fakeSource) SetPolicy(policy.Policy) { s.trace("adopts") }

func (s fakeSource) trace(what string) {
	s.host.mu.Lock()
	onSource := s.host.onSource
	s.host.mu.Unlock()
	if onSource != nil && s.name == "systemd" {
		onSource(what)
	}
}

func (s fakeSource) Read(context.Context) observer.Part {
	s.trace("reads")
	s.host.mu.Lock()
	onRead := s.host.onRead
	s.host.mu.Unlock()
	if onRead != nil && s.name == "logind" {
		onRead()
	}
	host := s.host.clone()
	c, away, playing := host.now, host.systemdDown, host.playing
	reading := observer.Reading{At: time.Now()}
	switch s.name {
	case "systemd":
		c.Systemd.Reading = reading
		if away {
			c.Systemd.Reason = "systemd does not answer"
		}
		return c.Systemd
	case "logind":
		c.Logind.Reading = reading
		return c.Logind
	case "holders":
		c.Processes.At = reading.At // a test may give a reason
		return c.Processes
	case "procfs":
		c.Procfs.Reading = reading
		return c.Procfs
	case "kept":
		c.Saved.Reading = reading
		return c.Saved
	case "locks":
		c.Locks.Reading = reading
		return c.Locks
	case "audio":
		c.Audio.Reading = reading
		for _, uid := range c.Logind.GraphicalUsers() {
			server := observer.AudioServer{Reading: reading, UID: uid, Running: !s.host.noAudio}
			if playing {
				server.Streams = []observer.AudioStream{{Direction: "playback", Application: "mpv", Media: "a song"}}
			}
			c.Audio.Servers = append(c.Audio.Servers, server)
		}
		return c.Audio
	default:
		c.Inference.Reading = reading
		return c.Inference
	}
}

// requireAs checks what a mode sets beside what it is classified by: its slices have
// its values and else those from before, and its timers are as they were.
func (h *fakeHost) requireAs(t *testing.T, mode policy.Mode, when string) {
	t.Helper()
	now := h.clone().now
	given := h.policy.Slices.Of(mode)
	for _, name := range h.policy.Slices.Names() {
		want := defaultProperties()
		maps.Copy(want, given[name].Properties())
		require.Equal(t, want, now.Systemd.Units[name].Properties, "%s: %s in %s", when, name, mode)
		require.Len(
			t, now.Saved.Slices[name], len(given[name].Properties()), "%s: what is to be undone of %s in %s", when, name, mode,
		)
	}
	quiet := mode == policy.StudioLocal
	require.Equal(t, !quiet, now.Systemd.Units[quietTimer].Active(), "%s: %s in %s", when, quietTimer, mode)
	require.Equal(
		t, quiet, slices.Contains(now.Saved.Quiesced, quietTimer), "%s: %s is to be started again, in %s", when, quietTimer,
		mode,
	)
}

// graph is the unit graph: there are no dependencies, so that an isolate stops
// all units.
func (h *fakeHost) graph(context.Context, string) (unitgraph.Graph, error) {
	h.mu.Lock()
	read := h.read
	h.mu.Unlock()
	if read != nil {
		read()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.graphErr != nil {
		return nil, h.graphErr
	}
	if h.systemdDown {
		return nil, errors.New("systemd does not answer")
	}
	graph := unitgraph.Graph{}
	for name, u := range h.now.Systemd.Units {
		graph[name] = unitgraph.Unit{
			Names: []string{name}, LoadState: u.LoadState, ActiveState: u.ActiveState, AllowIsolate: u.AllowIsolate,
			Job: h.jobs[name],
		}
	}
	for _, name := range h.extraUnits {
		graph[name] = unitgraph.Unit{Names: []string{name}, LoadState: "loaded", ActiveState: "active"}
	}
	return graph, nil
}
