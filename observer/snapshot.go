// Package observer derives the observed state of a workstation from facts.
//
// A Snapshot holds what each source read last. Derive computes three-valued facts from it, and
// Classify the observed state from those. The desired mode is never a fact: it is part of the
// context, and only distinguishes a failed transition from a plain state. A fact that could not be
// established is unknown, never false, and while a deciding fact is unknown the state is not a mode.
//
// The package does no I/O. The packages below it read the sources.
package observer

import (
	"slices"
	"strings"
	"time"

	"github.com/dubnium/dubnium/policy"
)

// Reading is the outcome of one read of one source.
type Reading struct {
	// At is when the read ended. Zero: the source has not been read yet.
	At time.Time `json:"at"`
	// Reason explains why the read failed. Empty: it succeeded.
	Reason string `json:"reason,omitempty"`
}

// WasRead reports whether the source has been read since the daemon started, successfully or not.
func (r Reading) WasRead() bool { return !r.At.IsZero() }

// Known reports whether the last read succeeded.
func (r Reading) Known() bool { return r.WasRead() && r.Reason == "" }

// Snapshot is what all sources read last. It is immutable once it has been handed out.
type Snapshot struct {
	Systemd   Systemd     `json:"systemd"`
	Logind    Logind      `json:"logind"`
	Processes ProcessScan `json:"holders"`
	GPU       NVML        `json:"gpu"`
	Inference Inference   `json:"inference"`
	Procfs    Procfs      `json:"procfs"`
	Audio     Audio       `json:"audio"`
	Saved     SavedState  `json:"kept"`
	Locks     Locks       `json:"locks"`
}

// Systemd is the state of the system manager and of the units that the policy names.
type Systemd struct {
	Reading
	// State is the manager's SystemState: initializing, starting, running,
	// degraded, maintenance, stopping.
	State string `json:"state"`
	// Units has the units by the name under which they were read, which may be an alias.
	Units map[string]Unit `json:"units"`
}

// Started reports whether the manager has finished booting.
func (s Systemd) Started() bool { return s.State != "initializing" && s.State != "starting" }

// Unit is the state of one unit (org.freedesktop.systemd1.Unit).
type Unit struct {
	ID           string `json:"id"`
	LoadState    string `json:"load_state"`
	ActiveState  string `json:"active_state"`
	SubState     string `json:"sub_state"`
	UnitFile     string `json:"unit_file_state"`
	AllowIsolate bool   `json:"allow_isolate"`
	// Result is how the last run ended, e.g. exit-code. It is read only if the unit has
	// failed or waits for a restart after a failure.
	Result string `json:"result,omitempty"`
	// Job is the id of the queued job, 0 for none.
	Job uint32 `json:"job"`
	// ActiveSince is when the unit last became active; zero when it never did.
	ActiveSince time.Time `json:"active_since,omitzero"`
	// InvocationID identifies one run of the unit; hex, empty when it never ran.
	InvocationID string `json:"invocation_id"`
	// Properties are the properties of a slice that modes change.
	Properties policy.Properties `json:"properties,omitempty"`
}

// Failed reports whether the unit has failed, or waits to be restarted after a failure.
func (u Unit) Failed() bool { return u.ActiveState == "failed" || u.SubState == "auto-restart" }

// Loaded reports whether systemd has a usable definition of the unit.
func (u Unit) Loaded() bool { return u.LoadState == "loaded" }

// Active reports whether the unit runs. Reloading and refreshing count, since the unit runs in both.
func (u Unit) Active() bool {
	return u.ActiveState == "active" || u.ActiveState == "reloading" || u.ActiveState == "refreshing"
}

// Down reports whether the unit does not run. A unit that is starting or stopping is neither Active
// nor Down.
func (u Unit) Down() bool { return u.ActiveState == "inactive" || u.ActiveState == "failed" }

// Logind is the state of systemd-logind.
type Logind struct {
	Reading
	Sessions []Session `json:"sessions"`
	// Inhibitors are the locks by which programs block or delay actions of logind.
	Inhibitors []Inhibitor `json:"inhibitors"`
	// Sleeping and ShuttingDown: the machine is about to suspend or to shut down.
	Sleeping     bool `json:"sleeping"`
	ShuttingDown bool `json:"shutting_down"`
	// WokenAt is when the machine last resumed while the daemon ran. Readings from before
	// that are outdated.
	WokenAt time.Time `json:"woken_at,omitzero"`
}

