package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/internal/rapidtest"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// TestInvariants1To13: whatever people, the host and the daemon's own crashes do in
// whatever order, the invariants of docs/architecture.md that are about the engine
// hold after each of it. What a workstation is, is read from the host by reads, which
// shares nothing with the engine.
func TestInvariants1To13(t *testing.T) {
	rapidtest.Quick(t, 40/sample, 20)
	synctest.Test(t, func(t *testing.T) {
		base, n := t.TempDir(), 0
		rapid.Check(struct{ rapid.TB }{t}, func(rt *rapid.T) {
			n++
			w := &workstation{T: rt, test: t, base: filepath.Join(base, fmt.Sprint(n)), boots: 1, wish: policy.Desktop}
			w.host = newFakeHost(testPolicy(w.base))
			w.start()
			defer func() { w.r.stop() }()
			w.r.settle()
			rt.Repeat(map[string]func(*rapid.T){
				"":                     w.check,
				"request":              w.request,
				"request on":           w.request, // twice as often as the rest
				"request once more":    w.request,
				"cancel":               w.cancel,
				"ask again":            w.askAgain,
				"let it end":           func(*rapid.T) { w.settle() },
				"break":                w.breakSomething,
				"restart":              w.restart,
				"crash":                w.crash,
				"reboot":               w.reboot,
				"reload":               w.reload,
				"isolate by hand":      w.isolateByHand,
				"a unit fails":         w.unitFails,
				"a unit starts":        w.unitStarts,
				"log in or out":        w.login,
				"music":                w.flip(func(h *fakeHost) { h.playing = !h.playing }),
				"load":                 w.flip(loaded),
				"a program on the GPU": w.flip(occupied),
				"systemd goes away":    w.flip(func(h *fakeHost) { h.away = !h.away }),
				"vLLM is sick":         w.flip(func(h *fakeHost) { h.sick = !h.sick }),
			})
		})
	})
}

// workstation is a daemon with its host, and what is known of what it was asked.
type workstation struct {
	*rapid.T
	test  *testing.T
	base  string
	dirs  int
	boots int
	r     *rig
	dir   string
	host  *fakeHost
	// trust and studio are what was reloaded.
	change func(*policy.Policy)
	// wish is what was asked for, and before what was before that.
	wish, before policy.Mode
	asked        uint64 // the transition of the last request

	mu      sync.Mutex
	points  int // until the fault or the copy
	fault   string
	copied  *fakeHost
	copyDir string
	skip    []policy.GuardID
	begun   bool     // the transition has taken something
	broken  []string // what the daemon's goroutines saw
	heard   int      // events that were judged
}

