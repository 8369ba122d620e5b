package observer

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/dubnium/dubnium/policy"
)

var readAt = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// claims lists the facts that each mode requires. It is written down independently of the code.
var claims = map[policy.Mode]map[Signal]Truth{
	policy.Desktop: {
		ManagerStarted: True, DesktopTarget: True, ComputeTarget: False, StudioPolicy: False,
		DesktopPresence: True, VLLMActive: False, AudioPriority: False,
	},
	policy.StudioLocal: {
		ManagerStarted: True, DesktopTarget: True, ComputeTarget: False, StudioPolicy: True,
		GraphicalSession: True, VLLMActive: False, AudioPriority: True, AudioStack: True,
	},
	policy.Compute: {
		ManagerStarted: True, ComputeTarget: True, DesktopTarget: False, StudioPolicy: False,
		GraphicalSession: False, Greeter: False, DisplayManager: False, DisplayReleased: True,
		VLLMActive: True, VLLMHealthy: True,
	},
}

// loggedInClaims is what a mode requires in addition while somebody is logged in.
var loggedInClaims = map[policy.Mode]map[Signal]Truth{policy.Desktop: {AudioStack: True}}

func kept(m policy.Mode, f Facts) bool {
	holds := func(promise map[Signal]Truth) bool {
		for s, want := range promise {
			if f.Is(s) != want {
				return false
			}
		}
		return true
	}
	return holds(claims[m]) && (f.Is(GraphicalSession) != True || f[AudioStack].Grace || holds(loggedInClaims[m]))
}

var allFacts = []Signal{
	ManagerStarted, DesktopTarget, ComputeTarget, GraphicalSession, Greeter, DisplayManager,
	StudioPolicy, AudioPriority, VLLMActive, VLLMHealthy, DisplayReleased,
}

// TestClassifyExhaustive: every combination of the facts has a state in every context. It is a mode
// exactly if all facts of its contract hold and the context permits it.
func TestClassifyExhaustive(t *testing.T) {
	p := policy.Default()
	combinations := 1
	for range allFacts {
		combinations *= 3
	}
	named := 0
	f, all := Facts{}, contexts()
	for n := range combinations {
		number(f, n)
		for _, audio := range audioStacks(f, n) {
			f[AudioStack] = audio
			holds := holding(f)
			for _, c := range all {
				o := decide(p, f, c, readAt)
				if fault := violation(o, holds, c); fault != "" {
					require.Failf(t, "wrong observation", "%s\nfacts %v\ncontext %+v\nobservation %+v", fault, f, c, o)
				}
				if mode, err := policy.ParseMode(string(o.State)); err == nil && o.Is(mode) {
					named++
				}
			}
		}
	}
	assert.Positive(t, named)
	t.Logf("%d combinations of facts, %d observations with a mode's own name", combinations, named)
}

// number sets the facts to combination n: each digit of n in base 3 is the truth of one signal.
func number(f Facts, n int) {
	for _, s := range allFacts {
		f[s] = numbered(Truth(n % 3))
		n /= 3
	}
	f[DesktopPresence] = f.presence()
}

func numbered(t Truth) Fact { return Fact{Truth: t, Source: "test", At: readAt, Reason: "as numbered"} }

func contexts() []Context {
	all := []Context{{InFlight: true}}
	for _, m := range policy.Modes() {
		all = append(all, Context{Desired: m}, Context{Desired: m, LastFailed: true})
	}
	return all
}

// holding lists the modes whose contract the facts meet.
func holding(f Facts) []policy.Mode {
	return slices.DeleteFunc(policy.Modes(), func(m policy.Mode) bool { return !kept(m, f) })
}

// violation returns what is wrong with an observation of a host that meets the contracts of these
// modes, empty for nothing.
func violation(o Observation, holding []policy.Mode, c Context) string {
	if o.State == "" || o.Confidence == "" {
		return "no state"
	}
	for _, m := range policy.Modes() {
		holds := slices.Contains(holding, m)
		switch {
		case o.Is(m) && !holds:
			return fmt.Sprintf("%s is claimed while its contract does not hold", m)
		case o.Is(m) && c.InFlight:
			return fmt.Sprintf("%s is claimed during a transition", m)
		case !o.Is(m) && holds && allRead(o.Facts) && !c.InFlight && (!c.LastFailed || c.Desired == m):
			return fmt.Sprintf("%s is not observed though its contract holds", m)
		}
	}
	if settled := o.State != Transitioning && o.State != Boot; settled &&
		len(o.Reasons) == 0 && !slices.Contains(holding, o.Inferred) {
		return "a state that is not a mode has no reason"
	}
	return ""
}

