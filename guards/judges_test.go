package guards

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// scene is a change of the healthy desktop, and what a guard makes of it.
type scene struct {
	policy func(*policy.Policy)
	change func(*observer.Snapshot)
	ask    func(*Request)
	code   policy.Code
	reason string
}

func play(t *testing.T, guard policy.GuardID, scenes map[string]scene) {
	t.Helper()
	for name, c := range scenes {
		t.Run(name, func(t *testing.T) {
			p, s, r := policy.Default(), healthy(), Request{Target: policy.Compute, UID: 1000, Impact: read}
			if c.policy != nil {
				c.policy(&p)
			}
			if c.change != nil {
				c.change(&s)
			}
			if c.ask != nil {
				c.ask(&r)
			}
			v := Evaluate(p, s, r, []policy.GuardID{guard})[0]
			assert.Equal(t, c.code, v.Code, v.Reason)
			assert.Contains(t, v.Reason, c.reason)
			assert.NotEmpty(t, v.Reason)
			assert.Equal(t, !v.OK, v.Remedy != "", "every refusal says what would clear it")
		})
	}
}

func silent(s *observer.Snapshot) *observer.AudioServer {
	s.Audio.Servers = slices.Clone(s.Audio.Servers)
	return &s.Audio.Servers[0]
}

func TestAudioIdle(t *testing.T) {
	play(t, policy.CheckAudioIdle, map[string]scene{
		"silence": {},
		"a song": {code: 10, reason: "playback of mpv (uid 1000)", change: func(s *observer.Snapshot) {
			silent(s).Streams = []observer.AudioStream{{Direction: observer.Playback, Application: "mpv"}}
		}},
		"a paused one": {change: func(s *observer.Snapshot) {
			silent(s).Streams = []observer.AudioStream{{Direction: observer.Playback, Application: "mpv", Corked: true}}
		}},
		"a JACK client": {code: 10, reason: "JACK client ardour", change: func(s *observer.Snapshot) {
			silent(s).JACK = []observer.JACKClient{{Application: "ardour"}}
		}},
		"REAPER": {code: 10, reason: "reaper (pid 7, uid 1000) runs", change: func(s *observer.Snapshot) {
			s.Processes.DAWs = []observer.Process{{PID: 7, Command: "reaper", UID: 1000}}
		}},
		"hardware outside PipeWire": {
			code: 10, reason: "has card0/pcm0p/sub0 open",
			change: func(s *observer.Snapshot) {
				s.Processes.PCMs = []observer.PCM{{
					Name:    "card0/pcm0p/sub0",
					Process: observer.Process{PID: 8, Command: "aplay"},
				}}
			},
		},
		"a server that does not answer": {
			code: 20, reason: "timeout", change: func(s *observer.Snapshot) { silent(s).Reason = "timeout" },
		},
		"a server nobody asked": {code: 20, change: func(s *observer.Snapshot) { s.Audio.Servers = nil }},
		"a probe that does not tell": {
			code:   20,
			change: func(s *observer.Snapshot) { s.Processes.SoundComplete = false },
		},
		"a logind that does not answer": {
			code:   20,
			change: func(s *observer.Snapshot) { s.Logind.Reason = "no answer" },
		},
	})
}

func TestAudioEvidenceNamesEveryStream(t *testing.T) {
	s := healthy()
	silent(&s).Streams = []observer.AudioStream{
		{Direction: observer.Playback, Application: "mpv"}, {Direction: observer.Capture, Application: "obs"},
	}
	v := Evaluate(policy.Default(), s, Request{}, []policy.GuardID{policy.CheckAudioIdle})[0]
	assert.Equal(t, []string{"playback of mpv (uid 1000)", "capture of obs (uid 1000)"}, v.Evidence)
}

