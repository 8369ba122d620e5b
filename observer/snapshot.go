// Package observer says what a workstation is, from facts alone.
//
// A Snapshot holds what the sources saw, each with the time of its look; Derive
// turns it into three-valued facts; Classify turns those into the observed
// state. Nothing here reads a wish: what was asked enters only as context, to
// tell a failure from a plain state. A fact that nobody could establish is
// unknown, never false, and an unknown deciding fact never yields a mode's own
// name.
//
// The package does no I/O. The sources that look at the world live below it.
package observer

import (
	"slices"
	"strings"
	"time"

	"github.com/dubnium/dubnium/policy"
)

// Reading says how far one look of one source can be relied on.
type Reading struct {
	// At is when the look ended. Zero: nobody has looked yet.
	At time.Time `json:"at"`
	// Reason says why nothing is known. Empty: the look succeeded.
	Reason string `json:"reason,omitempty"`
}

// Looked reports whether the source has been looked at since the daemon started,
// successfully or not.
func (r Reading) Looked() bool { return !r.At.IsZero() }

// Known reports whether the facts beside this reading can be used.
func (r Reading) Known() bool { return r.Looked() && r.Reason == "" }

// Snapshot is everything the sources saw, each at its own last look. It is a
// value: nobody changes one that has been handed out.
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

// Systemd is what the system manager says of itself and of the units policy
// names.
type Systemd struct {
	Reading
	// State is the manager's SystemState: initializing, starting, running,
	// degraded, maintenance, stopping.
	State string `json:"state"`
	// Units are by the name they were asked for, which may be an alias.
	Units map[string]Unit `json:"units"`
}

// Started reports whether the manager is through with the boot.
func (s Systemd) Started() bool { return s.State != "initializing" && s.State != "starting" }

// Unit is what systemd says of one unit (org.freedesktop.systemd1.Unit).
type Unit struct {
	ID           string `json:"id"`
	LoadState    string `json:"load_state"`
	ActiveState  string `json:"active_state"`
	SubState     string `json:"sub_state"`
	UnitFile     string `json:"unit_file_state"`
	AllowIsolate bool   `json:"allow_isolate"`
	// Result says how the last run ended, e.g. exit-code; it is read of a unit that has
	// failed or waits to be restarted after a failure.
	Result string `json:"result,omitempty"`
	// Job is the id of the queued job, 0 for none.
	Job uint32 `json:"job"`
	// ActiveSince is when the unit last became active; zero when it never did.
	ActiveSince time.Time `json:"active_since,omitzero"`
	// InvocationID tells one run of the unit from the next; hex, empty when it
	// never ran.
	InvocationID string `json:"invocation_id"`
	// Properties are those that modes change, of a slice.
	Properties policy.Properties `json:"properties,omitempty"`
}

// Failed reports whether the unit is down because it failed, or about to be
// started again for that reason.
func (u Unit) Failed() bool { return u.ActiveState == "failed" || u.SubState == "auto-restart" }

// Loaded reports whether systemd has a usable definition of the unit.
func (u Unit) Loaded() bool { return u.LoadState == "loaded" }

// Active reports whether the unit is up: active, or reloading or refreshing, which
// are active with something about it being done again.
func (u Unit) Active() bool {
	return u.ActiveState == "active" || u.ActiveState == "reloading" || u.ActiveState == "refreshing"
}

// Down reports whether nothing of the unit runs. A unit that is starting or
// stopping is neither Active nor Down.
func (u Unit) Down() bool { return u.ActiveState == "inactive" || u.ActiveState == "failed" }

// Logind is what systemd-logind says.
type Logind struct {
	Reading
	Sessions []Session `json:"sessions"`
	// Inhibitors are what programs ask logind not to do, or not to do yet.
	Inhibitors []Inhibitor `json:"inhibitors"`
	// Sleeping and ShuttingDown: the machine is on its way there.
	Sleeping     bool `json:"sleeping"`
	ShuttingDown bool `json:"shutting_down"`
	// WokenAt is when the machine last woke up while the daemon ran: whatever was
	// seen before that was another day's.
	WokenAt time.Time `json:"woken_at,omitzero"`
}

// Inhibitor is one of logind's (org.freedesktop.login1.Manager, ListInhibitors).
type Inhibitor struct {
	What string `json:"what"` // shutdown, sleep, idle, handle-lid-switch, ..., with colons between
	Who  string `json:"who"`  // the program's own words
	Why  string `json:"why"`  // the program's own words
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
	// Since is when it began; zero when logind does not say.
	Since time.Time `json:"since,omitzero"`
}

// Kind is what a session is to the modes.
type Kind string

// The kinds of session.
const (
	KindGraphical Kind = "graphical" // a person at a compositor
	KindGreeter   Kind = "greeter"   // a login screen
	KindOther     Kind = "other"     // text, without a seat, background, manager
	KindUnknown   Kind = "unknown"   // a word this version does not know
)

// Kind classifies the session by the words of sd-login(3). A class or type that
// a newer logind brings is unknown, not "other": it may be a person's desktop.
//
// A session without a seat is at no screen of this machine, whatever its type is: its
// owner chooses the type (SetType), over ssh too, and logind alone gives the seat.
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

