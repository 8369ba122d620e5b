package daemon

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// workstation is a daemon with its host, and what was requested of it.
type workstation struct {
	*rapid.T
	test  *testing.T
	base  string
	dirs  int
	boots int
	r     *harness
	dir   string
	host  *fakeHost
	// change is what was reloaded, nil before.
	change func(*policy.Policy)
	// desired is what was requested, and before what was desired before that.
	desired, before policy.Mode
	lastID          uint64 // the transition of the last request

	mu      sync.Mutex
	points  int // until the fault or the copy
	fault   string
	copied  *fakeHost
	copyDir string
	skip    []policy.GuardID
	begun   bool     // the transition has taken something
	broken  []string // what was violated in the daemon's goroutines
	checked int      // events that were checked
}

// policy has short timeouts.
func (w *workstation) policy(dir string) policy.Policy {
	p := testPolicy(dir)
	second := policy.Duration(time.Second)
	p.Timeouts.Unit, p.Timeouts.Isolate = 4*second, 4*second
	p.Timeouts.GPURelease, p.Timeouts.Verify = 3*second, 3*second
	p.VLLM.StartTimeout, p.VLLM.DrainTimeout = 4*second, 4*second
	p.Studio.Quiesce = []string{quietTimer}
	p.Guards.StudioLocal = nil
	if w.change != nil {
		w.change(&p)
	}
	return p
}

// start starts a daemon in a directory of its own, or in the one that it had.
func (w *workstation) start() {
	if w.dir == "" {
		w.dirs++
		w.dir = filepath.Join(w.base, fmt.Sprint(w.dirs))
	}
	w.host.fault = w.point
	w.r = newHarness(w.test, w.host, w.policy(w.dir), fmt.Sprintf("boot-%d", w.boots))
	w.r.dir, w.checked = w.dir, 0
	w.r.seen.views = w.published
	w.r.run() // it recovers at once, and calls w.point
}

func (w *workstation) settle() status.View {
	v := w.r.settle()
	w.mu.Lock()
	w.fault = ""
	w.mu.Unlock()
	return v
}

func (w *workstation) violated(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broken = append(w.broken, fmt.Sprintf(format, args...))
}

// point is before and after everything that a step handler does.
func (w *workstation) point(ctx context.Context, when, what string) error {
	w.invariant7(when, what)
	w.mu.Lock()
	w.points--
	fault := w.fault
	if w.points != 0 {
		fault = ""
	}
	w.mu.Unlock()
	switch fault {
	case "fail":
		return errBroken
	case "hang":
		<-ctx.Done()
		return ctx.Err()
	case "die": // the world is copied, and the one that goes on is thrown away
		copied := w.host.clone()
		w.mu.Lock()
		defer w.mu.Unlock()
		files, err := readFiles(w.dir)
		if err != nil {
			return err
		}
		for name, data := range files {
			to := filepath.Join(w.copyDir, name)
			if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
				return err
			}
			if err := os.WriteFile(to, data, 0o600); err != nil {
				return err
			}
		}
		w.copied = copied
	}
	return nil
}

func (w *workstation) request(t *rapid.T) {
	mode := rapid.SampledFrom(append(policy.Modes(), policy.Compute)).Draw(t, "mode")
	r := status.Request{
		Mode: mode, Origin: status.OriginOperator, By: "uid 1000 (alice)", UID: 1000,
		EndOthers: rapid.Bool().Draw(t, "may end others"), LeaveCompute: true,
	}
	if rapid.SampledFrom([]bool{false, false, false, true}).Draw(t, "forces") {
		r.Skip = []policy.GuardID{policy.CheckAudioIdle, policy.CheckCPULoadSafe}
	}
	if rapid.Bool().Draw(t, "warns") {
		grace := 10 * time.Second
		r.Grace = &grace
	}
	w.submit(t, r)
	switch rapid.SampledFrom([]string{"ends", "ends", "goes on", "is canceled", "meets music"}).Draw(t, "then") {
	case "ends":
		w.settle()
	case "is canceled":
		if running := w.r.View().Running; running != nil && running.Cancellable {
			w.cancel(t)
		}
	case "meets music":
		w.host.change(func() { w.host.playing = true })
		w.settle()
	}
}

