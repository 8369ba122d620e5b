package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/dubnium/dubnium/daemon/monitor"
	"github.com/dubnium/dubnium/daemon/status"
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

// fakeHost is a workstation as a value: the sources read it, the hands change
// it, and a copy of it together with a copy of the daemon's directories is the
// machine at the instant of a crash.
type fakeHost struct {
	mu      sync.Mutex
	policy  policy.Policy
	now     observer.Snapshot
	watches []func()
	// changes counts what was changed.
	changes int
	// sick: vLLM never gets healthy. mute: no audio server runs.
	sick, mute bool
	// playing: something plays for whoever is at the screen. away: nothing can be read
	// of systemd.
	playing, away bool
	// onLook runs in the middle of each look, where people act as well.
	onLook func()
	// applied lists what was done, as "apply STEP" and "undo STEP".
	applied []string
	// fault is asked before and after each thing a hand does.
	fault func(ctx context.Context, when, what string) error
	// others are units beside those that are watched; jobs are queued, by unit.
	others []string
	jobs   map[string]string
	// deaf is why systemd does not tell of its units, nil when it does.
	deaf error
	// slept is how long the machine has slept, in which no timer ran.
	slept time.Duration
	// booted is when the machine started, the zero time until a daemon reads the boot
	// clock: the host may be made outside of the bubble in which its time passes.
	booted time.Time
	// note hears that the systemd source was given a policy or looks.
	note func(what string)
	// read runs before the units are read that a plan may reach: after a look, and
	// before the guards judge what it saw.
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
		h.now.Systemd.Units[name] = observer.Unit{ID: name, LoadState: "loaded", ActiveState: "active", Properties: policy.Properties{
			policy.CPUWeight: "", policy.IOWeight: "", policy.MemoryHigh: policy.Infinity, policy.MemoryLow: "0", policy.AllowedCPUs: "",
		}}
	}
	for _, m := range policy.Modes() {
		h.now.Systemd.Units[policy.PrepareUnit(m)] = observer.Unit{LoadState: "not-found", ActiveState: "inactive"}
	}
	free := observer.Measure{Value: new(float64)}
	*free.Value = 1 << 40
	h.now.Processes = observer.ProcessScan{
		GPUs: []observer.GPU{{PCI: displayGPU, Display: true}}, SoundComplete: true, Jobs: observer.Jobs{Complete: true},
		Directories: []observer.Store{{Path: p.Paths.State, Free: free}},
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
		sick: h.sick, mute: h.mute, playing: h.playing, away: h.away,
	}
	c.now.Systemd.Units = maps.Clone(h.now.Systemd.Units)
	c.now.Saved.Slices = maps.Clone(h.now.Saved.Slices)
	c.now.Logind.Sessions = slices.Clone(h.now.Logind.Sessions)
	c.now.Processes.Holders = slices.Clone(h.now.Processes.Holders)
	return c
}

// change alters the host and tells whoever watches.
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
			Healthy: !h.sick, HealthText: "503", Running: new(float64), Waiting: new(float64),
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

// setSlice is one change of plans.SetSlices, with what it writes down.
func (h *fakeHost) setSlice(c plans.SliceChange) {
	unit := h.now.Systemd.Units[c.Slice]
	was := unit.Properties[c.Property]
	unit.Properties = maps.Clone(unit.Properties)
	unit.Properties[c.Property] = c.New
	h.now.Systemd.Units[c.Slice] = unit
	kept := maps.Clone(h.now.Saved.Slices[c.Slice])
	if _, there := kept[c.Property]; !there && !c.Returns {
		if kept == nil {
			kept = policy.Properties{}
		}
		kept[c.Property] = was
	} else if c.Returns {
		delete(kept, c.Property)
	}
	all := maps.Clone(h.now.Saved.Slices)
	if all == nil {
		all = map[string]policy.Properties{}
	}
	all[c.Slice] = kept
	h.now.Saved.Slices = all
}

// unsetSlices takes it back.
func (h *fakeHost) unsetSlices(s plans.Step, was found) {
	for _, c := range s.Slices {
		unit := h.now.Systemd.Units[c.Slice]
		unit.Properties = was.Slices[c.Slice]
		h.now.Systemd.Units[c.Slice] = unit
	}
	h.now.Saved.Slices = was.Kept.Slices
}

// quiesce and resume are the steps of these names, for one unit.
func (h *fakeHost) quiesce(unit string) {
	if h.now.Systemd.Units[unit].Active() {
		h.stop(unit)
		h.now.Saved.Quiesced = append(slices.Clone(h.now.Saved.Quiesced), unit)
	}
}