func TestCPULoadSafe(t *testing.T) {
	nothing := func(p *policy.Policy) {
		p.Guards.MaxLoadPerCore, p.Guards.MaxCPUPressure, p.Guards.MaxIOPressure = 0, 0, 0
	}
	play(t, policy.CheckCPULoadSafe, map[string]scene{
		"calm":               {},
		"as much as allowed": {change: func(s *observer.Snapshot) { s.Procfs.LoadPerCore = measure(4) }},
		"a little more": {
			code: 12, reason: "is 4.001, maximum 4",
			change: func(s *observer.Snapshot) { s.Procfs.LoadPerCore = measure(4.001) },
		},
		"pressure at 95": {change: func(s *observer.Snapshot) { s.Procfs.PressureCPU = measure(95) }},
		"pressure above it": {
			code: 12, reason: "CPU pressure is 95.01 %",
			change: func(s *observer.Snapshot) { s.Procfs.PressureCPU = measure(95.01) },
		},
		"disks": {
			code: 12, reason: "I/O pressure is 80.1 %",
			change: func(s *observer.Snapshot) { s.Procfs.PressureIO = measure(80.1) },
		},
		"no PSI": {
			code: 22, reason: "psi=1",
			change: func(s *observer.Snapshot) { s.Procfs.PressureIO = observer.Measure{Reason: "psi=1"} },
		},
		"no PSI, not judged": {policy: nothing, change: func(s *observer.Snapshot) { s.Procfs = observer.Procfs{} }},
		"no PSI, and too busy": {code: 12, change: func(s *observer.Snapshot) {
			s.Procfs.LoadPerCore, s.Procfs.PressureIO = measure(5), observer.Measure{Reason: "psi=1"}
		}},
		"nobody looked": {
			code: 22, reason: "not read yet",
			change: func(s *observer.Snapshot) { s.Procfs.Reading = observer.Reading{} },
		},
	})
}

func TestMemoryHeadroom(t *testing.T) {
	least := func(mib float64) func(*observer.Snapshot) {
		return func(s *observer.Snapshot) { s.Procfs.MemAvailable = measure(mib * (1 << 20)) }
	}
	play(t, policy.CheckMemoryHeadroom, map[string]scene{
		"plenty":               {},
		"just enough":          {change: least(512)},
		"not enough":           {code: 14, reason: "is 511.5 MiB, minimum 512 MiB", change: least(511.5)},
		"enough for a desktop": {change: least(256), ask: func(r *Request) { r.Target = policy.Desktop }},
		"not for the studio":   {code: 14, change: least(300), ask: func(r *Request) { r.Target = policy.StudioLocal }},
		"pressure": {
			code: 14, reason: "memory pressure is 40.5 %",
			change: func(s *observer.Snapshot) { s.Procfs.PressureMemory = measure(40.5) },
		},
		"pressure at 40": {change: func(s *observer.Snapshot) { s.Procfs.PressureMemory = measure(40) }},
		"unknown": {
			code: 24,
			change: func(s *observer.Snapshot) {
				s.Procfs.MemAvailable = observer.Measure{Reason: "no meminfo"}
			},
		},
		"unread": {code: 24, change: func(s *observer.Snapshot) { s.Procfs.Reason = "no /proc" }},
	})
}