// policy is short of patience.
func (w *workstation) policy(dir string) policy.Policy {
	p := testPolicy(dir)
	second := policy.Duration(time.Second)
	p.Timeouts.Unit, p.Timeouts.Isolate, p.Timeouts.GPURelease, p.Timeouts.Verify = 4*second, 4*second, 3*second, 3*second
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
	w.r = newRig(w.test, w.host, w.policy(w.dir), fmt.Sprintf("boot-%d", w.boots))
	w.r.dir, w.heard = w.dir, 0
	w.r.seen.views = w.published
	w.r.run() // it recovers at once, and asks w for faults
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

// point is before and after everything that a hand does.
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
	w.ask(t, r)
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

// ask asks, and notes what is asked for from then on.
func (w *workstation) ask(t *rapid.T, r status.Request) {
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
	case err == nil && id != w.asked:
		w.before, w.wish, w.asked = w.wish, r.Mode, id
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

// askAgain is invariant 3: asking for what is there harms nothing.
func (w *workstation) askAgain(t *rapid.T) {
	v := w.settle()
	mode := policy.Mode(v.Observation.State)
	if !slices.Contains(policy.Modes(), mode) {
		t.Skip("in no mode")
	}
	w.ask(t, status.Request{Mode: mode, UID: 1000, EndOthers: true, LeaveCompute: true})
	first := *w.settle().Last
	before := w.host.effects()
	w.ask(t, status.Request{Mode: mode, UID: 1000, EndOthers: true, LeaveCompute: true})
	again := w.settle().Last
	if differ := w.host.effects().not(before); len(differ) > 0 {
		t.Fatalf("invariant 3: asking for %s twice (%s, %s) changed %v", mode, first.Result, again.Result, differ)
	}
	if first.Result.Reached() && again.Result != status.Noop {
		t.Fatalf("invariant 3: %s was there, and asking for it was %s: %s", mode, again.Result, again.Cause)
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

// crash asks for a mode and dies at some point on the way.
func (w *workstation) crash(t *rapid.T) {
	w.settle()
	w.dirs++
	w.mu.Lock()
	w.fault, w.points = "die", rapid.IntRange(1, 40).Draw(t, "when")
	w.copied, w.copyDir = nil, filepath.Join(w.base, fmt.Sprint(w.dirs))
	w.mu.Unlock()
	w.ask(
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
	if v := w.settle(); v.Last == nil || v.Last.ID != w.asked || v.Last.Result != status.Interrupted &&
		v.Last.Result != status.RollbackFailed {
		t.Fatalf("invariant 2: the daemon died in transition %d, and the last is %+v", w.asked, v.Last)
	}
}

func (w *workstation) reboot(*rapid.T) {
	w.r.stop()
	require.NoError(w.test, os.RemoveAll(filepath.Join(w.dir, "run")))
	w.boots++
	w.host = newFakeHost(w.policy(w.dir))
	w.wish = policy.Desktop
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

// byItself is something that nobody asked the daemon for: it may see it, and does
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

// published sees every view. Invariant 12: what is observed is what the facts say,
// whatever is wished for.
func (w *workstation) published(v status.View) {
	if want := observer.Classify(
		v.Policy.Policy, v.Snapshot, v.Observation.Context, v.Observation.At,
	); !reflect.DeepEqual(want, v.Observation) {
		w.violated("invariant 12: %s is published, and the facts say %s", v.Observation.State, want.State)
	}
	if v.Running != nil && v.Observation.Context.InFlight && v.Observation.State != observer.Transitioning {
		w.violated("invariant 12: %s is published while a transition runs", v.Observation.State)
	}
}

// invariant7: nothing is taken from people for compute while they or their audio are
// at risk, unless somebody says so by name.
func (w *workstation) invariant7(when, what string) {
	taking := slices.Contains([]string{"apply stop-display-manager", "apply end-sessions", "apply isolate-compute"}, what)
	running := w.r.View().Running
	if when != "before" || !taking || running == nil || running.To != policy.Compute {
		return
	}
	w.mu.Lock()
	first := !w.begun
	w.begun = true
	skip := w.skip
	w.mu.Unlock()
	h := w.host.clone()
	people := len(h.now.Logind.Sessions) > 0 // a display manager that nobody sits at takes nothing along
	playing := h.playing && people
	busy := *h.now.Procfs.LoadPerCore.Value > 4 && people
	if first && (playing && !slices.Contains(skip, policy.CheckAudioIdle) || busy && !slices.Contains(skip, policy.CheckCPULoadSafe)) {
		w.violated("invariant 7: %s, playing is %v and busy is %v", what, playing, busy)
	}
}

// check is made after every action.
func (w *workstation) check(t *rapid.T) {
	synctest.Wait()
	v := w.r.View()
	if v.Running == nil {
		v = w.r.settle()
	}
	w.mu.Lock()
	broken := w.broken
	w.mu.Unlock()
	if len(broken) > 0 {
		t.Fatal(strings.Join(broken, "\n"))
	}
	w.endings(t)
	w.invariant8(t, v)
	if v.Running != nil {
		return
	}
	mode, state := w.host.reads()
	w.invariants1And11(t, v, mode, state)
	w.invariant2(t, v)
	w.invariants4To6(t, v)
	w.invariant9(t, v)
	w.invariant10(t, v)
	w.invariant13(t, v)
}

// endings is invariant 2, of every transition that has ended: it reached a stable
// target that was observed, or went back to where it came from, or says what stands
// in the way.
func (w *workstation) endings(t *rapid.T) {
	events := w.r.seen.all()
	for _, e := range events[w.heard:] {
		r := e.Finished
		if r == nil {
			continue
		}
		same := r.Final == r.From || r.Final == observer.DegradedOf(
			policy.Mode(strings.TrimPrefix(string(r.From), "degraded-")),
		) ||
			string(r.Final) == strings.TrimPrefix(string(r.From), "degraded-")
		// A mode whose facts contradict each other is unknown; without the contradiction it
		// is what it was.
		if mode := policy.Mode(strings.TrimPrefix(string(r.Final), "degraded-")); r.From == observer.StateUnknown &&
			slices.Contains(policy.Modes(), mode) {
			same = true
		}
		switch r.Result {
		case status.Success, status.Noop:
			if r.Final != observer.Of(r.To) {
				t.Fatalf("invariant 2: %s to %s ended in %s", r.Result, r.To, r.Final)
			}
		case status.RolledBack:
			if !same {
				t.Fatalf("invariant 2: rolled back from %s to %s", r.From, r.Final)
			}
		default:
			if r.Cause == "" {
				t.Fatalf("invariant 2: %s without a cause", r.Result)
			}
		}
		if r.Result == status.Success && r.To == policy.StudioLocal && w.r.View().Policy.Placement.Studio == policy.Remote {
			t.Fatalf("invariant 9: studio-local was entered although the studio is on another machine")
		}
	}
	w.heard = len(events)
}

// invariant2: at rest nothing is left half done, and nothing runs.
func (w *workstation) invariant2(t *rapid.T, _ status.View) {
	if _, err := os.Stat(filepath.Join(w.dir, "state", "transition.json")); err == nil {
		t.Fatalf("invariant 2: nothing runs, and there is a journal")
	}
}

// invariants1And11: at most one mode is claimed, and the claim is the host's own.
func (w *workstation) invariants1And11(t *rapid.T, v status.View, mode policy.Mode, state observer.State) {
	if v.Policy.Placement.Studio == policy.Remote && mode == policy.StudioLocal && state == "studio-local" {
		state = "degraded-studio-local"
	}
	if v.Last != nil && v.Last.Result.LeavesDoubt() &&
		!v.Last.Restarted && (mode != v.Desired.Mode || state == "unknown") {
		state = observer.FailedTransition
	}
	if v.Observation.State != state {
		t.Fatalf("invariant 11: %s is observed, and the host is %s (%v)", v.Observation.State, state, v.Observation.Reasons)
	}
	h := w.host.clone()
	up := func(unit string) bool { return h.now.Systemd.Units[unit].Active() }
	if slices.Contains(policy.Modes(), policy.Mode(v.Observation.State)) && up("desktop.target") == up("compute.target") {
		t.Fatalf("invariant 1: %s is claimed, and both targets are up, or none", v.Observation.State)
	}
}

// invariants4To6 are what the modes promise of audio, sessions and GPUs.
func (w *workstation) invariants4To6(t *rapid.T, v status.View) {
	h := w.host.clone()
	up := func(unit string) bool { return h.now.Systemd.Units[unit].Active() }
	switch v.Observation.State {
	case "studio-local":
		if up("vllm.service") || up(quietTimer) || !up("audio-priority.service") {
			t.Fatalf("invariant 4: studio-local with vLLM %v, maintenance %v, priority for audio %v",
				up("vllm.service"), up(quietTimer), up("audio-priority.service"))
		}
	case "compute":
		if len(h.now.Logind.Sessions) > 0 || up("display-manager.service") {
			t.Fatalf("invariant 5: compute with somebody at the screen")
		}
		if len(h.now.Processes.Holders) > 0 {
			t.Fatalf("invariant 6: compute with a display GPU that is held")
		}
	case "desktop":
		if up("vllm.service") {
			t.Fatalf("invariant 6: desktop with inference on its GPU")
		}
	}
}

// invariant8: what is, what was asked and how the last went can be found out at any
// time, without the daemon too.
func (w *workstation) invariant8(t *rapid.T, v status.View) {
	states := []string{"boot", "unknown", "transitioning", "failed-transition"}
	for _, m := range policy.Modes() {
		states = append(states, string(m), "degraded-"+string(m))
	}
	if current := word(w.test, w.r, "current"); !slices.Contains(states, current) || v.Running == nil &&
		current != string(v.Observation.State) {
		t.Fatalf("invariant 8: current is %q, %s is observed", current, v.Observation.State)
	}
	if desired := word(w.test, w.r, "desired"); desired != string(v.Desired.Mode) {
		t.Fatalf("invariant 8: desired is %q, %s was asked", desired, v.Desired.Mode)
	}
	var last status.Record
	if v.Last != nil {
		if err := json.Unmarshal([]byte(word(w.test, w.r, "last-transition.json")), &last); err != nil ||
			last.ID != v.Last.ID || last.Result != v.Last.Result {
			t.Fatalf(
				"invariant 8: the last transition is %d %s, in the file %d %s (%v)", v.Last.ID, v.Last.Result, last.ID, last.Result,
				err,
			)
		}
	}
}

// invariant9: a studio that is on another machine is not claimed to be here, and the
// way to desktop is open.
func (w *workstation) invariant9(t *rapid.T, v status.View) {
	if v.Policy.Placement.Studio == policy.Remote && v.Observation.State == "studio-local" {
		t.Fatalf("invariant 9: studio-local, and the studio is on another machine")
	}
}

// invariant10: what is desired is what somebody asked for last, and nothing else.
func (w *workstation) invariant10(t *rapid.T, v status.View) {
	if v.Last != nil && v.Last.ID == w.asked && v.Last.Result == status.Canceled && w.before != "" {
		w.wish, w.before = w.before, ""
	}
	if v.Desired.Mode != w.wish {
		t.Fatalf("invariant 10: %s is desired, %s was asked for; last %+v", v.Desired.Mode, w.wish, v.Last)
	}
}

// invariant13: a blocked transition leaves the wish to be seen, with what blocks it.
func (w *workstation) invariant13(t *rapid.T, v status.View) {
	if v.Last == nil || v.Last.ID != w.asked || v.Last.Result != status.Blocked {
		return
	}
	if v.Desired.Mode != v.Last.To {
		t.Fatalf("invariant 13: %s was blocked, and %s is desired", v.Last.To, v.Desired.Mode)
	}
	if len(v.Last.Guards) == 0 {
		t.Fatalf("invariant 13: %s was blocked, and nobody says by what", v.Last.To)
	}
}
