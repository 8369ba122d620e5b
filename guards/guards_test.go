package guards

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/observer/unitgraph"
	"github.com/dubnium/dubnium/policy"
)

func measure(value float64) observer.Measure { return observer.Measure{Value: &value} }

// healthy is a desktop with alice at it, in which every guard passes for her.
func healthy() observer.Snapshot {
	at := observer.Reading{At: time.Unix(1, 0)}
	s := observer.Snapshot{
		Systemd: observer.Systemd{Reading: at, State: "running", Units: map[string]observer.Unit{}},
		Logind: observer.Logind{Reading: at, Sessions: []observer.Session{
			{ID: "2", UID: 1000, User: "alice", Class: "user", Type: "wayland", Seat: "seat0", State: "active"},
			{ID: "5", UID: 1001, User: "bob", Class: "user", Type: "tty", State: "active"},
		}},
		Processes: observer.ProcessScan{
			Reading: at, GPUs: []observer.GPU{{PCI: "0000:01:00.0", Display: true}},
			SoundComplete: true, Jobs: observer.Jobs{Complete: true},
			Directories: []observer.Directory{{Path: "/var/lib/mode-controller", Free: measure(1 << 40)}},
		},
		Audio: observer.Audio{Reading: at, Servers: []observer.AudioServer{{Reading: at, UID: 1000, Running: true}}},
		Procfs: observer.Procfs{
			Reading: at, Cores: measure(8), LoadPerCore: measure(0.5), PressureCPU: measure(1), PressureIO: measure(0),
			PressureMemory: measure(0), MemAvailable: measure(8 << 30), MemTotal: measure(16 << 30),
		},
		Locks:     observer.Locks{Reading: at, Rebuild: observer.Lock{Path: "/run/nixos/switch-to-configuration.lock"}},
		Inference: observer.Inference{Reading: at, Healthy: true, Running: new(float64), Waiting: new(float64)},
	}
	p := policy.Default()
	u := p.Units
	for _, name := range []string{u.DesktopTarget, u.ComputeTarget, "vllm.service", u.StudioPolicy, u.AudioPriority} {
		s.Systemd.Units[name] = observer.Unit{LoadState: "loaded", ActiveState: "inactive", AllowIsolate: true}
	}
	return s
}

// read is an impact of which nothing blocks.
var read = unitgraph.Impact{Reading: observer.Reading{At: time.Unix(1, 0)}}

func unit(name string, change func(*observer.Unit)) func(*observer.Snapshot) {
	return func(s *observer.Snapshot) {
		u := s.Systemd.Units[name]
		change(&u)
		s.Systemd.Units[name] = u
	}
}

