package status

import "github.com/dubnium/dubnium/guards"

// Inhibitor is one of those that a client takes; guards judge by the same value.
type (
	Inhibitor = guards.Inhibitor
	How       = guards.How
)

// What an inhibitor does to a transition.
const (
	Block = guards.Block
	Delay = guards.Delay
)
