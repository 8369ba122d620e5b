package daemon

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/internal/rapidtest"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// TestInvariants1To13: whatever people, the host and the daemon's own crashes do in
// whatever order, the invariants of docs/architecture.md that are about the controller
// hold after each of it. The state of the workstation comes from expectedState, which
// shares nothing with the controller.
func TestInvariants1To13(t *testing.T) {
	rapidtest.Quick(t, 40/sample, 20)
	synctest.Test(t, func(t *testing.T) {
		base, n := t.TempDir(), 0
		rapid.Check(struct{ rapid.TB }{t}, func(rt *rapid.T) {
			n++
			w := &workstation{T: rt, test: t, base: filepath.Join(base, fmt.Sprint(n)), boots: 1, desired: policy.Desktop}
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
				"request again":        w.requestAgain,
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
				"systemd goes away":    w.flip(func(h *fakeHost) { h.systemdDown = !h.systemdDown }),
				"vLLM is unhealthy":    w.flip(func(h *fakeHost) { h.unhealthy = !h.unhealthy }),
			})
		})
	})
}

// published checks every view. Invariant 12: what is observed follows from the facts,
// whatever is desired.
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
// at risk, unless the request names the guard.
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
	forbidden := playing && !slices.Contains(skip, policy.CheckAudioIdle) ||
		busy && !slices.Contains(skip, policy.CheckCPULoadSafe)
	if first && forbidden {
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
	mode, state := w.host.expectedState()
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
	for _, e := range events[w.checked:] {
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
	w.checked = len(events)
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

// invariant8: what is, what was requested and how the last one ended can be read at any
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
		t.Fatalf("invariant 8: desired is %q, %s was requested", desired, v.Desired.Mode)
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

// invariant10: what is desired is what somebody requested last, and nothing else.
func (w *workstation) invariant10(t *rapid.T, v status.View) {
	if v.Last != nil && v.Last.ID == w.lastID && v.Last.Result == status.Canceled && w.before != "" {
		w.desired, w.before = w.before, ""
	}
	if v.Desired.Mode != w.desired {
		t.Fatalf("invariant 10: %s is desired, %s was requested; last %+v", v.Desired.Mode, w.desired, v.Last)
	}
}

// invariant13: after a blocked transition what was desired is published, with what blocks it.
func (w *workstation) invariant13(t *rapid.T, v status.View) {
	if v.Last == nil || v.Last.ID != w.lastID || v.Last.Result != status.Blocked {
		return
	}
	if v.Desired.Mode != v.Last.To {
		t.Fatalf("invariant 13: %s was blocked, and %s is desired", v.Last.To, v.Desired.Mode)
	}
	if len(v.Last.Guards) == 0 {
		t.Fatalf("invariant 13: %s was blocked, and no guard is recorded", v.Last.To)
	}
}