func TestUserJobsSafe(t *testing.T) {
	job := func(j observer.Job) func(*observer.Snapshot) {
		return func(s *observer.Snapshot) { s.Processes.Jobs.List = []observer.Job{j} }
	}
	in := func(session string, remote bool) observer.Job {
		return observer.Job{
			Process: observer.Process{PID: 9, Command: "make", UID: 1000, Session: session},
			Remote:  remote,
		}
	}
	overSSH := func(uid uint32, j observer.Job) func(*observer.Snapshot) {
		return func(s *observer.Snapshot) {
			s.Logind.Sessions = append(
				slices.Clone(s.Logind.Sessions),
				observer.Session{ID: "9", UID: uid, Class: "user", Type: "tty", Remote: true},
			)
			job(j)(s)
		}
	}
	inhibitor := func(what, mode string) func(*observer.Snapshot) {
		return func(s *observer.Snapshot) {
			s.Logind.Inhibitors = []observer.Inhibitor{{What: what, Mode: mode, Who: "dpkg", Why: "upgrade", PID: 5}}
		}
	}
	play(t, policy.CheckUserJobsSafe, map[string]scene{
		"nothing":                  {},
		"a compiler at the screen": {code: 13, reason: "make (pid 9, uid 1000) runs", change: job(in("2", false))},
		"one of a service":         {code: 13, change: job(in("", false))},
		"one's own over ssh":       {change: overSSH(1000, in("9", false))},
		"another's over ssh":       {code: 13, change: overSSH(1001, in("9", false))},
		"tmux at the screen":       {change: job(in("2", true))},
		"tmux in no session":       {change: job(in("", true))},
		"tmux over ssh":            {code: 13, change: overSSH(1001, in("9", true))},
		"one's own tmux over ssh":  {change: overSSH(1000, in("9", true))},
		"an upgrade blocks shutting down": {
			code: 13, reason: "dpkg (pid 5, uid 0) inhibits shutdown: upgrade",
			change: inhibitor("sleep:shutdown", "block"),
		},
		"one that only delays it": {change: inhibitor("shutdown", "delay")},
		"one that blocks sleep":   {change: inhibitor("sleep", "block")},
		"a probe that does not tell": {
			code: 23, reason: "a broken policy",
			change: func(s *observer.Snapshot) { s.Processes.Jobs = observer.Jobs{Reason: "a broken policy"} },
		},
		"an old probe": {
			code: 23, reason: "reports no reason",
			change: func(s *observer.Snapshot) { s.Processes.Jobs = observer.Jobs{} },
		},
		"a probe that is away": {
			code: 23, change: func(s *observer.Snapshot) { s.Processes.Reason = "nothing listens" },
		},
		"a logind that is away": {
			code: 23, change: func(s *observer.Snapshot) { s.Logind.Reason = "no answer" },
		},
		"nixos-rebuild switches": {
			code: 13, reason: "pid 7 holds /run/nixos/switch-to-configuration.lock",
			change: func(s *observer.Snapshot) { s.Locks.Rebuild.Held, s.Locks.Rebuild.PID = true, 7 },
		},
		"our own lock": {
			change: func(s *observer.Snapshot) { s.Locks.Transition = observer.Lock{Held: true, PID: 1, Own: true} },
		},
		"locks that cannot be told": {
			code: 23, reason: "no list", change: func(s *observer.Snapshot) { s.Locks.Reason = "no list" },
		},
		"locks that nobody looked at": {
			code: 23, reason: "not read yet", change: func(s *observer.Snapshot) { s.Locks.Reading = observer.Reading{} },
		},
		"more than there is room for": {
			code: 23, reason: "3 more jobs", change: func(s *observer.Snapshot) { s.Processes.Jobs.Truncated = 3 },
		},
		"more than that, and one that counts": {
			code: 13, change: func(s *observer.Snapshot) { job(in("2", false))(s); s.Processes.Jobs.Truncated = 3 },
		},
	})
}

func TestNoInhibitor(t *testing.T) {
	as := func(how How, modes ...policy.Mode) func(*Request) {
		return func(r *Request) {
			for _, m := range modes {
				r.Inhibitors = append(r.Inhibitors,
					Inhibitor{Mode: m, How: how, Who: "backup", Why: "a snapshot", UID: 1001})
			}
		}
	}
	held := func(modes ...policy.Mode) func(*Request) { return as(Block, modes...) }
	play(t, policy.CheckNoInhibitor, map[string]scene{
		"nobody":            {reason: "no inhibitor"},
		"against all":       {ask: held(""), code: 13, reason: "backup (uid 1001) blocks it: a snapshot"},
		"against this mode": {ask: held(policy.Compute), code: 13, reason: "backup"},
		"against another":   {ask: held(policy.Desktop), reason: "no inhibitor"},
		"one that delays":   {ask: as(Delay, ""), reason: "no inhibitor"},
		"two of three":      {ask: held("", policy.Desktop, policy.Compute), code: 13, reason: "and 1 more"},
	})
}

func TestVLLMDrainable(t *testing.T) {
	serves := func(running, waiting float64) func(*observer.Snapshot) {
		return func(s *observer.Snapshot) {
			unit("vllm.service", func(u *observer.Unit) { u.ActiveState = "active" })(s)
			s.Inference.Running, s.Inference.Waiting = &running, &waiting
		}
	}
	state := func(active, sub string) func(*observer.Snapshot) {
		return unit("vllm.service", func(u *observer.Unit) { u.ActiveState, u.SubState = active, sub })
	}
	unread := func(change func(*observer.Inference)) func(*observer.Snapshot) {
		return func(s *observer.Snapshot) { serves(0, 0)(s); change(&s.Inference) }
	}
	never := func(p *policy.Policy) { p.Guards.Drain = policy.DrainNever }
	play(t, policy.CheckVLLMDrainable, map[string]scene{
		"it does not run":          {reason: "nothing to drain"},
		"it is idle":               {change: serves(0, 0)},
		"it serves":                {change: serves(3, 2)},
		"it serves and may not be": {code: 15, reason: "5 requests in flight", policy: never, change: serves(3, 2)},
		"it is idle, by any rule":  {policy: never, change: serves(0, 0)},
		"as many as may wait":      {change: serves(8, 64)},
		"more than may wait":       {code: 15, reason: "65 waiting requests", change: serves(8, 65)},
		"the queue is not judged": {
			policy: func(p *policy.Policy) { p.Guards.MaxWaiting = 0 },
			change: serves(8, 1e6),
		},
		"it loads":             {change: state("activating", "start")},
		"it is being stopped":  {change: state("deactivating", "stop-sigterm")},
		"it cannot be stopped": {code: 15, reason: "stuck", change: state("deactivating", "final-sigkill")},
		"it does not listen": {
			change: unread(func(i *observer.Inference) { i.NotListening, i.Running = true, nil }),
		},
		"no metrics": {
			code: 25, reason: "metrics do not have them",
			change: unread(func(i *observer.Inference) { i.Waiting = nil }),
		},
		"no probe":   {code: 25, change: unread(func(i *observer.Inference) { i.Reason = "nothing listens" })},
		"no systemd": {code: 25, change: func(s *observer.Snapshot) { s.Systemd.Reason = "no answer" }},
		"not read": {
			code: 25, change: func(s *observer.Snapshot) { delete(s.Systemd.Units, "vllm.service") },
		},
	})
}