// submit makes a request, and notes what is desired from then on.
func (w *workstation) submit(t *rapid.T, r status.Request) {
	running := w.r.View().Running
	if running == nil {
		w.mu.Lock()
		w.skip, w.begun = r.Skip, false
		w.mu.Unlock()
	}
	id, err := w.r.Request(w.test.Context(), r)
	switch {
	case err != nil && running == nil:
		t.Fatalf("a request was refused although nothing runs: %v", err)
	case err == nil && id != w.lastID:
		w.before, w.desired, w.lastID = w.desired, r.Mode, id
	}
	synctest.Wait()
}

func (w *workstation) cancel(t *rapid.T) {
	running := w.r.View().Running
	if running == nil {
		t.Skip("nothing runs")
	}
	err := w.r.Cancel(w.test.Context(), running.ID, "alice")
	if running.Cancellable != (err == nil) {
		t.Fatalf("cancel: %v, and cancellable is %v", err, running.Cancellable)
	}
	w.settle()
}

// requestAgain is invariant 3: a request for what is there harms nothing.
func (w *workstation) requestAgain(t *rapid.T) {
	v := w.settle()
	mode := policy.Mode(v.Observation.State)
	if !slices.Contains(policy.Modes(), mode) {
		t.Skip("in no mode")
	}
	w.submit(t, status.Request{Mode: mode, UID: 1000, EndOthers: true, LeaveCompute: true})
	first := *w.settle().Last
	before := w.host.effects()
	w.submit(t, status.Request{Mode: mode, UID: 1000, EndOthers: true, LeaveCompute: true})
	again := w.settle().Last
	if differ := w.host.effects().diff(before); len(differ) > 0 {
		t.Fatalf("invariant 3: requesting %s twice (%s, %s) changed %v", mode, first.Result, again.Result, differ)
	}
	if first.Result.Reached() && again.Result != status.Noop {
		t.Fatalf("invariant 3: %s was there, and the request for it was %s: %s", mode, again.Result, again.Cause)
	}
}

func (w *workstation) breakSomething(t *rapid.T) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fault = rapid.SampledFrom([]string{"fail", "hang"}).Draw(t, "how")
	w.points = rapid.IntRange(1, 30).Draw(t, "when")
}

func (w *workstation) restart(*rapid.T) {
	w.r.stop() // as SIGTERM does
	w.start()
	w.settle()
}

// crash requests a mode, and the daemon dies at some point on the way.
func (w *workstation) crash(t *rapid.T) {
	w.settle()
	w.dirs++
	w.mu.Lock()
	w.fault, w.points = "die", rapid.IntRange(1, 40).Draw(t, "when")
	w.copied, w.copyDir = nil, filepath.Join(w.base, fmt.Sprint(w.dirs))
	w.mu.Unlock()
	w.submit(
		t,
		status.Request{
			Mode: rapid.SampledFrom(policy.Modes()).Draw(t, "mode"), UID: 1000, EndOthers: true, LeaveCompute: true,
		},
	)
	w.settle()
	w.mu.Lock()
	copied := w.copied
	w.mu.Unlock()
	if copied == nil {
		return // it ended before
	}
	w.r.stop()
	w.host, w.dir = copied, w.copyDir
	w.start()
	if v := w.settle(); v.Last == nil || v.Last.ID != w.lastID || v.Last.Result != status.Interrupted &&
		v.Last.Result != status.RollbackFailed {
		t.Fatalf("invariant 2: the daemon died in transition %d, and the last is %+v", w.lastID, v.Last)
	}
}

