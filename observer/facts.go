package observer

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dubnium/dubnium/policy"
)

// Truth is a three-valued answer. The zero value is Unknown, so that a missing fact is never
// mistaken for False.
type Truth int8

// The truths.
const (
	Unknown Truth = iota
	False
	True
)

var truths = [...]string{"unknown", "false", "true"}

func (t Truth) String() string { return truths[t] }

// MarshalText writes the truth as a word.
func (t Truth) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads what MarshalText writes. Any other word, as a newer version may write it, is
// Unknown.
func (t *Truth) UnmarshalText(text []byte) error {
	*t = Truth(max(0, slices.Index(truths[:], string(text))))
	return nil
}

func truth(b bool) Truth {
	if b {
		return True
	}
	return False
}

// Signal names a fact. The names are the keys of the D-Bus property Signals and of
// `modectl current`.
type Signal string

// The signals.
const (
	ManagerStarted   Signal = "manager_started"
	GraphicalTarget  Signal = "graphical_target_active"
	DesktopTarget    Signal = "desktop_target_active"
	ComputeTarget    Signal = "compute_target_active"
	GraphicalSession Signal = "graphical_session_active"
	Greeter          Signal = "greeter_active"
	DisplayManager   Signal = "display_manager_active"
	DesktopPresence  Signal = "desktop_presence"
	StudioPolicy     Signal = "studio_policy_active"
	AudioPriority    Signal = "audio_priority_active"
	VLLMActive       Signal = "vllm_active"
	VLLMHealthy      Signal = "vllm_healthy"
	AIProfile        Signal = "ai_profile"
	K3sActive        Signal = "k3s_active"
	DisplayReleased  Signal = "gpu_display_released"
	AudioStack       Signal = "audio_stack_running"
	AudioActive      Signal = "audio_active"
	DisplayGraphics  Signal = "gpu_display_graphics_active"
	DisplayCompute   Signal = "gpu_display_compute_active"
	DisplayPresent   Signal = "gpu_display_present"
	AIPresent        Signal = "gpu_ai_present"
	PlannedPresent   Signal = "gpu_planned_present"
	MaintenanceQuiet Signal = "maintenance_quiet"
)

// Signals lists every signal in the order in which they are shown.
func Signals() []Signal {
	return []Signal{
		ManagerStarted, GraphicalTarget, DesktopTarget, ComputeTarget, GraphicalSession, Greeter,
		DisplayManager, DesktopPresence, StudioPolicy, AudioPriority, VLLMActive, VLLMHealthy, AIProfile,
		K3sActive, DisplayReleased, DisplayGraphics, DisplayCompute, DisplayPresent, AIPresent, PlannedPresent,
		AudioStack, AudioActive, MaintenanceQuiet,
	}
}

// The names of the sources in facts and logs.
const (
	SourceSystemd   = "systemd"
	SourceLogind    = "logind"
	SourceHolders   = "holders"
	SourceGPU       = "gpu"
	SourceInference = "inference"
	SourceProcfs    = "procfs"
	SourceAudio     = "audio"
	SourceSaved     = "kept"
	SourceLocks     = "locks"
)

// Fact is the value of one signal with its evidence.
type Fact struct {
	Truth  Truth     `json:"truth"`
	Source string    `json:"source"`
	At     time.Time `json:"at,omitzero"`      // zero: the source has not been read yet
	Reason string    `json:"reason,omitempty"` // why the fact is unknown, otherwise the evidence
	// Word is the value of a signal that is not a bool, such as ai_profile. Truth is
	// then whether there is one.
	Word string `json:"word,omitempty"`
	// Bound is the age at which the fact becomes stale. Zero: never, because its source
	// signals every change.
	Bound time.Duration `json:"bound,omitempty"`
	// Grace: within the startup grace period. A missing value does not degrade the mode yet.
	Grace bool `json:"grace,omitempty"`
}

// Value is the value of the signal as it is published: a bool, a word, or nil if unknown.
func (f Fact) Value() any {
	switch {
	case f.Truth == Unknown:
		return nil
	case f.Word != "":
		return f.Word
	}
	return f.Truth == True
}

