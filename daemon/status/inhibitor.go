package status

import "github.com/dubnium/dubnium/guards"

// Inhibitor is an inhibitor that a client holds. Guards use the same type.
type (
	Inhibitor = guards.Inhibitor
	How       = guards.How
)

// What an inhibitor does to a transition.
const (
	Block = guards.Block
	Delay = guards.Delay
)