func (w *workstation) reboot(*rapid.T) {
	w.r.stop()
	require.NoError(w.test, os.RemoveAll(filepath.Join(w.dir, "run")))
	w.boots++
	w.host = newFakeHost(w.policy(w.dir))
	w.desired = policy.Desktop
	w.start()
	w.settle()
}

// reload changes what the daemon may do, and where the studio is.
func (w *workstation) reload(t *rapid.T) {
	if w.r.View().Running != nil {
		t.Skip("a transition runs")
	}
	trust := rapid.SampledFrom(
		[]policy.AllowedTransitions{policy.TrustObserve, policy.TrustOverlay, policy.TrustAll, policy.TrustAll},
	).Draw(t, "trust")
	studio := rapid.SampledFrom([]policy.Place{policy.Local, policy.Local, policy.Remote}).Draw(t, "studio")
	weight := rapid.SampledFrom([]int{0, 200}).Draw(t, "weight")
	w.change = func(p *policy.Policy) {
		p.Transitions, p.Placement.Studio = trust, studio
		if weight > 0 {
			p.Slices.Desktop = map[string]policy.Slice{"user.slice": {CPUWeight: weight}}
		}
	}
	_, err := w.r.Reload(w.test.Context(), policy.Document{Policy: w.policy(w.dir)})
	require.NoError(w.test, err)
}

// byItself is something that nobody requested of the daemon: it may observe it, and does
// nothing about it (invariant 12).
func (w *workstation) byItself(change func()) {
	acted := func() int {
		w.host.mu.Lock()
		defer w.host.mu.Unlock()
		return len(w.host.applied)
	}
	running, before := w.r.View().Running, acted()
	w.host.change(change)
	synctest.Wait()
	if running == nil && acted() != before {
		w.Fatalf("invariant 12: the host changed by itself, and the daemon acted: %v", w.host.applied)
	}
}

func (w *workstation) flip(change func(*fakeHost)) func(*rapid.T) {
	return func(*rapid.T) { w.byItself(func() { change(w.host) }) }
}

func loaded(h *fakeHost) {
	load := observer.Measure{Value: new(float64)}
	if *h.now.Procfs.LoadPerCore.Value == 0 {
		*load.Value = 100
	}
	h.now.Procfs.LoadPerCore = load
}

const bobs = 77 // a process of bob's on the display GPU

func occupied(h *fakeHost) {
	others := slices.DeleteFunc(
		slices.Clone(h.now.Processes.Holders), func(o observer.Holder) bool { return o.PID == bobs },
	)
	if len(others) == len(h.now.Processes.Holders) {
		others = append(others, observer.Holder{GPU: displayGPU, PID: bobs, Command: "game", UID: 1001, Unit: "game.service"})
	}
	h.now.Processes.Holders = others
}

func (w *workstation) isolateByHand(t *rapid.T) {
	target := rapid.SampledFrom([]string{"desktop.target", "compute.target"}).Draw(t, "target")
	w.byItself(func() { w.host.isolate(target) })
}

var mortal = []string{
	"vllm.service", "audio-priority.service", "studio-local-policy.service", "display-manager.service", "desktop.target",
	"compute.target",
}

func (w *workstation) unitFails(t *rapid.T) {
	unit := rapid.SampledFrom(mortal).Draw(t, "unit")
	w.byItself(func() { w.host.stop(unit); w.host.set(unit, "failed") })
}

func (w *workstation) unitStarts(t *rapid.T) {
	unit := rapid.SampledFrom(append(mortal, quietTimer)).Draw(t, "unit")
	w.byItself(func() { w.host.start(unit) })
}

func (w *workstation) login(*rapid.T) {
	w.byItself(func() {
		if len(w.host.now.Logind.Sessions) > 0 {
			w.host.endSessions()
			return
		}
		w.host.now.Logind.Sessions = []observer.Session{
			{ID: "7", UID: 1000, User: "alice", Class: "user", Type: "wayland", Seat: "seat0"},
		}
	})
}
