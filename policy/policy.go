package policy

import (
	"fmt"
	"slices"
	"time"
)

// Duration is a time.Duration that a file writes as "90s" or "5m".
type Duration time.Duration

// UnmarshalText reads what time.ParseDuration reads.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("expected a duration such as \"90s\" or \"5m\", found %q", text)
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes what UnmarshalText reads.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// D is the duration as the standard library's type.
func (d Duration) D() time.Duration { return time.Duration(d) }

// Policy is one host's policy, complete: a key that the file leaves out has its
// default.
type Policy struct {
	// Transitions is the stage of trust.
	Transitions AllowedTransitions `toml:"transitions"`
	// DefaultMode is what the host normalises to at boot.
	DefaultMode Mode `toml:"default_mode"`
	// MustSurvive are units that no mode may stop.
	MustSurvive []string `toml:"must_survive"`

	Paths    Paths    `toml:"paths"`
	Units    Units    `toml:"units"`
	VLLM     VLLM     `toml:"vllm"`
	GPU      GPU      `toml:"gpu"`
	Audio    Audio    `toml:"audio"`
	Sessions Sessions `toml:"sessions"`
	Announce Announce `toml:"announce"`
	Timeouts Timeouts `toml:"timeouts"`

	Guards    Thresholds `toml:"guards"`
	Placement Placement  `toml:"placement"`
	Modes     Contracts  `toml:"modes"`
	Audit     Audit      `toml:"audit"`
	Reconcile Reconcile  `toml:"reconcile"`

	Slices Slices `toml:"slices"`
	Studio Studio `toml:"studio"`
}

// Paths are the directories and files the daemon uses; all absolute.
type Paths struct {
	// Runtime holds desired, current and the other files scripts read. It is
	// lost at a reboot.
	Runtime string `toml:"runtime"`
	// State holds the journal and the history. It outlives a reboot.
	State string `toml:"state"`
	// Probes holds the sockets of the one-shot probes.
	Probes string `toml:"probes"`
	// Issue is where agetty finds what the consoles show before a login. The file
	// agetty.reload, by which they show it anew, is beside it.
	Issue string `toml:"issue"`
	// RebuildLock is what nixos-rebuild holds while it switches to a configuration.
	// Where there is no such file nobody does.
	RebuildLock string `toml:"rebuild_lock"`
}

// Units names the units that make up the modes.
type Units struct {
	DesktopTarget  string `toml:"desktop_target"`
	ComputeTarget  string `toml:"compute_target"`
	DisplayManager string `toml:"display_manager"`
	StudioPolicy   string `toml:"studio_policy"`
	AudioPriority  string `toml:"audio_priority"`
	// K3s is looked at and never touched: it runs in every mode, or in none.
	K3s string `toml:"k3s"`
}

// GPU says which GPUs drive the display and who may keep them open.
type GPU struct {
	// Display lists PCI addresses like 0000:01:00.0. Empty means every GPU with
	// a display node: the careful reading of a host nobody described.
	Display []string `toml:"display"`
	// AI lists the GPUs that compute gives to inference; one may drive the display
	// in the other modes.
	AI []string `toml:"ai"`
	// MinAI is how many of the GPUs that inference has in compute have to be usable
	// for compute to be whole. 0: every one.
	MinAI int `toml:"min_ai"`
	// Planned lists the GPUs that the machine is meant to have some day. One that is
	// not there is told, and blocks nothing. One that gpu.ai names too degrades
	// compute until it is there, unless gpu.min_ai have enough of the others.
	Planned []string `toml:"planned"`
	// PermittedHolders are units that may keep a GPU's nodes open for ever.
	PermittedHolders []string `toml:"permitted_holders"`
	// ResidualMiB is how much memory of a display GPU may be in use although nobody
	// holds it. Each release is measured, and `modectl doctor` proposes a value from the
	// releases that it finds in the history. 0: not judged.
	ResidualMiB int `toml:"residual_mib"`
	// Recheck is the pace of looks at the GPUs outside compute. They are made only
	// where this section names GPUs.
	Recheck Duration `toml:"recheck"`
}

// Configured reports whether the policy says which GPU is whose. Where it does
// not, no mode's contract asks about GPUs beyond who holds them.
func (g GPU) Configured() bool { return len(g.Display)+len(g.AI)+len(g.Planned) > 0 }

// Audio says what desktops promise of sound.
type Audio struct {
	// Required makes a running audio server of each graphical user a part of the
	// contracts of desktop and studio-local.
	Required bool `toml:"required"`
	// Grace is how long after a login a desktop is whole although that person's audio
	// server does not answer yet. 0: no time at all.
	Grace Duration `toml:"grace"`
	// DAWs are digital audio workstations, by the name of the process or of the client of
	// an audio server; * stands for anything. Audio counts as active while one runs,
	// playing or not. The kernel keeps 15 bytes of the name of a process.
	DAWs []Pattern `toml:"daws"`
}

// IsDAW reports whether a process or client of this name is a digital audio
// workstation.
func (a Audio) IsDAW(name string) bool {
	return slices.ContainsFunc(a.DAWs, func(p Pattern) bool { return glob(string(p), name) })
}

