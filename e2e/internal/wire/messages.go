package wire

import (
	"encoding/json"
	"time"
)

// Greeting tells who is there. Another BootID than before means that the guest has rebooted.
type Greeting struct {
	BootID string `json:"boot_id"`
}

// Request opens a stream. Exactly one field is set.
type Request struct {
	Clock *Clock `json:"clock,omitempty"`
	Exec  *Exec  `json:"exec,omitempty"`
	Put   *Put   `json:"put,omitempty"`
	Untar *Untar `json:"untar,omitempty"`
	Get   *Get   `json:"get,omitempty"`
	Wait  *Wait  `json:"wait,omitempty"`
	Watch *Watch `json:"watch,omitempty"`
}

// Clock sets the guest's clock; the Result carries the boot id. A restored machine believes that no time has passed.
type Clock struct {
	Now time.Time `json:"now"`
}

// Exec runs a program. Input frames are its standard input when Stdin is set.
type Exec struct {
	Argv []string `json:"argv"`
	Env  []string `json:"env,omitempty"`
	// User runs the program as that user, with the environment of a shell in the user's desktop as far as there is one.
	User string `json:"user,omitempty"`
	// InSession puts the program into the cgroup of the user's login session, so that logind and polkit count it in.
	InSession bool `json:"in_session,omitempty"`
	Stdin     bool `json:"stdin,omitempty"`
	// Terminal gives the program a terminal of this size; both outputs then arrive as Output.
	Terminal *Size `json:"terminal,omitempty"`
}

// Size is a terminal's.
type Size struct {
	Rows uint16 `json:"rows"`
	Cols uint16 `json:"cols"`
}

// Put writes the Input frames into a file, whole or not at all.
type Put struct {
	Path string `json:"path"`
	Mode uint32 `json:"mode"`
}

// Untar unpacks the Input frames, a tar archive, into a directory.
type Untar struct {
	Dir string `json:"dir"`
}

// Get sends a file as Output frames.
type Get struct {
	Path string `json:"path"`
}

// Wait ends when its condition holds or its time is over. Exactly one of Unit, Exists, Gone, PID and Script is set.
type Wait struct {
	Timeout time.Duration `json:"timeout"`
	// Unit waits until the systemd unit is in State: an ActiveState, or "ActiveState/SubState".
	Unit  string `json:"unit,omitempty"`
	State string `json:"state,omitempty"`
	// Exists and Gone wait for a path to appear or to vanish.
	Exists string `json:"exists,omitempty"`
	Gone   string `json:"gone,omitempty"`
	// PID waits until the process has ended.
	PID int `json:"pid,omitempty"`
	// Script waits until the shell script succeeds, as User when that is set.
	Script string `json:"script,omitempty"`
	User   string `json:"user,omitempty"`
}

// Watch subscribes to signals of the system bus by match rules; each arrives as a BusSignal in an Output frame.
type Watch struct {
	Rules []string `json:"rules"`
}

// BusSignal is a signal of the guest's system bus. Numbers in Args are json.Number after decoding with UseNumber.
type BusSignal struct {
	Time      time.Time `json:"time"`
	Sender    string    `json:"sender"`
	Path      string    `json:"path"`
	Interface string    `json:"interface"`
	Member    string    `json:"member"`
	Args      []any     `json:"args"`
}

// Started comes with Ready.
type Started struct {
	PID int `json:"pid,omitempty"`
}

// Result ends a stream. Error says why the request could not be done; a program's own failure is only its Code.
type Result struct {
	Code    int    `json:"code"`
	Error   string `json:"error,omitempty"`
	Timeout bool   `json:"timeout,omitempty"`
	BootID  string `json:"boot_id,omitempty"`
}

// Decode reads a frame's JSON body into v.
func (f Frame) Decode(v any) error { return json.Unmarshal(f.Body, v) }
