package render

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// golden compares got with testdata/NAME.golden; UPDATE_GOLDEN=1 writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if os.Getenv("UPDATE_GOLDEN") == "1" {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), got, "UPDATE_GOLDEN=1 go test %s writes it", "./cmd/modectl/render")
}

var (
	zone = time.FixedZone("CET", 3600)
	now  = time.Date(2026, 11, 22, 14, 30, 0, 0, zone)
)

func before(d time.Duration) time.Time { return now.Add(-d) }

var masked = guards.Verdict{
	Guard: policy.CheckTargetReachable, Code: 18, Hard: true,
	Reason: "compute.target is masked", Remedy: "systemctl unmask compute.target", Evidence: []string{"LoadState=masked"},
}

var unjudged = guards.Verdict{
	Guard: policy.CheckGPUDisplayReleased, Code: 21, Hard: true,
	Reason: "the holders probe did not answer", Remedy: "systemctl status dubnium-probe-holders.socket",
}

var passed = guards.Verdict{Guard: policy.CheckGraphicalSessionTerminable, OK: true, Hard: true}

// ended is a transition to compute that ended so.
func ended(result status.Result, final observer.State) status.Record {
	return status.Record{
		ID: 7, From: "desktop", To: policy.Compute, Final: final, Result: result, Origin: status.OriginOperator,
		By: "uid 1000 (alice)", Why: "nightly batch", Started: before(10 * time.Minute),
		Finished: before(9*time.Minute + 26*time.Second),
	}
}

func facts(known ...observer.Signal) observer.Facts {
	f := observer.Facts{observer.VLLMHealthy: {Reason: "no answer from 127.0.0.1:8000"}}
	for _, s := range known {
		f[s] = observer.Fact{Truth: observer.True}
	}
	return f
}

func view(state observer.State, desired policy.Mode) status.View {
	return status.View{
		Desired: status.Desired{
			Mode: desired, Origin: status.OriginOperator, By: "uid 1000 (alice)", Since: before(10 * time.Minute),
		},
		Observation: observer.Observation{
			State: state, Confidence: observer.High, At: before(2 * time.Second), Facts: facts(
				observer.DesktopTarget, observer.GraphicalSession,
			),
		},
		ObservedSince: before(3 * time.Hour),
	}
}