func TestVerdicts(t *testing.T) {
	alice := Request{Target: policy.Compute, UID: 1000, Impact: read}
	cases := map[string]struct {
		guard  policy.GuardID
		change func(*observer.Snapshot)
		ask    func(*Request)
		trust  policy.AllowedTransitions
		code   policy.Code
		remedy string
	}{
		"a loaded target can be reached": {guard: policy.CheckTargetReachable},
		"a masked target cannot": {
			guard: policy.CheckTargetReachable, code: 18, remedy: "systemctl unmask compute.target",
			change: unit("compute.target", func(u *observer.Unit) { u.LoadState = "masked" }),
		},
		"a missing vLLM cannot serve": {
			guard: policy.CheckTargetReachable, code: 18, remedy: "install it",
			change: unit("vllm.service", func(u *observer.Unit) { u.LoadState = "not-found" }),
		},
		"a broken studio unit stops studio-local": {
			guard: policy.CheckTargetReachable, code: 18, remedy: "systemctl status audio-priority.service",
			ask:    func(r *Request) { r.Target = policy.StudioLocal },
			change: unit("audio-priority.service", func(u *observer.Unit) { u.LoadState = "bad-setting" }),
		},
		"a broken studio unit does not stop compute": {
			guard:  policy.CheckTargetReachable,
			change: unit("audio-priority.service", func(u *observer.Unit) { u.LoadState = "masked" }),
		},
		"a target that cannot be isolated": {
			guard: policy.CheckTargetReachable, code: 18, remedy: "AllowIsolate=yes",
			change: unit("compute.target", func(u *observer.Unit) { u.AllowIsolate = false }),
		},
		"somebody else's job is waited for": {
			guard: policy.CheckTargetReachable, code: 18, remedy: "systemctl cancel 7",
			change: unit("compute.target", func(u *observer.Unit) { u.Job = 7 }),
		},
		"trust that does not go that far": {
			guard: policy.CheckTargetReachable, trust: policy.TrustOverlay, code: 18, remedy: "raise transitions",
		},
		"a systemd that does not answer cannot be judged": {
			guard: policy.CheckTargetReachable, code: 28, remedy: "retry",
			change: func(s *observer.Snapshot) { s.Systemd.Reason = "no answer" },
		},
		"a unit nobody read cannot be judged": {
			guard: policy.CheckTargetReachable, code: 28, remedy: "retry",
			change: func(s *observer.Snapshot) { delete(s.Systemd.Units, "compute.target") },
		},
		"one's own session may be ended": {guard: policy.CheckGraphicalSessionTerminable},
		"another's may not": {
			guard: policy.CheckGraphicalSessionTerminable, code: 17, remedy: "wait until they log out",
			ask: func(r *Request) { r.UID = 1001 },
		},
		"unless one is authorized": {
			guard: policy.CheckGraphicalSessionTerminable,
			ask:   func(r *Request) { r.UID, r.EndOthers = 1001, true },
		},
		"a session of an unknown class cannot be judged": {
			guard: policy.CheckGraphicalSessionTerminable, code: 27, remedy: "loginctl terminate-session 2",
			change: func(s *observer.Snapshot) { s.Logind.Sessions[0].Class = "user-quantum" },
		},
		"nor can a logind that does not answer": {
			guard: policy.CheckGraphicalSessionTerminable, code: 27,
			remedy: "systemctl status systemd-logind",
			change: func(s *observer.Snapshot) { s.Logind.Reading = observer.Reading{} },
		},
		"a session that is there is not absent": {
			guard: policy.CheckGraphicalSessionAbsent, code: 17, remedy: "loginctl kill-session 2 -s KILL",
		},
		"a session that is closing is not absent": {
			guard: policy.CheckGraphicalSessionAbsent, code: 17, remedy: "kill-session",
			change: func(s *observer.Snapshot) { s.Logind.Sessions[0].State = "closing" },
		},
		"a greeter is not absent": {
			guard: policy.CheckGraphicalSessionAbsent, code: 17, remedy: "kill-session",
			change: func(s *observer.Snapshot) { s.Logind.Sessions[0].Class = "greeter" },
		},
		"a text login is no graphical session": {
			guard:  policy.CheckGraphicalSessionAbsent,
			change: func(s *observer.Snapshot) { s.Logind.Sessions = s.Logind.Sessions[1:] },
		},
		"an unknown kind of session may be one": {
			guard: policy.CheckGraphicalSessionAbsent, code: 27, remedy: "terminate-session 2",
			change: func(s *observer.Snapshot) { s.Logind.Sessions[0].Type = "hologram" },
		},
		"a GPU nobody holds is released": {guard: policy.CheckGPUDisplayReleased},
		"a compositor holds it": {
			guard: policy.CheckGPUDisplayReleased, code: 11, remedy: "gpu.permitted_holders",
			change: func(s *observer.Snapshot) {
				s.Processes.Holders = []observer.Holder{{
					GPU: "0000:01:00.0", PID: 900, Command: "sway",
					Unit: "session-2.scope",
				}}
			},
		},
		"a probe that failed cannot be judged": {
			guard: policy.CheckGPUDisplayReleased, code: 21, remedy: "dubnium-probe-holders.socket",
			change: func(s *observer.Snapshot) { s.Processes.Reason = "the probe did not answer" },
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			p, s, r := policy.Default(), healthy(), alice
			p.Transitions = policy.TrustAll
			if c.trust != "" {
				p.Transitions = c.trust
			}
			if c.change != nil {
				c.change(&s)
			}
			if c.ask != nil {
				c.ask(&r)
			}
			v := Evaluate(p, s, r, []policy.GuardID{c.guard})[0]
			assert.Equal(t, c.code, v.Code, v.Reason)
			assert.Equal(t, c.code == policy.Pass, v.OK)
			assert.NotEmpty(t, v.Reason)
			assert.Contains(t, v.Remedy, c.remedy)
			assert.Equal(t, !v.OK, v.Remedy != "", "every refusal says what would clear it")
		})
	}
}

