// Package intent holds everything that was asked of the host in this boot, as one
// document, and how events change it. It is pure: whoever calls Next writes the
// document down and does what the effects say.
package intent

import (
	"fmt"
	"time"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// Document is intent.json. Times that are durations are of the boot clock; 0 is none.
type Document struct {
	// BootID makes the document invalid in the next boot.
	BootID  string         `json:"boot_id"`
	Desired status.Desired `json:"desired"`
	// Lease is nil when the desired mode does not end by itself.
	Lease *Lease `json:"lease,omitempty"`
	// Pending is what the request that is served now has replaced. It is nil when no
	// request of an operator is served.
	Pending *Pending `json:"pending,omitempty"`
}

// LastID is the highest id of a transition that the document names, 0 for none.
func (d Document) LastID() (id uint64) {
	id = leaseID(d.Lease)
	if d.Pending != nil {
		id = max(id, d.Pending.ID)
	}
	return id
}

// Pending is restored when the transition of this id is canceled.
type Pending struct {
	ID      uint64         `json:"id"`
	Desired status.Desired `json:"desired"`
	Lease   *Lease         `json:"lease,omitempty"`
}

// Lease is a mode that ends by itself (status.Lease).
type Lease struct {
	ID     uint64       `json:"id"`
	Mode   policy.Mode  `json:"mode"`
	BackTo policy.Mode  `json:"back_to"`
	By     string       `json:"by"`
	UID    uint32       `json:"uid"`
	Terms  status.Terms `json:"terms"`
	// Reached is when the mode was observed. The terms count from then on.
	Reached time.Duration `json:"reached,omitempty"`
	// Expired says why the mode is to end, empty while it lasts.
	Expired string `json:"expired,omitempty"`
	// LastFailure says how the last way back failed, Attempts how many were tried, and
	// Next when another one may be tried.
	LastFailure string        `json:"last_failure,omitempty"`
	Attempts    int           `json:"attempts,omitempty"`
	Next        time.Duration `json:"next,omitempty"`
}

// Intent is the document with what counts for this run of the daemon only.
type Intent struct {
	Document
	// Idle is since when the inference server has been idle, for the lease that is held.
	Idle Idleness
}

// The pause between two ways back that failed. It doubles with each failure.
const (
	retryMin = 30 * time.Second
	retryMax = 10 * time.Minute
)

// Effects is what an event asks for beside the change of the document.
type Effects struct {
	// Log are the lines to log.
	Log []string
	// WayBack is the request for the mode before the lease, nil for none.
	WayBack *status.Request
	// Check is when a Check has something new to say, 0 for after the next change only.
	Check time.Duration
}

// Event is one of Requested, Committed, Ended, Settled, Confirmed and Checked.
type Event interface {
	apply(in Intent) (Intent, Effects)
}

// Next returns the intent after an event. It changes nothing that in refers to.
func Next(in Intent, e Event) (Intent, Effects) {
	held := leaseID(in.Lease)
	next, effects := e.apply(in)
	if leaseID(next.Lease) != held {
		next.Idle = Idleness{} // it counts for one lease
	}
	return next, effects
}

func leaseID(l *Lease) uint64 {
	if l == nil {
		return 0
	}
	return l.ID
}

// Requested is a request that was accepted as transition ID.
type Requested struct {
	ID      uint64
	Request status.Request
	At      time.Time
	// WayBack is where a lease on the request's mode leads back to.
	WayBack policy.Mode
}

func (e Requested) apply(in Intent) (next Intent, effects Effects) {
	next, r := in, e.Request
	if r.Origin.IsAutomatic() {
		return next, effects // the desired mode changes when it commits, if at all
	}
	next.Pending = &Pending{ID: e.ID, Desired: in.Desired, Lease: in.Lease}
	if r.KeepTerms && r.Mode == in.Desired.Mode {
		return next, effects
	}
	next.Desired = status.Desired{Mode: r.Mode, Origin: r.Origin, By: r.By, Since: e.At}
	next.Lease = nil
	if r.Terms != (status.Terms{}) {
		next.Lease = &Lease{ID: e.ID, Mode: r.Mode, BackTo: e.WayBack, By: r.By, UID: r.UID, Terms: r.Terms}
	} else if in.Lease != nil {
		effects.Log = append(effects.Log, ends(in.Lease, "another mode is requested by "+r.By))
	}
	return next, effects
}

// Committed is a transition that has passed its point of no return. A lease changes the
// desired mode only then, so a way back that is blocked does not change it.
type Committed struct {
	Request status.Request
	At      time.Time
}

func (e Committed) apply(in Intent) (next Intent, effects Effects) {
	next, r := in, e.Request
	if r.Origin == status.OriginLease && in.Desired.Mode != r.Mode {
		next.Desired = status.Desired{Mode: r.Mode, Origin: r.Origin, By: r.By, Since: e.At}
	}
	return next, effects
}

// Ended is a transition that has ended.
type Ended struct {
	Record status.Record
	Now    time.Duration
	At     time.Time
	// AutoReconcile: the daemon requests the desired mode again by itself.
	AutoReconcile bool
	// By names the daemon as a requester.
	By string
}

func (e Ended) apply(in Intent) (next Intent, effects Effects) {
	next = in.restored(e.Record)
	r, l := e.Record, next.Lease
	if l == nil {
		return next, effects
	}
	lose := func(why string) {
		effects.Log, next.Lease = append(effects.Log, ends(l, why)), nil
	}
	switch {
	case r.ID == l.ID && !isIn(r.Final, l.Mode) && !e.AutoReconcile:
		// With automatic reconciliation the mode is requested again on the same terms.
		lose("the mode was not reached: " + string(r.Result))
	case r.Origin != status.OriginLease:
	case r.Result.Reached() || isIn(r.Final, l.BackTo):
		if next.Desired.Mode != r.To {
			next.Desired = status.Desired{Mode: r.To, Origin: status.OriginLease, By: e.By, Since: e.At}
		}
		lose("the host is back in " + string(l.BackTo))
	case r.Result == status.Canceled && l.Expired != "":
		lose(r.Cause)
	case r.Result != status.Canceled:
		next.Lease = l.changed(func(l *Lease) {
			l.LastFailure = fmt.Sprintf("%s: %s", r.Result, r.For(observer.Nobody).Cause)
			l.Next = e.Now + Backoff(retryMin, retryMax, l.Attempts)
		})
	}
	return next, effects
}

// restored gives back what a request replaced that has changed nothing: it was
// canceled, or it was refused and asked for the mode that the lease leads to anyway.
func (in Intent) restored(r status.Record) Intent {
	before := in.Pending
	if before == nil || before.ID != r.ID {
		return in
	}
	in.Pending = nil
	refused := r.Result == status.Blocked || r.Result == status.Inhibited
	switch {
	case r.Result == status.Canceled:
		in.Desired, in.Lease = before.Desired, before.Lease
	case refused && before.Lease != nil && before.Lease.BackTo == r.To:
		in.Lease = before.Lease
	}
	return in
}

// Confirmed is a person's confirmation of the mode of the lease. Confirmable says
// whether there is anything to confirm.
type Confirmed struct {
	By string
	At time.Time
}

func (e Confirmed) apply(in Intent) (next Intent, effects Effects) {
	next, l := in, in.Lease
	if in.Desired.Mode != l.Mode { // a way back that failed has changed it
		next.Desired = status.Desired{Mode: l.Mode, Origin: status.OriginOperator, By: e.By, Since: e.At}
	}
	if (status.Terms{Confirm: l.Terms.Confirm}) == l.Terms {
		effects.Log, next.Lease = append(effects.Log, ends(l, "it was confirmed by "+e.By)), nil
		return next, effects
	}
	next.Lease = l.changed(func(l *Lease) {
		l.Terms.Confirm, l.Expired, l.LastFailure, l.Attempts, l.Next = 0, "", "", 0, 0
	})
	return next, effects
}

// Confirmable returns why the lease of an id cannot be confirmed, nil when it can.
// running is the transition that runs, nil for none. Errors: status.ErrNoSuchTransition,
// status.ErrBusy, status.ErrNotCancellable.
func (in Intent) Confirmable(id uint64, running *status.Transition) error {
	l := in.Lease
	switch {
	case l == nil || l.ID != id || l.Terms.Confirm == 0:
		return fmt.Errorf("%w waits to be confirmed under the id %d", status.ErrNoSuchTransition, id)
	case l.Reached == 0:
		return fmt.Errorf("%w: %s is not reached yet", status.ErrBusy, l.Mode)
	case running != nil && running.Origin == status.OriginLease && !running.Cancellable:
		return fmt.Errorf("%w: the way back to %s is past its point of no return", status.ErrNotCancellable, l.BackTo)
	}
	return nil
}

// Settled is an observation. The terms of a lease count from the first one in its mode.
type Settled struct {
	Now     time.Duration
	State   observer.State
	Running bool
}

func (e Settled) apply(in Intent) (next Intent, effects Effects) {
	next = in
	l := in.Lease
	if l == nil || l.Reached != 0 || l.Expired != "" || e.Running || !isIn(e.State, l.Mode) || in.Desired.Mode != l.Mode {
		return next, effects
	}
	next.Lease = l.changed(func(l *Lease) { l.Reached = e.Now })
	return next, effects
}

// Checked is a look at the clock and at the host.
type Checked struct {
	Now     time.Duration
	State   observer.State
	Running bool
	// Inference is the latest look at the inference server. Two looks further apart than
	// Patience say nothing about the time between them.
	Inference observer.Inference
	Patience  time.Duration
	// By names the daemon as a requester.
	By string
}

func (e Checked) apply(in Intent) (next Intent, effects Effects) {
	next, effects = Settled{e.Now, e.State, e.Running}.apply(in)
	l := next.Lease
	if l == nil || l.Reached == 0 {
		return next, effects
	}
	next.Idle = in.Idle.seen(e.Now, e.Patience, e.Inference)
	if l.Expired == "" {
		why, check := l.expiry(e.Now, next.Idle)
		if why == "" {
			effects.Check = check
			return next, effects
		}
		effects.Log = append(effects.Log, fmt.Sprintf("the lease of transition %d on %s has expired: %s", l.ID, l.Mode, why))
		next.Lease = l.changed(func(l *Lease) { l.Expired = why })
	}
	back, more := e.wayBack(next)
	more.Log = append(effects.Log, more.Log...)
	return back, more
}

// wayBack requests the mode from before, as anybody would.
func (e Checked) wayBack(in Intent) (next Intent, effects Effects) {
	next, l := in, in.Lease
	switch {
	case e.Running: // its end leads to another check
		return next, effects
	case isIn(e.State, l.BackTo) && in.Desired.Mode == l.BackTo:
		next.Lease = nil
		effects.Log = append(effects.Log, ends(l, "the host is back in "+string(l.BackTo)))
		return next, effects
	case e.Now < l.Next:
		effects.Check = l.Next
		return next, effects
	}
	next.Lease = l.changed(func(l *Lease) {
		l.Attempts++
		l.Next = e.Now + Backoff(retryMin, retryMax, l.Attempts)
	})
	effects.WayBack = &status.Request{
		Mode: l.BackTo, Origin: status.OriginLease, By: e.By, Authorization: status.ByPolicy,
		Why: fmt.Sprintf("the lease of %s, transition %d of %s, has expired: %s", l.Mode, l.ID, l.By, l.Expired),
	}
	return next, effects
}

func ends(l *Lease, why string) string {
	return fmt.Sprintf("the lease of transition %d on %s ends: %s", l.ID, l.Mode, why)
}

// changed returns a changed copy.
func (l *Lease) changed(change func(*Lease)) *Lease {
	next := *l
	change(&next)
	return &next
}

// isIn reports whether the state is that of the mode, healthy or degraded.
func isIn(s observer.State, m policy.Mode) bool {
	return s == observer.Of(m) || s == observer.DegradedOf(m)
}

// Backoff is how long to wait after so many failures: first after one, then twice as
// long each time, at most most.
func Backoff(first, most time.Duration, failures int) time.Duration {
	wait := first
	for range failures - 1 {
		if wait >= most {
			break
		}
		wait *= 2
	}
	return min(wait, most)
}