// Graphical lists the sessions of people at a compositor, in order of their ids.
// A session that is closing is still one: absent means removed.
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

// ProcessScan is who keeps a GPU's device nodes open, and what else is read out of
// every process at the same time.
type ProcessScan struct {
	Reading
	GPUs []GPU `json:"gpus"`
	// Holders has one entry for each process and GPU.
	Holders []Holder `json:"holders"`
	// Unseen are the processes whose open files were not all looked at, one for each
	// user slice or unit. MoreUnseen counts those of further ones.
	Unseen     []Unseen `json:"unseen,omitempty"`
	MoreUnseen int      `json:"more_unseen,omitempty"`
	// SoundComplete: the probe said who uses the sound devices, so that an empty list
	// means nobody.
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
	// Directories are the directories that policy needs to have.
	Directories []Store `json:"stores"`
}

// GPU is a graphics card of the host.
type GPU struct {
	PCI string `json:"pci"` // 0000:01:00.0
	// Display: the card has a KMS node, so that it can drive a monitor.
	Display bool `json:"display"`
	// Driver is the kernel's for the card: nvidia, amdgpu, vfio-pci. Empty: none is
	// bound, or the card is not on PCI.
	Driver string `json:"driver,omitempty"`
	// Audio is the PCI address of the card's HDMI audio function, empty for none.
	Audio string `json:"audio,omitempty"`
	// Hidden: the kernel has no device nodes for the card, because no driver is bound
	// or one that gives it away (vfio-pci). Who uses it cannot be seen.
	Hidden bool `json:"hidden,omitempty"`
}

// Holder is a process with a node of a GPU open.
type Holder struct {
	GPU     string `json:"gpu"` // PCI address
	PID     int    `json:"pid"`
	Command string `json:"command"`
	UID     uint32 `json:"uid"`
	// Unit is the innermost unit of the system manager in its cgroup; what runs under
	// a user manager reads user@1000.service/inner.service, since users name their
	// own units as they like.
	Unit    string   `json:"unit"`
	Slices  []string `json:"slices"`  // outermost first
	Session string   `json:"session"` // logind id, empty outside sessions
	Nodes   []string `json:"nodes"`   // card0, renderD128, nvidia0, ...
	// Truncated counts the other holders of this GPU for which the list has no room: those
	// of the same user slice or, outside user slices, of the same unit.
	Truncated int `json:"more,omitempty"`
	// Redacted: it belongs to somebody else than who reads this, and only the GPU
	// and the user are told.
	Redacted bool `json:"redacted,omitempty"`
}

// Inference is what vLLM says over HTTP.
type Inference struct {
	Reading
	// Healthy: /health answered 200.
	Healthy bool `json:"healthy"`
	// HealthText says what /health answered instead.
	HealthText string `json:"health_text,omitempty"`
	// NotListening: the connection was refused, so that nothing is being served.
	NotListening bool `json:"not_listening,omitempty"`
	// Running and Waiting are the requests in flight, summed over every label
	// set; nil when the metric is missing, which is not the same as none.
	Running *float64 `json:"running"`
	Waiting *float64 `json:"waiting"`
}

// Requests is how many requests are in flight, and whether that is known.
func (i Inference) Requests() (float64, bool) {
	if !i.Known() || i.Running == nil || i.Waiting == nil {
		return 0, false
	}
	return *i.Running + *i.Waiting, true
}

// Procfs is how busy the machine is, as the kernel says (proc(5)).
type Procfs struct {
	Reading
	// Cores counts the processors that are online.
	Cores Measure `json:"cores"`
	// LoadPerCore is the load average of the last minute, for each core.
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

// Measure is a number that may not be known. One that is not is nil, and never 0.
type Measure struct {
	Value *float64 `json:"value"`
	// Reason says why it is not known.
	Reason string `json:"reason,omitempty"`
}

// SavedState is what the daemon has written down of before its own changes, to undo
// them.
type SavedState struct {
	Reading
	// Slices has, by slice, each property that a mode gave, as it was before the first
	// one did.
	Slices map[string]policy.Properties `json:"slices"`
	// Quiesced are the units that were up and that studio-local stopped.
	Quiesced []string `json:"quiesced"`
}

// A Part is what one look of one source contributes to a snapshot.
type Part interface {
	Into(s *Snapshot)
	// Known reports whether the look succeeded.
	Known() bool
}

// Into makes each source's facts a Part.
func (p Systemd) Into(s *Snapshot) { s.Systemd = p }

// Into makes each source's facts a Part.
func (p Logind) Into(s *Snapshot) { s.Logind = p }

// Into makes each source's facts a Part.
func (p ProcessScan) Into(s *Snapshot) { s.Processes = p }

// Into makes each source's facts a Part.
func (p Inference) Into(s *Snapshot) { s.Inference = p }

// Into makes each source's facts a Part.
func (p Procfs) Into(s *Snapshot) { s.Procfs = p }

// Into makes each source's facts a Part.
func (p SavedState) Into(s *Snapshot) { s.Saved = p }