func TestSessionPresent(t *testing.T) {
	play(t, policy.CheckGraphicalSessionPresent, map[string]scene{
		"alice":        {reason: "alice"},
		"a text login": {code: 16, change: func(s *observer.Snapshot) { s.Logind.Sessions = s.Logind.Sessions[1:] }},
		"a greeter":    {code: 16, change: func(s *observer.Snapshot) { s.Logind.Sessions[0].Class = "greeter" }},
		"something else": {
			code:   26,
			change: func(s *observer.Snapshot) { s.Logind.Sessions[0].Class = "user-quantum" },
		},
		"no logind": {
			code: 26, reason: "not read yet",
			change: func(s *observer.Snapshot) { s.Logind.Reading = observer.Reading{} },
		},
	})
}

func TestPathsReady(t *testing.T) {
	const models = "/srv/models"
	withModels := func(p *policy.Policy) { p.Guards.ModelStore = models }
	stores := func(all ...observer.Directory) func(*observer.Snapshot) {
		return func(s *observer.Snapshot) {
			s.Processes.Directories = append(slices.Clone(s.Processes.Directories), all...)
		}
	}
	room := func(mib float64) func(*observer.Snapshot) {
		return func(s *observer.Snapshot) {
			s.Processes.Directories = []observer.Directory{{
				Path: "/var/lib/mode-controller",
				Free: measure(mib * (1 << 20)),
			}}
		}
	}
	play(t, policy.CheckPersistencePathsReady, map[string]scene{
		"there":              {},
		"just enough room":   {change: room(32)},
		"not enough":         {code: 18, reason: "31 MiB free, less than 32", change: room(31)},
		"room is not judged": {policy: func(p *policy.Policy) { p.Guards.MinFreeMiB = 0 }, change: room(0)},
		"models": {
			policy: withModels,
			change: stores(observer.Directory{Path: models, Free: measure(1 << 40)}),
		},
		"no models": {
			code: 18, reason: "does not exist", policy: withModels,
			change: stores(observer.Directory{Path: models, Fault: "it does not exist"}),
		},
		"a server that is away": {
			code: 28, reason: "does not answer", policy: withModels,
			change: stores(observer.Directory{Path: models, Reason: "its file system does not answer"}),
		},
		"room nobody knows":   {code: 28, policy: withModels, change: stores(observer.Directory{Path: models})},
		"models nobody asked": {code: 28, reason: models + " has not been read", policy: withModels},
		"no probe": {
			code:   28,
			change: func(s *observer.Snapshot) { s.Processes.Reason = "nothing listens" },
		},
	})
}

func TestStudioLocal(t *testing.T) {
	away := func(p *policy.Policy) { p.Placement.Studio = policy.Remote }
	play(t, policy.CheckStudioCapabilityLocal, map[string]scene{
		"here":      {},
		"elsewhere": {code: 19, reason: `placement.studio is "remote"`, policy: away},
		"without a unit": {
			code: 19, reason: "does not exist",
			change: unit("audio-priority.service", func(u *observer.Unit) { u.LoadState = "not-found" }),
		},
		"no systemd": {code: 29, change: func(s *observer.Snapshot) { s.Systemd.Reason = "no answer" }},
		"not read": {
			code: 29, change: func(s *observer.Snapshot) { delete(s.Systemd.Units, "audio-priority.service") },
		},
	})
}

