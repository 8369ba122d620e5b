package status

import (
	"fmt"
	"time"

	"github.com/dubnium/dubnium/policy"
)

// Terms limit how long a requested mode lasts. The zero value is no limit. All of them
// count from when the mode is reached, and the first that expires ends it.
type Terms struct {
	// For is how long the mode lasts.
	For time.Duration `json:"for,omitempty"`
	// UntilIdle ends it when vLLM has had no request for that long.
	UntilIdle time.Duration `json:"until_idle,omitempty"`
	// Confirm ends it unless it is confirmed within that time.
	Confirm time.Duration `json:"confirm,omitempty"`
}

// Lease is a mode that ends by itself: when a term expires the daemon requests the way
// back.
type Lease struct {
	// ID is that of the transition that was requested on these terms.
	ID     uint64      `json:"id"`
	Mode   policy.Mode `json:"mode"`
	BackTo policy.Mode `json:"back_to"`
	By     string      `json:"by"`
	UID    uint32      `json:"uid"` // of By
	// For, UntilIdle and Confirm are the terms; 0 is one that is not set, or was met.
	For       time.Duration `json:"for"`
	UntilIdle time.Duration `json:"until_idle"`
	Confirm   time.Duration `json:"confirm"`
	// Until and ConfirmBy are when it ends, by the wall clock; zero until the mode is
	// reached, and without such a term.
	Until     time.Time `json:"until,omitzero"`
	ConfirmBy time.Time `json:"confirm_by,omitzero"`
	// IdleSince is when vLLM had its last request; zero while it has one, while that is
	// unknown, and without the term UntilIdle.
	IdleSince time.Time `json:"idle_since,omitzero"`
	// ExpiredReason is why the lease has expired; empty before that.
	ExpiredReason string `json:"over"`
	// LastFailure is why the last attempt at the way back failed, Attempts the number of
	// attempts, and Next the time of the next one.
	LastFailure string    `json:"waits"`
	Attempts    int       `json:"attempts"`
	Next        time.Time `json:"next,omitzero"`
}

// WayBack is the mode that a lease on mode leads back to: the desired mode before it,
// else the default mode. A lease that replaces another on the same mode keeps its way
// back. It is never compute, since an automatic transition must not end sessions. Empty:
// there is none.
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

// ValidateTerms returns why the terms of a request cannot be met, or nil.
func (v View) ValidateTerms(r Request) error {
	switch {
	case r.Terms == (Terms{}):
		return nil
	case v.WayBack(r.Mode) == "":
		return fmt.Errorf("a lease on %s needs another mode to go back to; compute is never entered automatically",
			r.Mode)
	case r.Terms.UntilIdle > 0 && v.Policy.VLLMUnit(r.Mode) == "":
		return fmt.Errorf("vLLM does not run in %s by the policy, so it cannot be idle there", r.Mode)
	}
	return nil
}

// Confirmation confirms that a mode may stay.
type Confirmation struct {
	By  string // e.g. "uid 1000 (alice)"
	UID uint32
	// Authorization is the source of the permission, as in Request.
	Authorization string
}

// AutoReconcile is the state of automatic reconciliation.
type AutoReconcile struct {
	Enabled bool `json:"enabled"`
	// Armed: the observed state is not the desired mode, and the daemon requests it at Next.
	Armed bool      `json:"armed"`
	Next  time.Time `json:"next,omitzero"`
	// Attempts is the number of automatic requests since an operator made one or the host
	// was converged.
	Attempts int `json:"attempts"`
	// Refusal is why the daemon makes no request, or how its last attempt failed; else
	// empty.
	Refusal string `json:"refusal"`
}