// Sessions says how a graphical session is asked to end, and bounds each way of
// ending it.
type Sessions struct {
	// EndHook is a program with its arguments that ends a session politely, like
	// ["uwsm", "stop"]. It is run first, as each person whose session ends, and has to
	// stay until it is done: what it leaves in the background is killed. None: nobody
	// is asked.
	EndHook []string `toml:"end_hook"`
	// EndTimeout is how long it has.
	EndTimeout Duration `toml:"end_timeout"`
	// TerminateTimeout is how long a session has to go after TerminateSession.
	TerminateTimeout Duration `toml:"terminate_timeout"`
	// KillTimeout is how long it has after KillSession with SIGKILL.
	KillTimeout Duration `toml:"kill_timeout"`
	// ManagerTimeout is how long the user manager of somebody whose session has ended
	// may keep a display GPU. Then it is stopped, and everything under it. logind stops
	// it by itself after UserStopDelaySec=, 10 s by default, unless it has a reason not
	// to.
	ManagerTimeout Duration `toml:"manager_timeout"`
}

// Announce bounds how long a transition that was announced waits before its point
// of no return.
type Announce struct {
	// Grace is how long people have whose session a transition will end that
	// somebody else asked for. A request may say otherwise.
	Grace Duration `toml:"grace"`
	// MaxDelay is how long delay inhibitors hold a transition up, all together.
	MaxDelay Duration `toml:"max_delay"`
	// MaxPostpone is by how much people whose session would end can put it off, all
	// together. 0: not at all.
	MaxPostpone Duration `toml:"max_postpone"`
}

// Timeouts bounds the steps that have no section of their own.
type Timeouts struct {
	Unit       Duration `toml:"unit"`        // one systemd job
	Isolate    Duration `toml:"isolate"`     // isolate, until every casualty is down
	GPURelease Duration `toml:"gpu_release"` // sessions gone, until the display GPU is free
	Verify     Duration `toml:"verify"`      // all steps done, until the mode is observed
	Look       Duration `toml:"look"`        // one look of one source
	Recheck    Duration `toml:"recheck"`     // between looks at what sends no signal, in compute; at audio every tenth, for people
}

// Default is the policy of an empty file: observe honestly, change nothing.
func Default() Policy {
	return Policy{
		Transitions: TrustObserve,
		DefaultMode: Desktop,
		MustSurvive: []string{},
		Paths: Paths{
			Runtime: "/run/mode-controller",
			State:   "/var/lib/mode-controller",
			Probes:  "/run/dubnium",
			Issue:   "/run/issue.d",

			RebuildLock: "/run/nixos/switch-to-configuration.lock",
		},
		Units: Units{
			DesktopTarget:  "desktop.target",
			ComputeTarget:  "compute.target",
			DisplayManager: "display-manager.service",
			StudioPolicy:   "studio-local-policy.service",
			AudioPriority:  "audio-priority.service",
			K3s:            "k3s.service",
		},
		VLLM: VLLM{
			Enabled:        true,
			Profiles:       defaultProfiles(),
			HealthURL:      "http://127.0.0.1:8000/health",
			MetricsURL:     "http://127.0.0.1:8000/metrics",
			StartTimeout:   Duration(20 * time.Minute),
			DrainTimeout:   Duration(5 * time.Minute),
			OnDrainTimeout: DrainFail,
		},
		GPU: GPU{
			Display: []string{}, AI: []string{}, Planned: []string{},
			PermittedHolders: []string{"nvidia-persistenced.service"}, Recheck: Duration(5 * time.Minute),
		},
		Audio: Audio{
			Required: true, Grace: Duration(10 * time.Second),
			DAWs: []Pattern{"reaper", "reaper5", ".reaper-wrapped", "REAPER"}, // the third is NixOS's wrapper
		},
		Sessions: Sessions{
			EndHook:          []string{},
			EndTimeout:       Duration(30 * time.Second),
			TerminateTimeout: Duration(20 * time.Second),
			KillTimeout:      Duration(10 * time.Second),
			ManagerTimeout:   Duration(15 * time.Second),
		},
		Announce: Announce{
			Grace:       Duration(10 * time.Second),
			MaxDelay:    Duration(30 * time.Second),
			MaxPostpone: Duration(10 * time.Minute),
		},
		Timeouts: Timeouts{
			Unit:       Duration(90 * time.Second),
			Isolate:    Duration(2 * time.Minute),
			GPURelease: Duration(30 * time.Second),
			Verify:     Duration(60 * time.Second),
			Look:       Duration(10 * time.Second),
			Recheck:    Duration(30 * time.Second),
		},
		Guards:    defaultThresholds(),
		Placement: Placement{Studio: Local, AI: Local},
		Modes:     defaultContracts(),
		Audit:     Audit{MaxMiB: 8, Keep: 4},
		Reconcile: Reconcile{Delay: Duration(time.Minute), MaxDelay: Duration(30 * time.Minute), Attempts: 5},
		Slices:    defaultSlices(),
		Studio:    defaultStudio(),
	}
}

// Target returns the systemd target that carries mode: studio-local is an
// overlay on desktop and has none of its own.
func (p Policy) Target(mode Mode) string {
	if mode == Compute {
		return p.Units.ComputeTarget
	}
	return p.Units.DesktopTarget
}

// PrepareUnit names the host's optional unit that runs before mode is entered.
func PrepareUnit(mode Mode) string { return "mode-prepare-" + string(mode) + ".service" }
