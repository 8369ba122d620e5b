package status

import (
	"fmt"
	"time"

	"github.com/dubnium/dubnium/policy"
)

// Terms say for how long a mode is asked for. The zero value is for as long as
// nobody asks for another. All of them count from when the mode was reached, and
// the first that is over ends it.
type Terms struct {
	// For is how long the mode lasts.
	For time.Duration `json:"for,omitempty"`
	// UntilIdle ends it when vLLM has had no request for that long.
	UntilIdle time.Duration `json:"until_idle,omitempty"`
	// Confirm ends it unless a person confirms it within that time.
	Confirm time.Duration `json:"confirm,omitempty"`
}

// Lease is a mode that ends by itself: when its terms are over the daemon asks for
// the way back.
type Lease struct {
	// ID is the transition that was asked for on these terms.
	ID     uint64      `json:"id"`
	Mode   policy.Mode `json:"mode"`
	BackTo policy.Mode `json:"back_to"`
	By     string      `json:"by"`
	UID    uint32      `json:"uid"` // of By
	// For, UntilIdle and Confirm are the terms; 0 is one that was not made, or was
	// met.
	For       time.Duration `json:"for"`
	UntilIdle time.Duration `json:"until_idle"`
	Confirm   time.Duration `json:"confirm"`
	// Until and ConfirmBy are when it ends, by today's wall clock; zero until the mode
	// is reached, and where there is no such term.
	Until     time.Time `json:"until,omitzero"`
	ConfirmBy time.Time `json:"confirm_by,omitzero"`
	// IdleSince is since when vLLM has had no request; zero while it has, while that is
	// not known, and where nobody asks.
	IdleSince time.Time `json:"idle_since,omitzero"`
	// ExpiredReason says why the mode is to end; empty while it lasts.
	ExpiredReason string `json:"over"`
	// LastFailure says why the way back was not taken yet, Attempts how often it was tried,
	// and Next when it is tried again.
	LastFailure string    `json:"waits"`
	Attempts    int       `json:"attempts"`
	Next        time.Time `json:"next,omitzero"`
}

// WayBack is where a lease on mode would lead back to: to what was asked before it,
// else to the default mode; a lease that takes another's place on the same mode
// keeps its way back. It never leads to compute, since that may end the session of
// somebody who asked for nothing. Empty: there is nowhere to go back to.
func (v View) WayBack(mode policy.Mode) policy.Mode {
	before := v.Desired.Mode
	if v.Lease != nil && v.Lease.Mode == mode {
		before = v.Lease.BackTo
	}
	for _, to := range []policy.Mode{before, v.Policy.DefaultMode} {
		if to != "" && to != mode && to != policy.Compute {
			return to
		}
	}
	return ""
}

// ValidateTerms returns why a request makes no sense on its terms, nil when it does.
func (v View) ValidateTerms(r Request) error {
	switch {
	case r.Terms == (Terms{}):
		return nil
	case v.WayBack(r.Mode) == "":
		return fmt.Errorf("%s would have nowhere to go back to: a lease does not lead to compute", r.Mode)
	case r.Terms.UntilIdle > 0 && v.Policy.VLLMUnit(r.Mode) == "":
		return fmt.Errorf("vLLM does not run in %s by the policy: nothing would tell when it is idle", r.Mode)
	}
	return nil
}

// Confirmation is a person's word that a mode may stay.
type Confirmation struct {
	By  string // e.g. "uid 1000 (alice)"
	UID uint32
	// Authorization is by what right, as in Request.
	Authorization string
}

// AutoReconcile says what the daemon does by itself about a host that is not what
// was asked.
type AutoReconcile struct {
	Enabled bool `json:"enabled"`
	// Armed: the host is not what was asked, and at Next the daemon asks for it.
	Armed bool      `json:"armed"`
	Next  time.Time `json:"next,omitzero"`
	// Attempts is how often it has asked since a person did or all was well.
	Attempts int `json:"attempts"`
	// Refusal says why it does not ask, or how its last attempt ended; empty for
	// neither.
	Refusal string `json:"refusal"`
}