// allRead reports whether every source has been read once. Until then the state is boot.
func allRead(f Facts) bool {
	for _, s := range decidingSources {
		if f[s].At.IsZero() {
			return false
		}
	}
	return true
}

// TestClassifyProperty: the same over whole snapshots, from which the facts are derived.
func TestClassifyProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := policy.Default()
		s := genSnapshot(p).Draw(t, "snapshot")
		c := rapid.SampledFrom(contexts()).Draw(t, "context")
		o := Classify(p, s, c, readAt)
		if fault := violation(o, holding(o.Facts), c); fault != "" {
			t.Fatalf("%s: %+v", fault, o)
		}
		for source, r := range map[string]Reading{"systemd": s.Systemd.Reading, "logind": s.Logind.Reading} {
			if _, err := policy.ParseMode(string(o.State)); err == nil &&
				!r.Known() && (source == "systemd" || o.Inferred != policy.Desktop) {
				t.Fatalf("%s is claimed while nothing is known from %s", o.State, source)
			}
		}
	})
}

func genSnapshot(p policy.Policy) *rapid.Generator[Snapshot] {
	return rapid.Custom(func(t *rapid.T) Snapshot {
		s := Snapshot{
			Systemd: Systemd{Reading: genReading(t, "systemd"), Units: map[string]Unit{}},
			Logind:  Logind{Reading: genReading(t, "logind")},
			Processes: ProcessScan{
				Reading: genReading(t, "holders"), GPUs: []GPU{{PCI: "0000:01:00.0", Display: true}, {PCI: "0000:02:00.0"}},
			},
			Inference: Inference{Reading: genReading(t, "inference"), Healthy: rapid.Bool().Draw(t, "healthy")},
		}
		s.Systemd.State = rapid.SampledFrom([]string{"starting", "running", "degraded", "stopping"}).Draw(t, "manager")
		u := p.Units
		for _, name := range []string{
			u.DesktopTarget, u.ComputeTarget, u.DisplayManager, "vllm.service", u.StudioPolicy, u.AudioPriority,
			"graphical.target",
		} {
			if rapid.IntRange(0, 9).Draw(t, "read "+name) > 0 {
				s.Systemd.Units[name] = Unit{ID: name, LoadState: "loaded", ActiveState: rapid.SampledFrom(
					[]string{"active", "inactive", "inactive", "failed", "activating", "deactivating", "a new word"}).Draw(t, name)}
			}
		}
		s.Logind.Sessions = rapid.SliceOfN(rapid.Custom(genSession), 0, 3).Draw(t, "sessions")
		s.Processes.Holders = rapid.SliceOfN(rapid.Custom(genHolder), 0, 2).Draw(t, "holders")
		s.Audio = genAudio(t)
		return s
	})
}

func genReading(t *rapid.T, source string) Reading {
	switch rapid.IntRange(0, 9).Draw(t, source+" reading") {
	case 0:
		return Reading{}
	case 1:
		return Reading{At: readAt, Reason: "it did not answer"}
	}
	return Reading{At: readAt}
}

func genSession(t *rapid.T) Session {
	return Session{
		ID:    rapid.StringMatching(`c?[1-9]`).Draw(t, "id"),
		UID:   rapid.Uint32Range(1000, 1001).Draw(t, "uid"),
		Class: rapid.SampledFrom([]string{"user", "greeter", "manager", "background", "quantum"}).Draw(t, "class"),
		Type:  rapid.SampledFrom([]string{"wayland", "x11", "tty", "unspecified", "hologram"}).Draw(t, "type"),
		State: rapid.SampledFrom([]string{"active", "online", "closing"}).Draw(t, "state"),
		Seat:  rapid.SampledFrom([]string{"seat0", ""}).Draw(t, "seat"),
		Since: rapid.SampledFrom(
			[]time.Time{{}, readAt.Add(-time.Hour), readAt.Add(-time.Second), readAt.Add(time.Second)},
		).Draw(t, "since"),
	}
}

func genHolder(t *rapid.T) Holder {
	return Holder{
		GPU:  rapid.SampledFrom([]string{"0000:01:00.0", "0000:02:00.0"}).Draw(t, "gpu"),
		PID:  rapid.IntRange(1, 3).Draw(t, "pid"),
		Unit: rapid.SampledFrom([]string{"session-2.scope", "systemd-logind.service", "vllm.service"}).Draw(t, "unit"),
	}
}

// failed is the context after a failed transition to compute.
var failed = Context{LastFailed: true, Desired: policy.Compute}