// views are what `modectl status` may have to show.
func views() map[string]status.View {
	asDesired := view("desktop", policy.Desktop)

	firstStart := view("boot", "")
	firstStart.Desired, firstStart.ObservedSince = status.Desired{}, time.Time{}
	firstStart.Observation.Confidence = observer.Low
	firstStart.Observation.Reasons = []observer.Reason{{Code: "manager-starting", Text: "the manager is starting"}}

	blocked := view("desktop", policy.Compute)
	refusal := ended(status.Blocked, "desktop")
	refusal.Cause = "check_target_reachable: compute.target is masked"
	refusal.Guards = []guards.Verdict{passed, masked, unjudged}
	blocked.Last, blocked.BlockedBy = &refusal, refusal.Guards

	running := view("transitioning", policy.Compute)
	running.Running = &status.Transition{
		ID: 8, From: "desktop", To: policy.Compute, Origin: status.OriginOperator, By: "uid 1000 (alice)",
		Phase: status.PhaseActing, Step: "isolate", StepIndex: 2, StepCount: 7, Started: before(12 * time.Second),
	}
	begun := view("transitioning", policy.Compute)
	begun.Running = &status.Transition{
		ID: 8, From: "desktop", To: policy.Compute, Phase: status.PhaseObserving, Started: now, By: "uid 0 (root)",
	}

	degraded := view("degraded-compute", policy.Compute)
	degraded.Observation.Inferred = policy.Compute
	degraded.Observation.Reasons = []observer.Reason{
		{Code: "vllm-not-healthy", Text: "vLLM is not healthy: /health answered 503"},
	}
	partly := ended(status.Degraded, "degraded-compute")
	partly.Cause = "vLLM was not healthy within 20m0s"
	degraded.Last = &partly

	failed := view("failed-transition", policy.Desktop)
	failed.Observation.Conflicts = []observer.Reason{
		{Code: "two-mode-targets", Text: "the desktop target and the compute target are both active"},
	}
	failed.Observation.Reasons = failed.Observation.Conflicts

	warned := view("desktop", policy.Desktop)
	warned.Warnings = []observer.Reason{
		{Code: status.WarnHistory, Text: "cannot write the history: no space left on device; 3 entries wait in memory"},
	}

	hostile := view("desktop", policy.Compute)
	hostile.Observation.Reasons = []observer.Reason{
		{Code: "display-held", Text: "\x1b[2Jevil\n(pid 7) holds 0000:01:00.0"},
	}
	hostile.Desired.By = "uid 1000 (al\x07ice)"

	drifted := view("studio-local", policy.Desktop)

	leased := view("compute", policy.Compute)
	leased.Lease = &status.Lease{
		ID: 7, Mode: policy.Compute, BackTo: policy.Desktop, By: "uid 1000 (al\x07ice)", For: 4 * time.Hour,
		UntilIdle: 30 * time.Minute, Confirm: 5 * time.Minute,
		Until: now.Add(4 * time.Hour), ConfirmBy: now.Add(5 * time.Minute), IdleSince: before(time.Minute),
	}
	pendingLease := view("transitioning", policy.Compute)
	pendingLease.Running = begun.Running
	pendingLease.Lease = &status.Lease{
		ID: 8, Mode: policy.Compute, BackTo: policy.Desktop, By: "uid 0 (root)", For: time.Hour, UntilIdle: time.Minute,
		Confirm: time.Minute,
	}
	overdue := view("compute", policy.Compute)
	overdue.Lease = &status.Lease{
		ID: 7, Mode: policy.Compute, BackTo: policy.Desktop, By: "uid 0 (root)", Confirm: 5 * time.Minute,
		ConfirmBy:     before(time.Minute),
		ExpiredReason: "nobody confirmed it within 5m0s", LastFailure: "inhibited: check_no_inhibitor: ba\x1bckup",
		Attempts: 2, Next: now.Add(time.Minute),
	}
	returning := overdue
	returning.Lease = &status.Lease{
		ID: 7, Mode: policy.Compute, BackTo: policy.Desktop, By: "uid 0 (root)", For: time.Hour,
		ExpiredReason: "it was asked for 1h0m0s",
	}
	armed := view("degraded-compute", policy.Compute)
	armed.Reconcile = status.AutoReconcile{
		Enabled: true, Armed: true, Next: now.Add(time.Minute), Attempts: 1,
		Refusal: "transition 7 ended rolled-back: start-vllm",
	}
	unarmed := view("desktop", policy.Compute)
	unarmed.Reconcile = status.AutoReconcile{
		Enabled: true, Refusal: "the way to compute ends sessions (end-sessions): only a person may request that",
	}

	externalized := view("degraded-studio-local", policy.StudioLocal)
	externalized.Observation.Reasons = []observer.Reason{
		{Code: "studio-externalized", Text: "the policy places the studio on another machine (placement.studio)"},
	}
	externalized.Placement = map[string]policy.Place{"studio": policy.Remote, "ai": policy.Local, "platform": "mo\x1bon"}
	externalized.Topology = observer.Topology{
		Known: true, Planned: []string{"0000:41:00.0"}, Present: []string{"0000:01:00.0"}, Missing: []string{"0000:41:00.0"},
		Display: []string{"0000:01:00.0"}, AI: map[policy.Mode][]string{
			policy.Desktop: nil, policy.Compute: {"0000:41:00.0"},
		}, MinAI: 1,
	}
	return map[string]status.View{
		"as-desired": asDesired, "first-start": firstStart, "blocked": blocked, "running": running, "begun": begun,
		"degraded": degraded, "failed": failed, "hostile": hostile, "drifted": drifted, "warned": warned,
		"externalized": externalized, "leased": leased, "lease-pending": pendingLease, "lease-overdue": overdue,
		"lease-over": returning,
		"armed":      armed, "unarmed": unarmed,
	}
}

func TestStatusForPeopleAndScripts(t *testing.T) {
	for name, v := range views() {
		t.Run(name, func(t *testing.T) {
			text := Status(v, now)
			require.NotContains(t, text, "\x1b")
			golden(t, "status-"+name, text)
			golden(t, "status-"+name+".json", StatusJSON(busapi.Properties{Version: "1.2.3", Modes: policy.Modes(), View: v}))
		})
	}
}

func TestCurrentForScripts(t *testing.T) {
	v := views()["degraded"]
	golden(t, "current.json", CurrentJSON(v.Observation, v.ObservedSince))
	golden(
		t, "current-nothing-known.json",
		CurrentJSON(observer.Observation{State: "boot", Confidence: observer.Low}, time.Time{}),
	)
	golden(t, "desired.json", DesiredJSON(v.Desired))
	require.Equal(t, "degraded-compute\n", Word(v.Observation.State))
}