// TestOutOfAnExternalizedStudio: only desktop can be requested.
func TestOutOfAnExternalizedStudio(t *testing.T) {
	away := func(p *policy.Policy) { p.Placement.Studio, p.Transitions = policy.Remote, policy.TrustAll }
	active := unit("studio-local-policy.service", func(u *observer.Unit) { u.ActiveState = "active" })
	play(t, policy.CheckComputeCapabilityLocal, map[string]scene{
		"to compute":            {code: 19, reason: "only desktop can be requested", policy: away, change: active},
		"not while it is local": {change: active},
		"nor while it is off":   {policy: away},
		"a marker on its way": {
			code: 29, policy: away,
			change: unit("studio-local-policy.service", func(u *observer.Unit) { u.ActiveState = "activating" }),
		},
	})
	to := func(mode policy.Mode) func(*Request) { return func(r *Request) { r.Target = mode } }
	play(
		t, policy.CheckStudioCapabilityLocal,
		map[string]scene{"to itself": {code: 19, policy: away, change: active, ask: to(policy.StudioLocal)}},
	)
	play(
		t, policy.CheckTargetReachable,
		map[string]scene{"to desktop": {policy: away, change: active, ask: to(policy.Desktop)}},
	)
}

// TestWhatAModeRequiresHasToBeThere: for a mode that takes or adds something; the
// way to a desktop stays open.
func TestWhatAModeRequiresHasToBeThere(t *testing.T) {
	requires := func(p *policy.Policy) {
		p.Transitions = policy.TrustAll
		p.VLLM.Profiles = map[string]policy.Profile{
			"default": {Unit: "vllm.service"},
			"fast":    {Unit: "vllm-fast.service"},
		}
		p.Modes.Compute.VLLMProfile = "fast"
		for _, c := range []*policy.Contract{&p.Modes.Desktop, &p.Modes.StudioLocal, &p.Modes.Compute} {
			c.Required = []string{"cups.service"}
		}
	}
	host := func(load string) func(*observer.Snapshot) {
		return func(s *observer.Snapshot) {
			s.Systemd.Units["cups.service"] = observer.Unit{LoadState: load, ActiveState: "inactive"}
			s.Systemd.Units["vllm-fast.service"] = observer.Unit{LoadState: "loaded", ActiveState: "inactive"}
		}
	}
	noProfile := func(s *observer.Snapshot) {
		host("loaded")(s)
		s.Systemd.Units["vllm-fast.service"] = observer.Unit{LoadState: "not-found", ActiveState: "inactive"}
	}
	noDefault := func(s *observer.Snapshot) {
		host("loaded")(s)
		s.Systemd.Units["vllm.service"] = observer.Unit{LoadState: "not-found", ActiveState: "inactive"}
	}
	to := func(mode policy.Mode) func(*Request) { return func(r *Request) { r.Target = mode } }
	play(t, policy.CheckTargetReachable, map[string]scene{
		"there": {policy: requires, change: host("loaded")},
		"masked": {
			policy: requires, change: host("masked"), code: 18, reason: "cups.service is masked",
		},
		"for the studio": {
			policy: requires, change: host("not-found"), ask: to(policy.StudioLocal), code: 18,
			reason: "cups.service does not exist",
		},
		"the way to desktop is open": {policy: requires, change: host("masked"), ask: to(policy.Desktop)},
		"the mode's profile is missing": {
			policy: requires, change: noProfile, code: 18, reason: "vllm-fast.service does not exist",
		},
		"another profile may be missing": {policy: requires, change: noDefault},
		"nobody has read it":             {policy: requires, code: 28},
	})
}

// TestAnyVLLMIsDrained: whichever of its units runs.
func TestAnyVLLMIsDrained(t *testing.T) {
	never := func(p *policy.Policy) {
		p.VLLM.Profiles["fast"], p.Guards.Drain = policy.Profile{Unit: "vllm-fast.service"}, policy.DrainNever
	}
	serves := func(unit string) func(*observer.Snapshot) {
		return func(s *observer.Snapshot) {
			s.Systemd.Units["vllm-fast.service"] = observer.Unit{LoadState: "loaded", ActiveState: "inactive"}
			s.Systemd.Units[unit] = observer.Unit{LoadState: "loaded", ActiveState: "active"}
			s.Inference.Running = new(float64)
			*s.Inference.Running = 2
		}
	}
	play(t, policy.CheckVLLMDrainable, map[string]scene{
		"the default": {policy: never, change: serves("vllm.service"), code: 15, reason: "2 requests in flight"},
		"a profile": {
			policy: never, change: serves("vllm-fast.service"), code: 15,
			reason: "2 requests in flight",
		},
		"neither":         {policy: never, change: serves("cups.service"), reason: "does not run"},
		"one nobody read": {policy: never, code: 25, reason: "vllm-fast.service has not been read"},
		"one that is stuck": {
			policy: never, code: 15, reason: "vllm-fast.service is stuck",
			change: func(s *observer.Snapshot) {
				s.Systemd.Units["vllm-fast.service"] = observer.Unit{
					ActiveState: "deactivating", SubState: "final-sigkill",
				}
			},
		},
	})
}