// desktop is a snapshot of a healthy desktop with alice logged in.
func desktop() Snapshot {
	p := policy.Default()
	active, down := Unit{LoadState: "loaded", ActiveState: "active"}, Unit{LoadState: "loaded", ActiveState: "inactive"}
	return Snapshot{
		Systemd: Systemd{Reading: Reading{At: readAt}, State: "running", Units: map[string]Unit{
			"graphical.target": active, p.Units.DesktopTarget: active, p.Units.DisplayManager: active,
			p.Units.ComputeTarget: down, "vllm.service": down, p.Units.StudioPolicy: down, p.Units.AudioPriority: down,
		}},
		Logind: Logind{Reading: Reading{At: readAt}, Sessions: []Session{
			{ID: "2", User: "alice", UID: 1000, Class: "user", Type: "wayland", State: "active", Seat: "seat0"},
			{ID: "3", User: "alice", UID: 1000, Class: "manager", Type: "unspecified", State: "active"},
		}},
		Processes: ProcessScan{
			Reading: Reading{At: readAt}, GPUs: []GPU{{PCI: "0000:01:00.0", Display: true}},
			Holders: []Holder{{GPU: "0000:01:00.0", PID: 900, Command: "sway", Unit: "session-2.scope", Session: "2"}},
		},
		Inference: Inference{Reading: Reading{At: readAt}, NotListening: true},
		Audio: Audio{Reading: Reading{At: readAt}, Servers: []AudioServer{
			{Reading: Reading{At: readAt}, UID: 1000, Running: true},
		}},
	}
}

func set(s *Snapshot, unit, state string) {
	u := s.Systemd.Units[unit]
	u.LoadState, u.ActiveState = "loaded", state
	s.Systemd.Units[unit] = u
}

func compute() Snapshot {
	s := desktop()
	set(&s, "desktop.target", "inactive")
	set(&s, "compute.target", "active")
	set(&s, "display-manager.service", "inactive")
	set(&s, "vllm.service", "active")
	s.Logind.Sessions, s.Processes.Holders = nil, nil
	s.Inference = Inference{Reading: Reading{At: readAt}, Healthy: true}
	return s
}