// Stale reports whether the fact is older than its bound.
func (f Fact) Stale(now time.Time) bool {
	return f.Bound > 0 && !f.At.IsZero() && now.Sub(f.At) > f.Bound
}

// Facts has the fact of each signal. A signal that is missing is unknown.
type Facts map[Signal]Fact

// Is returns the truth of a signal.
func (f Facts) Is(s Signal) Truth { return f[s].Truth }

// Derive computes the facts from a snapshot.
func Derive(p policy.Policy, s Snapshot) Facts {
	f := Facts{
		ManagerStarted:   managerStarted(s.Systemd),
		GraphicalTarget:  unitActive(s.Systemd, "graphical.target"),
		DesktopTarget:    unitActive(s.Systemd, p.Units.DesktopTarget),
		ComputeTarget:    unitActive(s.Systemd, p.Units.ComputeTarget),
		DisplayManager:   unitActive(s.Systemd, p.Units.DisplayManager),
		StudioPolicy:     unitActive(s.Systemd, p.Units.StudioPolicy),
		AudioPriority:    unitActive(s.Systemd, p.Units.AudioPriority),
		VLLMActive:       vllmActive(p, s.Systemd),
		AIProfile:        aiProfile(p, s.Systemd),
		K3sActive:        unitActive(s.Systemd, p.Units.K3s),
		GraphicalSession: session(s.Logind, KindGraphical),
		Greeter:          session(s.Logind, KindGreeter),
		DisplayReleased:  displayReleased(p, s),
		AudioStack:       audioStack(s),
		AudioActive:      audioActive(p.Audio, s),
		MaintenanceQuiet: maintenanceQuiet(p, s.Systemd),
	}
	f[DesktopPresence] = f.presence()
	f[VLLMHealthy] = vllmHealthy(p, s, f[VLLMActive])
	gpuFacts(p, s, f)
	unitFacts(p, s.Systemd, f)
	for name, fact := range f {
		fact.Bound = bound(p, f.Is(ComputeTarget), fact.Source)
		f[name] = fact
	}
	return f
}

// LeavesCompute reports whether a transition to a mode may leave compute. It is true as well if it
// is unknown whether the host is in compute.
func LeavesCompute(p policy.Policy, s Snapshot, to policy.Mode) bool {
	return to != policy.Compute && unitActive(s.Systemd, p.Units.ComputeTarget).Truth != False
}

// bound is the age at which a fact of a source becomes stale, zero for never. The holders of a GPU
// and the health of vLLM are polled: in compute every timeouts.recheck, and the GPUs outside
// compute every gpu.recheck if the policy names them (GPUPace). A read may take timeouts.look. An
// audio probe sends its changes, and is polled every AudioRecheck in case it hangs.
func bound(p policy.Policy, compute Truth, source string) time.Duration {
	switch source {
	case SourceHolders, SourceGPU:
		if compute == False && p.GPU.Configured() {
			return p.GPU.Recheck.D() + 2*p.Timeouts.Look.D()
		}
		return p.Timeouts.Recheck.D() + 2*p.Timeouts.Look.D()
	case SourceInference:
		return p.Timeouts.Recheck.D() + 2*p.Timeouts.Look.D()
	case SourceAudio:
		return AudioRecheck(p) + 2*p.Timeouts.Look.D()
	}
	return 0
}

func managerStarted(s Systemd) Fact {
	f := Fact{Source: SourceSystemd, At: s.At, Reason: s.Reason}
	if s.Known() {
		f.Truth = truth(s.Started())
		f.Reason = "the manager is " + s.State
	}
	return f
}

