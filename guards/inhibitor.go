package guards

import (
	"time"

	"github.com/dubnium/dubnium/policy"
)

// How is the effect of an inhibitor on a transition.
type How string

// The effects.
const (
	// Block: no transition begins.
	Block How = "block"
	// Delay: an announced transition waits until it is released, up to the policy's limit.
	Delay How = "delay"
)

// Inhibitor keeps a transition from happening, or delays it. It lasts until it is
// released or its holder has left the bus.
type Inhibitor struct {
	// ID is random and not 0. The holder releases the inhibitor by it.
	ID uint32 `json:"id"`
	// Mode is the mode that must not be entered; empty for every mode.
	Mode policy.Mode `json:"mode,omitempty"`
	// Who and Why are texts of the holder.
	Who   string    `json:"who"`
	Why   string    `json:"why"`
	How   How       `json:"how"`
	UID   uint32    `json:"uid"`
	Since time.Time `json:"since"`
	// Holder is the unique bus name of the holder's connection. It is not published.
	Holder string `json:"-"`
}

// Applies reports whether the inhibitor applies to transitions to mode.
func (i Inhibitor) Applies(mode policy.Mode) bool { return i.Mode == "" || i.Mode == mode }