func (h *fakeHost) resume(unit string) {
	h.start(unit)
	h.now.Saved.Quiesced = slices.DeleteFunc(
		slices.Clone(h.now.Saved.Quiesced), func(kept string) bool { return kept == unit },
	)
}

// asFound takes either back.
func (h *fakeHost) asFound(s plans.Step, was found) {
	for _, unit := range s.Units {
		if was.up(unit) {
			h.start(unit)
		} else {
			h.stop(unit)
		}
	}
	h.now.Saved.Quiesced = was.Kept.Quiesced
}

// clear is the first half of an isolate: it stops all that the target may not want.
func (h *fakeHost) clear() {
	wanted := []string{"audio-priority.service", "studio-local-policy.service", "display-manager.service"}
	for _, u := range slices.Concat(wanted, h.policy.VLLMUnits(), h.policy.ContractUnits()) {
		h.stop(u)
	}
}

// isolate stops all that the target does not want.
func (h *fakeHost) isolate(target string) {
	h.clear()
	h.start(target)
}

// unisolate is host's undo of an isolate: what came with the target goes, and the
// target that it replaced and what was up come back.
func (h *fakeHost) unisolate(s plans.Step, was found) {
	for _, u := range slices.Concat(h.policy.VLLMUnits(), h.policy.ContractUnits()) {
		if !was.up(u) {
			h.stop(u)
		}
	}
	switch {
	case was.up("compute.target"):
		h.start("compute.target")
	case was.up("desktop.target"):
		h.start("desktop.target")
	default:
		h.stop(s.Unit)
	}
	for _, u := range was.Up {
		if !h.now.Systemd.Units[u].Active() && u != "desktop.target" && u != "compute.target" {
			h.start(u)
		}
	}
}

// fakeSource shows one part of the host.
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

// fakeAudio is looked at now and then, as the real one is.
type fakeAudio struct{ fakeSource }

func (s fakeAudio) NextPoll(now observer.Snapshot) time.Time {
	return now.Audio.At.Add(observer.AudioRecheck(s.host.policy))
}

func (s fakeSource) SetPolicy(policy.Policy) { s.noted("adopts") }

func (s fakeSource) noted(what string) {
	s.host.mu.Lock()
	note := s.host.note
	s.host.mu.Unlock()
	if note != nil && s.name == "systemd" {
		note(what)
	}
}