// Inhibitor is one of logind's (org.freedesktop.login1.Manager, ListInhibitors).
type Inhibitor struct {
	What string `json:"what"` // shutdown, sleep, idle, handle-lid-switch, ..., with colons between
	Who  string `json:"who"`  // as the program states it
	Why  string `json:"why"`  // as the program states it
	Mode string `json:"mode"` // block, block-weak or delay
	UID  uint32 `json:"uid"`
	PID  uint32 `json:"pid"`
}

// Session is one logind session (org.freedesktop.login1.Session).
type Session struct {
	ID      string `json:"id"`
	UID     uint32 `json:"uid"`
	User    string `json:"user"`
	Class   string `json:"class"`
	Type    string `json:"type"`
	State   string `json:"state"`
	Seat    string `json:"seat"`
	Scope   string `json:"scope"`
	Service string `json:"service"`
	Leader  uint32 `json:"leader"`
	Remote  bool   `json:"remote"`
	Locked  bool   `json:"locked"`
	Idle    bool   `json:"idle"`
	// Since is when it began; zero when logind does not report it.
	Since time.Time `json:"since,omitzero"`
}

// Kind classifies sessions as far as modes depend on it.
type Kind string

// The kinds of session.
const (
	KindGraphical Kind = "graphical" // a person at a compositor
	KindGreeter   Kind = "greeter"   // a login screen
	KindOther     Kind = "other"     // text, without a seat, background, manager
	KindUnknown   Kind = "unknown"   // a class or type that this version does not know
)

// Kind classifies the session by its class and type (sd-login(3)). A class or type of a newer
// logind is KindUnknown, not KindOther, since it may be a desktop.
//
// A graphical session has a seat. The type alone does not suffice: the owner of a session sets it
// (SetType), over ssh too, while only logind assigns a seat.
func (s Session) Kind() Kind {
	graphical, typeKnown := sessionTypes[s.Type]
	switch s.Class {
	case "user", "user-early", "user-light", "user-early-light":
		switch {
		case !typeKnown:
			return KindUnknown
		case graphical && s.Seat != "":
			return KindGraphical
		}
		return KindOther
	case "greeter":
		return KindGreeter
	case "lock-screen", "background", "background-light", "manager", "manager-early", "none":
		return KindOther
	}
	return KindUnknown
}

// sessionTypes maps each Type of logind to whether it is graphical.
var sessionTypes = map[string]bool{
	"x11": true, "wayland": true, "mir": true,
	"tty": false, "unspecified": false, "web": false,
}

// Graphical lists the graphical sessions, ordered by id. A session that is closing is included
// until logind has removed it.
func (l Logind) Graphical() []Session { return l.of(KindGraphical) }

// Greeters lists the login screens.
func (l Logind) Greeters() []Session { return l.of(KindGreeter) }

func (l Logind) of(kind Kind) []Session {
	var found []Session
	for _, s := range l.Sessions {
		if s.Kind() == kind {
			found = append(found, s)
		}
	}
	slices.SortFunc(found, func(a, b Session) int { return strings.Compare(a.ID, b.ID) })
	return found
}

// ProcessScan is what the holders probe read from all processes: the holders of GPUs and sound
// devices, and jobs.
type ProcessScan struct {
	Reading
	GPUs []GPU `json:"gpus"`
	// Holders has one entry for each process and GPU.
	Holders []Holder `json:"holders"`
	// Unseen are the processes whose open files were not all read, one for each user slice
	// or unit. MoreUnseen counts those for which the list has no room.
	Unseen     []Unseen `json:"unseen,omitempty"`
	MoreUnseen int      `json:"more_unseen,omitempty"`
	// SoundComplete: PCMs and DAWs were read. Otherwise an empty list means nothing.
	SoundComplete bool `json:"sound_told"`
	// PCMs are the ALSA devices that are open. MorePCMs counts those for which the
	// list has no room.
	PCMs     []PCM `json:"pcms"`
	MorePCMs int   `json:"more_pcms,omitempty"`
	// DAWs are the processes that the policy calls digital audio workstations. MoreDAWs
	// counts those for which the list has no room.
	DAWs     []Process `json:"daws"`
	MoreDAWs int       `json:"more_daws,omitempty"`
	Jobs     Jobs      `json:"jobs"`
	// Directories are the directories that the policy requires.
	Directories []Directory `json:"stores"`
}

