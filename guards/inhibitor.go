package guards

import (
	"time"

	"github.com/dubnium/dubnium/policy"
)

// How says what an inhibitor does to a transition.
type How string

// The ways.
const (
	// Block: no transition begins.
	Block How = "block"
	// Delay: a transition that was announced waits for it to be released, for as
	// long as policy lets it.
	Delay How = "delay"
)

// Inhibitor is somebody's wish that a transition not happen yet. It lasts until
// it is released or its holder has left the bus.
type Inhibitor struct {
	// ID is random and not 0; it is what its holder releases it by.
	ID uint32 `json:"id"`
	// Mode is the mode that is not to be entered, empty for every one.
	Mode policy.Mode `json:"mode,omitempty"`
	// Who and Why are the holder's own words.
	Who   string    `json:"who"`
	Why   string    `json:"why"`
	How   How       `json:"how"`
	UID   uint32    `json:"uid"`
	Since time.Time `json:"since"`
	// Holder is a connection, by its unique name on the bus. It is not told.
	Holder string `json:"-"`
}

// Applies reports whether the inhibitor is about transitions to mode.
func (i Inhibitor) Applies(mode policy.Mode) bool { return i.Mode == "" || i.Mode == mode }
