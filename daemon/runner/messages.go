package runner

import (
	"time"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/daemon/transition"
)

// Message is what a runner tells the controller: one of Progressed, Said, Announced,
// Departing, Committing, Closing and Ended.
type Message interface{ message() }

// Progressed: the transition is in another phase, or at another step.
type Progressed struct {
	Phase        transition.Phase
	Index, Count int
	Step         *status.StepEvent // nil where only the phase has changed
}

// Said: the step that runs says how far it is.
type Said struct {
	Index int
	Text  string
}

// Announced: the transition is prepared, and people have Grace from now on.
type Announced struct {
	Grace time.Duration
	// Wait: delay inhibitors count.
	Wait         bool
	EndsSessions bool
}

// Departing: the runner waits until the transition need not wait any longer. The
// controller closes Ready then.
type Departing struct{ Ready chan<- struct{} }

// Committing: the runner is at the point of no return. The controller answers in
// Barrier and Err before Send returns.
type Committing struct {
	Barrier transition.Barrier
	Err     error
}

// Closing: the runner decides how the transition ends. The controller accepts nothing for
// it any more, and answers in Canceled whether it has accepted a cancellation before.
type Closing struct{ Canceled *Cancellation }

// Ended: the transition has ended. It is the last message. Err is ErrStopping when it
// was left to its journal, else nil.
type Ended struct {
	Record status.Record
	Err    error
}

func (Progressed) message()  {}
func (Said) message()        {}
func (Announced) message()   {}
func (Departing) message()   {}
func (*Committing) message() {}
func (*Closing) message()    {}
func (Ended) message()       {}