// GPU is a graphics card of the host.
type GPU struct {
	PCI string `json:"pci"` // 0000:01:00.0
	// Display: the card has a KMS node, so it can drive a monitor.
	Display bool `json:"display"`
	// Driver is the kernel driver: nvidia, amdgpu, vfio-pci. Empty: none is bound, or the
	// card is not on PCI.
	Driver string `json:"driver,omitempty"`
	// Audio is the PCI address of the card's HDMI audio function, empty for none.
	Audio string `json:"audio,omitempty"`
	// Hidden: the card has no device nodes, because no driver is bound, or one that passes
	// it to a virtual machine (vfio-pci). Its holders are unknown.
	Hidden bool `json:"hidden,omitempty"`
}

// Holder is a process with a node of a GPU open.
type Holder struct {
	GPU     string `json:"gpu"` // PCI address
	PID     int    `json:"pid"`
	Command string `json:"command"`
	UID     uint32 `json:"uid"`
	// Unit is the innermost unit of the system manager in the cgroup. Under a user manager
	// it is user@1000.service/inner.service, because users choose the names of their units.
	Unit    string   `json:"unit"`
	Slices  []string `json:"slices"`  // outermost first
	Session string   `json:"session"` // logind id, empty outside sessions
	Nodes   []string `json:"nodes"`   // card0, renderD128, nvidia0, ...
	// Truncated counts the holders of this GPU in the same user slice or, outside user
	// slices, in the same unit for which the list has no room.
	Truncated int `json:"more,omitempty"`
	// Redacted: the process belongs to another user than the reader, who gets only the GPU
	// and the user id.
	Redacted bool `json:"redacted,omitempty"`
}

// Inference is what vLLM reports over HTTP.
type Inference struct {
	Reading
	// Healthy: /health answered 200.
	Healthy bool `json:"healthy"`
	// HealthText is the answer of /health if it was not 200, or the error.
	HealthText string `json:"health_text,omitempty"`
	// NotListening: the connection was refused, so nothing is being served.
	NotListening bool `json:"not_listening,omitempty"`
	// Running and Waiting are the requests in flight, summed over all label sets; nil if
	// the metric is missing.
	Running *float64 `json:"running"`
	Waiting *float64 `json:"waiting"`
}

// Requests returns the number of requests in flight, and whether it is known.
func (i Inference) Requests() (float64, bool) {
	if !i.Known() || i.Running == nil || i.Waiting == nil {
		return 0, false
	}
	return *i.Running + *i.Waiting, true
}

// Procfs is the load of the machine (proc(5)).
type Procfs struct {
	Reading
	// Cores counts the processors that are online.
	Cores Measure `json:"cores"`
	// LoadPerCore is the load average of the last minute divided by Cores.
	LoadPerCore Measure `json:"load_per_core"`
	// PressureCPU, PressureMemory and PressureIO are the share of the last ten
	// seconds, in percent, in which some task waited (PSI, some avg10).
	PressureCPU    Measure `json:"pressure_cpu"`
	PressureMemory Measure `json:"pressure_memory"`
	PressureIO     Measure `json:"pressure_io"`
	// MemAvailable and MemTotal are in bytes.
	MemAvailable Measure `json:"mem_available"`
	MemTotal     Measure `json:"mem_total"`
}

// Measure is a number that may be unknown. Unknown is nil, never 0.
type Measure struct {
	Value *float64 `json:"value"`
	// Reason explains why the number is unknown.
	Reason string `json:"reason,omitempty"`
}

// SavedState is the state from before the daemon changed it, which it restores when a mode is left.
type SavedState struct {
	Reading
	// Slices has, by slice, the original value of each property that a mode has changed.
	Slices map[string]policy.Properties `json:"slices"`
	// Quiesced are the units that studio-local stopped.
	Quiesced []string `json:"quiesced"`
}

// A Part is what one read of one source contributes to a snapshot.
type Part interface {
	Into(s *Snapshot)
	// Known reports whether the read succeeded.
	Known() bool
}

// Into implements Part.
func (p Systemd) Into(s *Snapshot) { s.Systemd = p }

// Into implements Part.
func (p Logind) Into(s *Snapshot) { s.Logind = p }

// Into implements Part.
func (p ProcessScan) Into(s *Snapshot) { s.Processes = p }

// Into implements Part.
func (p Inference) Into(s *Snapshot) { s.Inference = p }

// Into implements Part.
func (p Procfs) Into(s *Snapshot) { s.Procfs = p }

// Into implements Part.
func (p SavedState) Into(s *Snapshot) { s.Saved = p }