// unitActive is True for a unit that is active, False for one that is down or does not exist, and
// Unknown in between: a unit that is stopping still runs, and one that is starting may fail.
func unitActive(s Systemd, name string) Fact {
	f := Fact{Source: SourceSystemd, At: s.At, Reason: s.Reason}
	if !s.Known() {
		return f
	}
	u, seen := s.Units[name]
	switch {
	case !seen:
		f.Reason = name + " has not been read"
	case u.Active():
		f.Truth, f.Reason = True, name+" is "+u.ActiveState
	case u.Down() && u.Result != "":
		f.Truth, f.Reason = False, fmt.Sprintf("%s has %s (%s)", name, u.ActiveState, u.Result)
	case u.Down():
		f.Truth, f.Reason = False, fmt.Sprintf("%s is %s (%s)", name, u.ActiveState, u.LoadState)
	case u.Result != "":
		f.Reason = fmt.Sprintf("%s is %s, it failed (%s)", name, u.ActiveState, u.Result)
	default:
		f.Reason = name + " is " + u.ActiveState
	}
	return f
}

// maintenanceQuiet is True if all units that studio-local stops are down. One that is starting or
// stopping counts as running.
func maintenanceQuiet(p policy.Policy, s Systemd) Fact {
	f := Fact{Source: SourceSystemd, At: s.At, Reason: s.Reason}
	if !s.Known() {
		return f
	}
	f.Truth, f.Reason = True, "no maintenance unit of the policy runs"
	for _, name := range p.Studio.Units() {
		u, seen := s.Units[name]
		switch {
		case !seen && f.Truth == True:
			f.Truth, f.Reason = Unknown, name+" has not been read"
		case seen && !u.Down():
			f.Truth, f.Reason = False, name+" is "+u.ActiveState
			return f
		}
	}
	return f
}

// aiProfile is the profile that vLLM runs in. Several are joined by "+".
func aiProfile(p policy.Policy, s Systemd) Fact {
	var f Fact
	var running []string
	for _, unit := range VLLMUnits(p, s) {
		active := unitActive(s, unit)
		switch {
		case active.Truth == Unknown:
			return active
		case active.Truth == True:
			running = append(running, p.ProfileOf(unit))
			f = active
		case len(running) == 0:
			f = active
		}
	}
	f.Word = cmp.Or(strings.Join(running, "+"), policy.ProfileOff)
	return f
}

// session is True if a session of that kind exists. It is Unknown if only a session of an unknown
// kind does.
func session(l Logind, kind Kind) Fact {
	f := Fact{Source: SourceLogind, At: l.At, Reason: l.Reason}
	if !l.Known() {
		return f
	}
	f.Truth, f.Reason = False, "no "+string(kind)+" session"
	for _, s := range l.Sessions {
		switch s.Kind() {
		case kind:
			f.Truth, f.Reason = True, fmt.Sprintf("session %s of %s on %s, %s", s.ID, s.User, s.Seat, s.State)
			return f
		case KindUnknown:
			f.Truth = Unknown
			f.Reason = fmt.Sprintf(
				"session %s has class %q and type %q, which this version does not know", s.ID, s.Class, s.Type,
			)
		}
	}
	return f
}

// presence is True if somebody is logged in or can log in. A running display manager counts as the
// greeter that it starts.
func (f Facts) presence() Fact {
	candidates := []Fact{f[GraphicalSession], f[Greeter], f[DisplayManager]}
	for _, decides := range []Truth{True, Unknown} {
		for _, c := range candidates {
			if c.Truth == decides {
				return c
			}
		}
	}
	return candidates[0]
}

// vllmHealthy uses a health check only if the unit runs and the check is newer than its start. On
// the port of a stopped unit something else answers, and the health of an earlier run says nothing
// about a model that is being loaded.
func vllmHealthy(p policy.Policy, s Snapshot, active Fact) Fact {
	i := s.Inference
	_, running := RunningVLLM(p, s.Systemd)
	switch {
	case active.Truth == False:
		return Fact{Truth: False, Source: active.Source, At: active.At, Reason: active.Reason}
	case i.WasRead() && i.At.Before(running.ActiveSince):
		return Fact{Source: SourceInference, At: i.At, Reason: "vLLM has not been read since it was started"}
	case !i.Known():
		return Fact{Source: SourceInference, At: i.At, Reason: i.Reason}
	case i.Healthy:
		return Fact{Truth: True, Source: SourceInference, At: i.At, Reason: "/health answered 200"}
	}
	return Fact{Truth: False, Source: SourceInference, At: i.At, Reason: i.HealthText}
}