func TestComputeLocal(t *testing.T) {
	needs := func(pci string) func(*policy.Policy) { return func(p *policy.Policy) { p.GPU.AI = []string{pci} } }
	planned := func(p *policy.Policy) { needs("0000:41:00.0")(p); p.GPU.Planned = p.GPU.AI }
	play(t, policy.CheckComputeCapabilityLocal, map[string]scene{
		"here":              {},
		"elsewhere":         {code: 19, reason: `placement.ai is "remote"`, policy: func(p *policy.Policy) { p.Placement.AI = policy.Remote }},
		"its GPU":           {policy: needs("0000:01:00.0")},
		"no such GPU":       {code: 19, reason: "0000:41:00.0 of the policy is missing", policy: needs("0000:41:00.0")},
		"one that may miss": {policy: planned},
		"one is enough": {reason: "1 of 2 AI GPUs can be used", policy: func(p *policy.Policy) {
			p.GPU.AI, p.GPU.MinAI = []string{"0000:01:00.0", "0000:41:00.0"}, 1
		}},
		"one is not": {code: 19, reason: "1 of 2 AI GPUs can be used, fewer than 2", policy: func(p *policy.Policy) {
			p.GPU.AI, p.GPU.MinAI = []string{"0000:01:00.0", "0000:41:00.0"}, 2
		}},
		"one is, where the other is planned": {policy: func(p *policy.Policy) {
			p.GPU.AI, p.GPU.MinAI, p.GPU.Planned = []string{"0000:01:00.0", "0000:41:00.0"}, 2, []string{"0000:41:00.0"}
		}},
		"none of compute's own": {code: 19, policy: func(p *policy.Policy) {
			p.GPU.AI, p.Modes.Compute.AIGPUs = []string{"0000:01:00.0", "0000:41:00.0"}, []string{"0000:41:00.0"}
		}},
		"no driver": {
			code: 19, policy: needs("0000:01:00.0"),
			change: func(s *observer.Snapshot) { s.Processes.GPUs[0].Hidden = true },
		},
		"no probe": {
			code: 29, policy: needs("0000:01:00.0"),
			change: func(s *observer.Snapshot) { s.Processes.Reason = "nothing listens" },
		},
	})
}

func TestEvidenceIsMadeOfTextsThatAreRedacted(t *testing.T) {
	s := healthy()
	other := observer.Process{PID: 9, Command: "secretgame", UID: 1001}
	s.Processes.Holders = []observer.Holder{
		{GPU: "0000:01:00.0", PID: 9, Command: "secretgame", UID: 1001, Unit: "game.service"},
	}
	s.Processes.Jobs.List = []observer.Job{{Process: other, Pattern: "secretgame"}}
	s.Processes.DAWs, s.Processes.PCMs = []observer.Process{other}, []observer.PCM{{Name: "card0", Process: other}}
	silent(&s).UID = 1001
	silent(&s).Streams = []observer.AudioStream{{Direction: observer.Playback, Application: "secretgame"}}
	s.Logind.Sessions[0].UID = 1001
	redacted, words := observer.Redact(s, 1000)
	assert.Empty(t, redacted.Processes.Jobs.List[0].Pattern)
	var ids []policy.GuardID
	for _, g := range policy.Guards() {
		ids = append(ids, g.ID)
	}
	told := 0
	for _, v := range Evaluate(policy.Default(), s, Request{Target: policy.Compute}, ids) {
		for _, text := range append([]string{v.Reason, v.Remedy}, v.Evidence...) {
			if words.Text(text) != text {
				told++
			}
			require.NotContains(t, words.Text(text), "secretgame", v.Guard)
		}
	}
	assert.NotZero(t, told)
	assert.Equal(t, "secretgame", s.Processes.Jobs.List[0].Pattern, "what was handed out stays")
}