// TestWhatNVMLKnowsAgainstARelease: it is asked where policy names the display
// GPU, and only what it knows blocks.
func TestWhatNVMLKnowsAgainstARelease(t *testing.T) {
	const gpu = "0000:01:00.0"
	used := func(mib float64) observer.Measure {
		bytes := mib * (1 << 20)
		return observer.Measure{Value: &bytes}
	}
	cases := map[string]struct {
		change func(*policy.Policy, *observer.Snapshot)
		code   policy.Code
		reason string
	}{
		"memory under the threshold is residue": {},
		"memory above it is in use": {func(_ *policy.Policy, s *observer.Snapshot) {
			s.GPU.Cards[0].MemoryUsed = used(301)
		}, 11, "301 MiB of its memory are in use, more than 300"},
		"on the way out of compute it is not judged": {change: func(p *policy.Policy, s *observer.Snapshot) {
			s.GPU.Cards[0].MemoryUsed = used(301)
			unit(p.Units.ComputeTarget, func(u *observer.Unit) { u.ActiveState = "active" })(s)
		}},
		"without a threshold it is not judged": {change: func(p *policy.Policy, s *observer.Snapshot) {
			p.GPU.ResidualMiB, s.GPU.Cards[0].MemoryUsed = 0, used(9000)
		}},
		"memory that is not known does not block": {change: func(_ *policy.Policy, s *observer.Snapshot) {
			s.GPU.Cards[0].MemoryUsed = observer.Measure{Reason: "not supported"}
		}},
		"nor does NVML that fails": {change: func(_ *policy.Policy, s *observer.Snapshot) {
			s.GPU.Reason, s.GPU.Cards[0].MemoryUsed = "Unknown Error", used(9000)
		}},
		"a program that draws is in the way": {func(_ *policy.Policy, s *observer.Snapshot) {
			s.GPU.Cards[0].Graphics.Processes = []observer.CardProcess{{PID: 9, Command: "sway"}}
		}, 11, "sway (pid 9, in no unit) has a graphics context"},
		"NVML is not used without a display GPU in the policy": {change: func(p *policy.Policy, s *observer.Snapshot) {
			p.GPU.Display = nil
			s.GPU.Cards[0].Graphics.Processes = []observer.CardProcess{{PID: 9, Command: "sway"}}
		}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			p, s := policy.Default(), healthy()
			p.GPU.Display, p.GPU.ResidualMiB = []string{gpu}, 300
			s.Processes.GPUs[0].Driver = "nvidia"
			s.GPU = observer.NVML{
				Reading: s.Processes.Reading, Driver: true, Cards: []observer.Card{{PCI: gpu, MemoryUsed: used(300)}},
			}
			if c.change != nil {
				c.change(&p, &s)
			}
			v := Evaluate(p, s, Request{Target: policy.Compute}, []policy.GuardID{policy.CheckGPUDisplayReleased})[0]
			assert.Equal(t, c.code, v.Code, v.Reason)
			assert.Contains(t, v.Reason, c.reason)
		})
	}
}

func TestEveryGuardIsImplemented(t *testing.T) {
	for _, g := range policy.Guards() {
		assert.Contains(t, judges, g.ID)
	}
	assert.Len(t, judges, len(policy.Guards()))
}

func TestAGuardNobodyKnowsBlocks(t *testing.T) {
	v := Evaluate(policy.Default(), healthy(), Request{}, []policy.GuardID{"check_weather"})
	require.Len(t, v, 1)
	assert.False(t, v[0].OK)
	assert.Equal(t, policy.Misuse, v[0].Code)
	assert.Len(t, Blocking(v), 1)
}

func TestAVerdictIsOneLineOfTheContract(t *testing.T) {
	s := healthy()
	s.Logind.Sessions = s.Logind.Sessions[:1]
	v := Evaluate(policy.Default(), s, Request{UID: 5}, []policy.GuardID{policy.CheckGraphicalSessionTerminable})[0]
	line, err := json.Marshal(v)
	require.NoError(t, err)
	assert.JSONEq(t, `{"guard":"check_graphical_session_terminable","ok":false,"code":17,"hard":true,
		"reason":"session 2 belongs to alice",
		"remedy":"wait until they log out, or request the mode with permission to end sessions of other users",
		"evidence":["session 2: alice (uid 1000), wayland user on seat0, active"]}`, string(line))
}