func (s fakeSource) Read(context.Context) observer.Part {
	s.noted("looks")
	s.host.mu.Lock()
	onLook := s.host.onLook
	s.host.mu.Unlock()
	if onLook != nil && s.name == "logind" {
		onLook()
	}
	host := s.host.clone()
	c, away, playing := host.now, host.away, host.playing
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
			server := observer.AudioServer{Reading: reading, UID: uid, Running: !s.host.mute}
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

// fakeHand carries out one kind of step on the host.
type fakeHand struct {
	host *fakeHost
	// do is what is done, in the parts between which the host can be seen.
	do   func(plans.Step) []func()
	undo func(*fakeHost, plans.Step, found)
}

func (f fakeHand) Prepare(ctx context.Context, s plans.Step) (json.RawMessage, error) {
	if err := f.host.maybe(ctx, "before", "prepare "+s.ID); err != nil {
		return nil, err
	}
	now := f.host.clone().now
	before := found{Kept: now.Saved, Slices: map[string]policy.Properties{}}
	for name, u := range now.Systemd.Units {
		if u.Active() && u.Properties == nil {
			before.Up = append(before.Up, name)
		}
	}
	for _, c := range s.Slices {
		before.Slices[c.Slice] = now.Systemd.Units[c.Slice].Properties
	}
	slices.Sort(before.Up)
	return json.Marshal(before)
}

// found is what a step found before it did anything.
type found struct {
	Up     []string                     `json:"up"`
	Slices map[string]policy.Properties `json:"slices"`
	Kept   observer.SavedState          `json:"kept"`
}

func (f found) up(unit string) bool { return slices.Contains(f.Up, unit) }

func (f fakeHand) Apply(ctx context.Context, s plans.Step) error {
	return f.act(ctx, "apply "+s.ID, f.do(s)...)
}

func (f fakeHand) Verify(ctx context.Context, s plans.Step) error {
	return f.host.maybe(ctx, "before", "verify "+s.ID)
}

func (f fakeHand) Undo(ctx context.Context, s plans.Step, before json.RawMessage) error {
	return f.act(ctx, "undo "+s.ID, func() {
		var was found
		if before != nil && json.Unmarshal(before, &was) == nil {
			f.undo(f.host, s, was)
		}
	})
}

func (f fakeHand) act(ctx context.Context, what string, parts ...func()) error {
	if err := f.host.maybe(ctx, "before", what); err != nil {
		return err
	}
	f.host.change(func() { f.host.applied = append(f.host.applied, what) })
	for i, change := range parts {
		if i > 0 {
			if err := f.host.maybe(ctx, "amid", what); err != nil {
				return err
			}
		}
		f.host.change(change)
	}
	return f.host.maybe(ctx, "after", what)
}

func (h *fakeHost) maybe(ctx context.Context, when, what string) error {
	if h.fault == nil {
		return nil
	}
	return h.fault(ctx, when, what)
}

// requireAs checks what a mode is beside what it is recognised by: its slices have
// what it gives and else what they had at first, and its timers are as they were.
func (h *fakeHost) requireAs(t *testing.T, mode policy.Mode, when string) {
	t.Helper()
	now := h.clone().now
	given := h.policy.Slices.Of(mode)
	for _, name := range h.policy.Slices.Names() {
		want := policy.Properties{
			policy.CPUWeight: "", policy.IOWeight: "", policy.MemoryHigh: policy.Infinity, policy.MemoryLow: "0", policy.AllowedCPUs: "",
		}
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

func (h *fakeHost) hands() map[plans.Kind]plans.StepHandler {
	restore := func(h *fakeHost, s plans.Step, was found) {
		if was.up(s.Unit) {
			h.start(s.Unit)
		} else {
			h.stop(s.Unit)
		}
	}
	each := func(do func(string)) func(plans.Step) []func() {
		return func(s plans.Step) (parts []func()) {
			for _, unit := range s.Units {
				parts = append(parts, func() { do(unit) })
			}
			return parts
		}
	}
	return map[plans.Kind]plans.StepHandler{
		plans.StartUnit: fakeHand{h, func(s plans.Step) []func() { return []func(){func() { h.start(s.Unit) }} }, restore},
		plans.StopUnit:  fakeHand{h, func(s plans.Step) []func() { return []func(){func() { h.stop(s.Unit) }} }, restore},
		plans.StopVLLM:  fakeHand{h, func(s plans.Step) []func() { return []func(){func() { h.stop(s.Unit) }} }, restore},
		plans.AskSessions: fakeHand{
			h, func(plans.Step) []func() { return nil }, func(*fakeHost, plans.Step, found) {},
		},
		plans.EndManagers: fakeHand{
			h, func(plans.Step) []func() { return []func(){func() { h.now.Processes.Holders = nil }} }, func(*fakeHost, plans.Step, found) {},
		},
		plans.SetSlices: fakeHand{h, func(s plans.Step) (parts []func()) {
			for _, c := range s.Slices {
				parts = append(parts, func() { h.setSlice(c) })
			}
			return parts
		}, (*fakeHost).unsetSlices},
		plans.Quiesce: fakeHand{h, each(h.quiesce), (*fakeHost).asFound},
		plans.Resume:  fakeHand{h, each(h.resume), (*fakeHost).asFound},
		plans.EndSessions: fakeHand{
			h, func(plans.Step) []func() { return []func(){h.endSessions} },
			func(*fakeHost, plans.Step, found) {},
		},
		plans.Isolate: fakeHand{
			h, func(s plans.Step) []func() { return []func(){h.clear, func() { h.start(s.Unit) }} },
			(*fakeHost).unisolate,
		},
	}
}

// graph is the units as an isolate sees them: nothing ties them, so that it stops
// them all.
func (h *fakeHost) graph(context.Context, string) (unitgraph.Graph, error) {
	h.mu.Lock()
	read := h.read
	h.mu.Unlock()
	if read != nil {
		read()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.deaf != nil {
		return nil, h.deaf
	}
	if h.away {
		return nil, errors.New("systemd does not answer")
	}
	graph := unitgraph.Graph{}
	for name, u := range h.now.Systemd.Units {
		graph[name] = unitgraph.Unit{
			Names: []string{name}, LoadState: u.LoadState, ActiveState: u.ActiveState, AllowIsolate: u.AllowIsolate, Job: h.jobs[name],
		}
	}
	for _, name := range h.others {
		graph[name] = unitgraph.Unit{Names: []string{name}, LoadState: "loaded", ActiveState: "active"}
	}
	return graph, nil
}

// rig is an engine that runs over a fake host.
type rig struct {
	*Controller
	t       *testing.T
	host    *fakeHost
	monitor *monitor.Monitor
	dir     string
	cancel  context.CancelFunc
	ended   sync.WaitGroup
	seen    *recorder
}

// recorder is a Listener that keeps what it hears.
type recorder struct {
	mu     sync.Mutex
	events []status.Event
	also   func(status.Event) // hears each before the engine goes on; nil for nobody
	views  func(status.View)  // sees each that is published; nil for nobody
}

func (r *recorder) Notify(v status.View, events []status.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.views != nil {
		r.views(v)
	}
	r.events = append(r.events, events...)
	for _, e := range events {
		if r.also != nil {
			r.also(e)
		}
	}
}

func (r *recorder) all() []status.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

func testPolicy(dir string) policy.Policy {
	p := policy.Default()
	p.Transitions = policy.TrustAll
	p.Paths.Runtime, p.Paths.State = filepath.Join(dir, "run"), filepath.Join(dir, "state")
	p.Paths.RebuildLock, p.Paths.Issue = filepath.Join(dir, "rebuild.lock"), filepath.Join(dir, "issue.d")
	return p
}

const thisBoot = "boot-1"

// startRig runs an engine over host with its directories under dir.
func startRig(t *testing.T, host *fakeHost, dir, bootID string) *rig {
	t.Helper()
	r := startRigWith(t, host, testPolicy(dir), bootID)
	r.dir = dir
	return r
}

func startRigWith(t *testing.T, host *fakeHost, p policy.Policy, bootID string) *rig {
	t.Helper()
	r := newRig(t, host, p, bootID)
	r.run()
	return r
}

// newRig is startRigWith for one that does not run yet.
func newRig(t *testing.T, host *fakeHost, p policy.Policy, bootID string) *rig {
	t.Helper()
	r, err := tryRig(t, host, p, bootID)
	require.NoError(t, err)
	return r
}

// tryRig is newRig where the engine may refuse what its directories hold.
func tryRig(t *testing.T, host *fakeHost, p policy.Policy, bootID string) (*rig, error) {
	t.Helper()
	host.policy = p
	host.now.Processes.Directories = slices.Clone(host.now.Processes.Directories)
	host.now.Processes.Directories[0].Path = p.Paths.State
	for _, d := range []string{p.Paths.Runtime, p.Paths.State} {
		require.NoError(t, os.MkdirAll(d, 0o755))
	}
	log := zap.New(zaptest.NewLogger(t, zaptest.Level(zapQuiet)).Core())
	eyes := monitor.New(p.Timeouts.Look.D(), log,
		fakeSource{host, "systemd"}, fakeSource{host, "logind"}, fakeSource{host, "holders"}, fakeSource{host, "inference"},
		fakeSource{host, "procfs"}, fakeSource{host, "locks"}, fakeAudio{fakeSource{host, "audio"}}, fakeSource{host, "kept"})
	hands := func(policy.Policy) map[plans.Kind]plans.StepHandler { return host.hands() }
	controller, err := New(
		Config{
			Policy: policy.Document{Policy: p}, Monitor: eyes, StepHandlers: hands, Graph: host.graph, BootID: bootID,
			Boottime: host.boottime, Log: log,
		},
	)
	if err != nil {
		return nil, err
	}
	r := &rig{Controller: controller, t: t, host: host, monitor: eyes, seen: &recorder{}}
	controller.Listen(r.seen)
	return r, nil
}

func (r *rig) run() {
	ctx, cancel := context.WithCancel(r.t.Context())
	r.cancel = cancel
	r.ended.Go(func() { r.monitor.Run(ctx) })
	r.ended.Go(func() { r.Controller.Run(ctx) })
}

func (r *rig) stop() {
	r.cancel()
	r.ended.Wait()
}

// settle waits until nothing runs and returns the view.
func (r *rig) settle() status.View {
	r.t.Helper()
	deadline := time.Now().Add(time.Hour)
	for time.Now().Before(deadline) {
		if r.View().Running == nil {
			v, err := r.Observe(r.t.Context())
			require.NoError(r.t, err)
			if v.Running == nil && v.Observation.State != observer.Boot {
				return v
			}
		}
		// In a synctest bubble this is no wait: it lets everybody else get to rest.
		time.Sleep(time.Second)
	}
	require.Fail(r.t, "the engine did not settle", "%+v", r.View())
	return status.View{}
}

func (r *rig) request(mode policy.Mode) status.Record {
	r.t.Helper()
	id, err := r.Request(
		r.t.Context(), status.Request{Mode: mode, Origin: status.OriginOperator, By: "test", UID: 1000, LeaveCompute: true},
	)
	require.NoError(r.t, err)
	v := r.settle()
	require.NotNil(r.t, v.Last)
	require.Equal(r.t, id, v.Last.ID, fmt.Sprintf("%+v", v.Last))
	return *v.Last
}
