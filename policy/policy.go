package policy

import (
	"fmt"
	"slices"
	"time"
)

// Duration is a time.Duration that a file has as "90s" or "5m".
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

// Policy is the complete policy of a host: a key that the file leaves out has its
// default.
type Policy struct {
	// Transitions says which transitions the daemon may carry out.
	Transitions AllowedTransitions `toml:"transitions"`
	// DefaultMode is the desired mode after a boot.
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

// Paths are the directories and files that the daemon uses. All are absolute.
type Paths struct {
	// Runtime has desired, current and the other files that scripts read. A reboot
	// removes it.
	Runtime string `toml:"runtime"`
	// State has the journal and the history. It persists across reboots.
	State string `toml:"state"`
	// Probes has the sockets of the probes.
	Probes string `toml:"probes"`
	// Issue is the directory from which agetty reads what consoles show before a login.
	// agetty.reload, which makes agetty read it again, is beside it.
	Issue string `toml:"issue"`
	// RebuildLock is the lock of nixos-rebuild while it switches to a configuration. A
	// file that does not exist is not held.
	RebuildLock string `toml:"rebuild_lock"`
}

// Units names the units that make up the modes.
type Units struct {
	DesktopTarget  string `toml:"desktop_target"`
	ComputeTarget  string `toml:"compute_target"`
	DisplayManager string `toml:"display_manager"`
	StudioPolicy   string `toml:"studio_policy"`
	AudioPriority  string `toml:"audio_priority"`
	// K3s is observed only: no transition starts or stops it.
	K3s string `toml:"k3s"`
}

// GPU says what the GPUs are for and which units may keep them open.
type GPU struct {
	// Display lists the GPUs that drive the display, by PCI addresses such as
	// 0000:01:00.0. Empty means every GPU with a display node.
	Display []string `toml:"display"`
	// AI lists the GPUs that inference has in compute. A display GPU may be among them.
	AI []string `toml:"ai"`
	// MinAI is how many of the GPUs of compute must be usable, else compute is degraded.
	// 0 means all of them.
	MinAI int `toml:"min_ai"`
	// Planned lists GPUs that the machine will have later. A missing one is reported and
	// blocks nothing. If gpu.ai has it too, compute is degraded while it is missing, unless
	// gpu.min_ai others are usable.
	Planned []string `toml:"planned"`
	// PermittedHolders are units that may keep the device nodes of a GPU open.
	PermittedHolders []string `toml:"permitted_holders"`
	// ResidualMiB is how much memory of a released display GPU may be in use. `modectl
	// doctor` proposes a value from the releases in the history. 0 disables the check.
	ResidualMiB int `toml:"residual_mib"`
	// Recheck is how often the GPUs are read outside compute, if this section names any.
	Recheck Duration `toml:"recheck"`
}

// Configured reports whether the policy names GPUs. Otherwise the contracts only ask who
// holds the display GPUs.
func (g GPU) Configured() bool { return len(g.Display)+len(g.AI)+len(g.Planned) > 0 }

// Audio says what desktops require of audio.
type Audio struct {
	// Required adds a running audio server of each graphical user to the contracts of
	// desktop and studio-local.
	Required bool `toml:"required"`
	// Grace is how long after a login a missing audio server does not degrade a desktop.
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

// Sessions says how graphical sessions are asked to end, and bounds each way to end them.
type Sessions struct {
	// EndHook is a program with arguments that asks a session to end, such as
	// ["uwsm", "stop"]. It runs first, as each user whose session ends. What it leaves in
	// the background is killed when it exits. Empty means that no session is asked.
	EndHook []string `toml:"end_hook"`
	// EndTimeout bounds the hook.
	EndTimeout Duration `toml:"end_timeout"`
	// TerminateTimeout is how long a session may take to end after TerminateSession.
	TerminateTimeout Duration `toml:"terminate_timeout"`
	// KillTimeout is how long it may take after KillSession with SIGKILL.
	KillTimeout Duration `toml:"kill_timeout"`
	// ManagerTimeout is how long units of a user manager may keep a display GPU after the
	// session has ended. Then the user manager is stopped with all its units. logind stops
	// it after UserStopDelaySec= (10 s by default), unless the user lingers or has another
	// session.
	ManagerTimeout Duration `toml:"manager_timeout"`
}

// Announce bounds how long an announced transition waits before its commit point.
type Announce struct {
	// Grace is how long users are warned whose session a request of another user ends. A
	// request may set another time.
	Grace Duration `toml:"grace"`
	// MaxDelay bounds the delay by delay inhibitors, all together.
	MaxDelay Duration `toml:"max_delay"`
	// MaxPostpone bounds by how much users whose session would end can postpone it, all
	// together. 0 means not at all.
	MaxPostpone Duration `toml:"max_postpone"`
}

// Timeouts bounds the steps that have no section of their own.
type Timeouts struct {
	Unit       Duration `toml:"unit"`        // one systemd job
	Isolate    Duration `toml:"isolate"`     // one isolate, until every stopped unit is down
	GPURelease Duration `toml:"gpu_release"` // from the end of the sessions until the display GPU is free
	Verify     Duration `toml:"verify"`      // from the last step until the mode is observed
	Look       Duration `toml:"look"`        // one read of one source
	// Recheck is how often sources without signals are read in compute. Audio is read at a
	// tenth of that rate, outside compute.
	Recheck Duration `toml:"recheck"`
}

// Default is the policy of an empty file: observe and change nothing.
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
		VLLM: defaultVLLM(),
		GPU: GPU{
			Display: []string{}, AI: []string{}, Planned: []string{},
			PermittedHolders: []string{"nvidia-persistenced.service"}, Recheck: Duration(5 * time.Minute),
		},
		Audio: Audio{
			Required: true, Grace: Duration(10 * time.Second),
			DAWs: []Pattern{"reaper", "reaper5", ".reaper-wrapped", "REAPER"}, // the third is NixOS's wrapper
		},
		Sessions: defaultSessions(),
		Announce: Announce{
			Grace: Duration(10 * time.Second), MaxDelay: Duration(30 * time.Second), MaxPostpone: Duration(10 * time.Minute),
		},
		Timeouts:  defaultTimeouts(),
		Guards:    defaultThresholds(),
		Placement: Placement{Studio: Local, AI: Local},
		Modes:     defaultContracts(),
		Audit:     Audit{MaxMiB: 8, Keep: 4},
		Reconcile: Reconcile{Delay: Duration(time.Minute), MaxDelay: Duration(30 * time.Minute), Attempts: 5},
		Slices:    defaultSlices(),
		Studio:    defaultStudio(),
	}
}

func defaultSessions() Sessions {
	return Sessions{
		EndHook:          []string{},
		EndTimeout:       Duration(30 * time.Second),
		TerminateTimeout: Duration(20 * time.Second),
		KillTimeout:      Duration(10 * time.Second),
		ManagerTimeout:   Duration(15 * time.Second),
	}
}

func defaultTimeouts() Timeouts {
	return Timeouts{
		Unit:       Duration(90 * time.Second),
		Isolate:    Duration(2 * time.Minute),
		GPURelease: Duration(30 * time.Second),
		Verify:     Duration(60 * time.Second),
		Look:       Duration(10 * time.Second),
		Recheck:    Duration(30 * time.Second),
	}
}

// Target returns the systemd target of a mode. studio-local is an overlay on desktop and
// has none of its own.
func (p Policy) Target(mode Mode) string {
	if mode == Compute {
		return p.Units.ComputeTarget
	}
	return p.Units.DesktopTarget
}

// PrepareUnit is an optional unit of the host that runs before a mode is entered.
func PrepareUnit(mode Mode) string { return "mode-prepare-" + string(mode) + ".service" }