func TestEveryResultSaysWhatBecameOfTheHost(t *testing.T) {
	finals := map[status.Result]observer.State{
		status.Success: "compute", status.Noop: "compute", status.Blocked: "desktop", status.Inhibited: "desktop",
		status.Canceled: "desktop", status.Failed: "failed-transition", status.TimedOut: "failed-transition",
		status.RolledBack: "desktop", status.RollbackFailed: "failed-transition", status.Degraded: "degraded-compute",
		status.Interrupted: "unknown", "of-a-newer-daemon": "desktop",
	}
	var all strings.Builder
	for _, result := range []status.Result{
		status.Success, status.Noop, status.Blocked, status.Inhibited, status.Canceled, status.Failed, status.TimedOut,
		status.RolledBack, status.RollbackFailed, status.Degraded, status.Interrupted, "of-a-newer-daemon",
	} {
		all.WriteString(Finished(ended(result, finals[result])))
	}
	golden(t, "finished", all.String())
}

func TestABlockedRequestSaysWhatWouldClearIt(t *testing.T) {
	r := ended(status.Blocked, "desktop")
	r.Cause = "check_target_reachable: compute.target is masked" // the guard says it better
	r.Guards = []guards.Verdict{passed, masked, unjudged}
	golden(t, "finished-blocked", Finished(r))
	golden(t, "finished-blocked.json", FinishedJSON(r))
}

func TestAFailedStepIsNamedWithItsError(t *testing.T) {
	r := ended(status.RolledBack, "desktop")
	r.Cause = "start vllm.service failed"
	r.Steps = []status.Step{
		{ID: "isolate", Status: status.StepUndone, Started: before(10 * time.Minute), Finished: before(9 * time.Minute)},
		{ID: "start-vllm", Status: status.StepFailed, Error: "vllm.service entered failed", Started: before(9 * time.Minute)},
		{ID: "await-healthy", Status: status.StepPending},
	}
	golden(t, "finished-rolled-back", Finished(r))
	golden(t, "finished-rolled-back.json", FinishedJSON(r))
}

func TestHistoryIsATable(t *testing.T) {
	refusal := ended(status.Blocked, "desktop")
	refusal.Guards = []guards.Verdict{masked}
	back := status.Record{
		ID: 6, From: "compute", To: policy.Desktop, Final: "desktop", Result: status.Success, By: "uid 0 (root)",
		Finished: before(50 * time.Hour),
	}
	golden(t, "history", History([]status.Record{refusal, back}))
	golden(t, "history.json", HistoryJSON([]status.Record{refusal, back}))
	require.Equal(t, "no transition yet\n", History(nil))
	require.Empty(t, HistoryJSON(nil), "no line for none")
}

func TestAcceptedAndSteps(t *testing.T) {
	require.Equal(t, "accepted: transition 7\n", Accepted(7))
	require.JSONEq(t, `{"id": 7}`, AcceptedJSON(7))
	require.Equal(
		t, "[3/7] isolate: doing",
		Step(status.StepEvent{ID: 7, Index: 2, Count: 7, Step: "isolate", Status: status.StepDoing}),
	)
}

func TestHowLongAgo(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "in the future", 0: "0 s ago", 59 * time.Second: "59 s ago", time.Minute: "1 min ago",
		time.Hour: "1 h ago", 47 * time.Hour: "47 h ago", 48 * time.Hour: "2 days ago",
	} {
		require.Equal(t, want, ago(d))
	}
	require.Equal(t, "1.2s", took(before(1234*time.Millisecond), now))
	require.Equal(t, "1m14s", took(before(74*time.Second), now))
	require.Empty(t, took(time.Time{}, now))
}