// TestObservedState has an example of each rule of docs/architecture.md.
func TestObservedState(t *testing.T) {
	cases := map[string]struct {
		host  func() Snapshot
		c     Context
		state State
		code  string // of the first reason
	}{
		"a desktop with somebody logged in is desktop": {host: desktop, state: "desktop"},
		"a desktop whose greeter waits is desktop": {host: func() Snapshot {
			s := desktop()
			s.Logind.Sessions = []Session{{ID: "c1", Class: "greeter", Type: "tty"}}
			return s
		}, state: "desktop"},
		"a desktop nobody can log in to is degraded": {host: func() Snapshot {
			s := desktop()
			s.Logind.Sessions = nil
			set(&s, "display-manager.service", "failed")
			return s
		}, state: "degraded-desktop", code: "no-session-or-greeter"},
		"a desktop with vLLM running is degraded": {host: func() Snapshot {
			s := desktop()
			set(&s, "vllm.service", "active")
			return s
		}, state: "degraded-desktop", code: "vllm-active"},
		"a desktop whose audio server died is degraded": {host: func() Snapshot {
			s := desktop()
			s.Audio.Servers[0].Running = false
			return s
		}, state: "degraded-desktop", code: "audio-stack-not-running"},
		"a desktop whose audio server cannot be read is degraded": {host: func() Snapshot {
			s := desktop()
			s.Audio.Servers[0].Reason = "it does not answer"
			return s
		}, state: "degraded-desktop", code: "audio-stack-running-unknown"},
		"a greeter that waits needs no audio server": {host: func() Snapshot {
			s := desktop()
			s.Logind.Sessions = []Session{{ID: "c1", Class: "greeter", Type: "tty"}}
			s.Audio = Audio{}
			return s
		}, state: "desktop"},
		"a studio without its audio server is degraded": {host: func() Snapshot {
			s := desktop()
			set(&s, "studio-local-policy.service", "active")
			set(&s, "audio-priority.service", "active")
			s.Audio.Servers[0].Running = false
			return s
		}, state: "degraded-studio-local", code: "audio-stack-not-running"},
		"a manager that is starting is boot": {host: func() Snapshot {
			s := desktop()
			s.Systemd.State = "starting"
			return s
		}, state: Boot, code: "manager-starting"},
		"nothing read yet is boot": {host: func() Snapshot { return Snapshot{} }, state: Boot, code: "not-looked-yet"},
		"systemd that does not answer is unknown": {host: func() Snapshot {
			s := desktop()
			s.Systemd = Systemd{Reading: Reading{At: readAt, Reason: "no answer"}}
			return s
		}, state: StateUnknown, code: "manager-started-unknown"},
		"compute, healthy, is compute": {host: compute, state: "compute"},
		"compute whose vLLM is loading is degraded": {host: func() Snapshot {
			s := compute()
			s.Inference.Healthy, s.Inference.HealthText = false, "503"
			return s
		}, state: "degraded-compute", code: "vllm-not-healthy"},
		"compute whose vLLM was restarted since it was read is degraded": {host: func() Snapshot {
			s := compute()
			u := s.Systemd.Units["vllm.service"]
			u.ActiveSince = readAt.Add(time.Second)
			s.Systemd.Units["vllm.service"] = u
			return s
		}, state: "degraded-compute", code: "vllm-healthy-unknown"},
		"compute with a session closing is a contradiction": {host: func() Snapshot {
			s := compute()
			s.Logind.Sessions = []Session{
				{ID: "2", User: "alice", Class: "user", Type: "wayland", Seat: "seat0", State: "closing"},
			}
			return s
		}, state: StateUnknown, code: "compute-with-session"},
		"compute with a session that is graphical by its type only, over ssh, is compute": {host: func() Snapshot {
			s := compute()
			s.Logind.Sessions = []Session{{ID: "9", UID: 1003, Class: "user", Type: "wayland", Remote: true, State: "active"}}
			return s
		}, state: "compute"},
		"the same after a transition that failed is a failed transition": {host: func() Snapshot {
			s := compute()
			s.Processes.Holders = []Holder{{GPU: "0000:01:00.0", PID: 900, Command: "sway", Unit: "session-2.scope"}}
			return s
		}, c: failed, state: FailedTransition, code: "compute-with-display-holder"},
		"compute with a session of an unknown type is unknown": {host: func() Snapshot {
			s := compute()
			s.Logind.Sessions = []Session{{ID: "9", Class: "user", Type: "hologram"}}
			return s
		}, state: StateUnknown, code: "graphical-session-active-unknown"},
		"no mode target is unknown": {host: func() Snapshot {
			s := desktop()
			set(&s, "desktop.target", "inactive")
			return s
		}, state: StateUnknown, code: "no-mode-target"},
		"a desktop that was asked to be compute and failed is a failed transition": {
			host: desktop, c: failed, state: FailedTransition, code: "not-where-asked",
		},
		"a desktop that was refused compute stays desktop": {
			host: desktop, c: Context{Desired: policy.Compute}, state: "desktop",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			o := Classify(policy.Default(), c.host(), c.c, readAt)
			assert.Equal(t, c.state, o.State, "%+v", o.Reasons)
			if c.code != "" {
				require.NotEmpty(t, o.Reasons)
				assert.Equal(t, c.code, o.Reasons[0].Code)
			}
		})
	}
}

func TestForeignHolders(t *testing.T) {
	const display = "0000:01:00.0"
	cases := map[string]struct {
		holder  Holder
		foreign bool
	}{
		"a compositor is foreign":         {Holder{GPU: display, PID: 900, Unit: "session-2.scope"}, true},
		"PID 1 keeps fds for logind":      {Holder{GPU: display, PID: 1, Unit: "init.scope"}, false},
		"logind keeps a session's device": {Holder{GPU: display, PID: 400, Unit: "systemd-logind.service"}, false},
		"the persistence daemon is permitted": {
			Holder{GPU: display, PID: 500, Unit: "nvidia-persistenced.service"}, false,
		},
		"vLLM in ai.slice is whom the GPU is for": {
			Holder{GPU: display, PID: 600, Unit: "vllm.service", Slices: []string{"ai.slice"}}, false,
		},
		"the same command elsewhere is foreign": {
			Holder{GPU: display, PID: 600, Unit: "vllm.service", Slices: []string{"system.slice"}}, true,
		},
		"another GPU is ignored": {Holder{GPU: "0000:02:00.0", PID: 900, Unit: "session-2.scope"}, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			h := ProcessScan{
				Reading: Reading{At: readAt}, GPUs: []GPU{{PCI: display, Display: true}, {PCI: "0000:02:00.0"}},
				Holders: []Holder{c.holder},
			}
			assert.Equal(t, c.foreign, len(ForeignHolders(policy.Default(), h)) == 1)
		})
	}
}

func TestMissingDisplayNotReleased(t *testing.T) {
	p := policy.Default()
	p.GPU.Display = []string{"0000:09:00.0"}
	s := compute()
	assert.Equal(t, Unknown, Derive(p, s).Is(DisplayReleased))
	assert.Equal(t, StateUnknown, Classify(p, s, Context{}, readAt).State)
}