// seen is a compute that alice's game stands in the way of.
func seen() (observer.Observation, observer.Snapshot) {
	read := observer.Reading{At: before(3 * time.Minute).UTC()}
	load := 0.25
	s := observer.Snapshot{
		Systemd: observer.Systemd{Reading: read, State: "running", Units: map[string]observer.Unit{
			"compute.target": {ID: "compute.target", LoadState: "loaded", ActiveState: "active", SubState: "active"},
			"desktop.target": {ID: "desktop.target", LoadState: "loaded", ActiveState: "inactive"},
		}},
		Logind: observer.Logind{
			Reading:  read,
			Sessions: []observer.Session{{ID: "4", User: "alice", UID: 1000, Class: "user", Type: "tty", State: "active"}},
		},
		Processes: observer.ProcessScan{
			Reading: read, GPUs: []observer.GPU{{PCI: "0000:01:00.0", Display: true, Driver: "nvidia", Audio: "0000:01:00.1"}},
			Holders: []observer.Holder{
				{GPU: "0000:01:00.0", PID: 900, Command: "ga\x1bme", UID: 1000, Unit: "session-4.scope", Nodes: []string{"card0"}},
			},
		},
		GPU: observer.NVML{Reading: read, Driver: true, Cards: []observer.Card{
			{PCI: "0000:01:00.0", UUID: "GPU-1", Name: "RTX", MemoryUsed: observer.Measure{Value: &load}},
			{Reason: "card 1 cannot be opened: GPU is lost (NVML error 15)"},
		}},
		Inference: observer.Inference{Reading: observer.Reading{At: read.At, Reason: "the probe did not answer"}},
		Procfs: observer.Procfs{
			Reading: read, LoadPerCore: observer.Measure{Value: &load}, PressureIO: observer.Measure{Reason: "no PSI"},
		},
		Saved: observer.SavedState{
			Reading: read, Slices: map[string]policy.Properties{
				"user.slice": {policy.CPUWeight: "", policy.MemoryHigh: policy.Infinity},
			},
			Quiesced: []string{"fstrim.timer"},
		},
		Audio: observer.Audio{Reading: read, Servers: []observer.AudioServer{{
			Reading: read, UID: 1000, Running: true, Name: "PulseAudio (on PipeWire 1.4.2)",
			Streams: []observer.AudioStream{{Direction: observer.Playback, Application: "mpv", Media: "so\x1bng", PID: 901}},
			JACK:    []observer.JACKClient{{Application: "REAPER", PID: 902}},
			Devices: []observer.AudioDevice{{Direction: observer.Playback, Name: "speakers", State: "RUNNING"}},
		}}},
	}
	s.Processes.SoundComplete = true
	s.Processes.PCMs = []observer.PCM{
		{Name: "card0/pcm0p/sub0", Process: observer.Process{PID: 903, Command: "aplay", UID: 1000}},
	}
	return observer.Classify(policy.Default(), s, observer.Context{Desired: policy.Compute}, now.UTC()), s
}

func TestTheEvidenceIsThereInFull(t *testing.T) {
	o, s := seen()
	golden(
		t, "evidence.json",
		EvidenceJSON(busapi.Evidence{Observation: o, Since: before(time.Hour), Snapshot: s, Fingerprint: "f00"}),
	)
}

func TestExplanations(t *testing.T) {
	o, _ := seen()
	e := observer.Explain(policy.Default(), o)
	golden(t, "explain", Explanation(e))
	golden(t, "explain-mode", Explanation(e.Of(policy.Default(), policy.StudioLocal)))
	golden(t, "explain-why-not", WhyNot(e.Of(policy.Default(), policy.Compute)))
	golden(t, "explain.json", ExplanationJSON(e.Of(policy.Default(), policy.Compute)))
	contracted := policy.Default()
	contracted.Transitions, contracted.Placement.Studio = policy.TrustOverlay, policy.Remote
	contracted.GPU = policy.GPU{
		Display: []string{"0000:01:00.0"}, AI: []string{"0000:01:00.0", "0000:41:00.0"}, Planned: []string{"0000:41:00.0"},
		MinAI: 1,
	}
	contracted.VLLM.Profiles["fast"] = policy.Profile{Unit: "vllm-fast.service"}
	contracted.Guards.ModelStore = "/srv/models"
	contracted.Modes.Compute = policy.Contract{
		Required: []string{"k3s.service"}, Forbidden: []string{"cups.service"}, StopForbidden: true,
		VLLMProfile: "fast",
	}
	var all strings.Builder
	for _, mode := range policy.Modes() {
		c := observer.ContractOf(contracted, mode)
		c.Latency, c.Security = c.Latency+"\x1b", c.Security+"\n"
		all.WriteString(contract(mode, *c))
	}
	require.NotContains(t, all.String(), "\x1b")
	golden(t, "contracts", all.String())
	golden(
		t, "contract.json", ExplanationJSON(observer.Explanation{Contract: observer.ContractOf(contracted, policy.Compute)}),
	)
	e.Modes = []observer.WhyNot{{Mode: policy.Compute, Observed: true}}
	require.Equal(t, "compute is observed\n", WhyNot(e))
}

func TestVerdictsAreATableAndSayWhatWouldClearThem(t *testing.T) {
	hostile := guards.Verdict{
		Guard: policy.CheckAudioIdle, Code: 10, Hard: true, Reason: "playback of m\x1b[2Jpv", Remedy: "stop it",
		Evidence: []string{"a\nb"},
	}
	reachable := guards.Verdict{
		Guard: policy.CheckGraphicalSessionTerminable, OK: true, Hard: true, Reason: "all may be ended",
	}
	all := []guards.Verdict{masked, unjudged, reachable, hostile}
	golden(t, "guards", Guards(all)+"--\n"+Guards([]guards.Verdict{reachable})+"--\n"+Guards(nil))
	golden(t, "guards.json", GuardsJSON(all)+GuardsJSON(nil))
	golden(t, "guard.json", GuardLines(all))
}
