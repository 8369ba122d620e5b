package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/internal/atomicfile"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// How long a way back that could not be taken waits: twice as long each time.
const (
	leaseRetry    = 30 * time.Second
	leaseMaxRetry = 10 * time.Minute
)

// lease is a mode that ends by itself (status.Lease), as lease.json has it. Its times
// are of the boot clock, and 0 is none.
type lease struct {
	BootID string       `json:"boot_id"`
	ID     uint64       `json:"id"`
	Mode   policy.Mode  `json:"mode"`
	BackTo policy.Mode  `json:"back_to"`
	By     string       `json:"by"`
	UID    uint32       `json:"uid"`
	Terms  status.Terms `json:"terms"`
	// Reached is when the mode was: the terms count from then on.
	Reached       time.Duration `json:"reached,omitempty"`
	ExpiredReason string        `json:"over,omitempty"`
	LastFailure   string        `json:"waits,omitempty"`
	Attempts      int           `json:"attempts,omitempty"`
	Next          time.Duration `json:"next,omitempty"`
}

// expiresAt is when the terms that only time can end are over, 0 for never, and why.
func (l lease) expiresAt() (at time.Duration, why string) {
	if l.Terms.For > 0 {
		at, why = l.Reached+l.Terms.For, fmt.Sprintf("it was asked for %s", l.Terms.For)
	}
	if by := l.Reached + l.Terms.Confirm; l.Terms.Confirm > 0 && (at == 0 || by <= at) {
		at, why = by, fmt.Sprintf("nobody confirmed it within %s", l.Terms.Confirm)
	}
	return at, why
}

// expired says why the mode is to end, empty while it is not, and when to ask again.
func (l lease) expired(now time.Duration, idle idleness) (why string, again time.Duration) {
	at, because := l.expiresAt()
	if at > 0 && now >= at {
		return because, 0
	}
	if most := l.Terms.UntilIdle; most > 0 && idle.since > 0 {
		if now >= idle.since+most {
			return fmt.Sprintf("vLLM has had no request for %s", most), 0
		}
		at = earlier(at, idle.since+most)
	}
	return "", at
}

// idleness is since when vLLM has had no request, as far as looks can tell. What
// nobody knows is not idle, nor is a time in which nobody looked.
type idleness struct {
	since time.Duration // of the boot clock; 0: it is not idle
	look  time.Time     // the last that counted
	at    time.Duration // when that was, by the boot clock
}

// seen takes the latest look in. Two looks that are further apart than patience say
// nothing of the time between.
func (i idleness) seen(now, patience time.Duration, latest observer.Inference) idleness {
	followed := now-i.at <= patience
	if latest.At.Equal(i.look) {
		if !followed {
			i.since = 0
		}
		return i
	}
	next := idleness{look: latest.At, at: now}
	if requests, known := latest.Requests(); known && requests == 0 {
		next.since = now
		if i.since > 0 && followed {
			next.since = i.since
		}
	}
	return next
}

// leaseState is what the engine keeps of leases.
type leaseState struct {
	lease *lease // nil for none
	// replaced is what the running transition's request took the place of.
	replaced *lease
	idle     idleness
}

const leaseFile = "lease.json"

// restoreLease takes up the lease of this boot. One that is for a wish which is
// not the last any more died with the daemon before it could be removed.
func (e *Controller) restoreLease() error {
	var l lease
	switch err := e.files.read(leaseFile, &l); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	if wish := e.state.Desired.Mode; l.BootID == e.bootID && (wish == l.Mode || wish == l.BackTo) {
		e.setLease(&l)
		return nil
	}
	return e.persistLease(nil)
}

// persistLease makes l the lease, on disk first: one that a restart would forget would
// be a promise that nobody keeps.
func (e *Controller) persistLease(l *lease) error {
	path := filepath.Join(e.files.dir, leaseFile)
	if l == nil {
		if err := atomicfile.Remove(path); err != nil {
			return err
		}
	} else {
		data, err := json.MarshalIndent(l, "", "  ")
		if err != nil {
			return fmt.Errorf("cannot encode the lease: %w", err)
		}
		// It tells who asked and why the way back waits, which status tells everybody.
		if err := atomicfile.Write(path, append(data, '\n'), 0o644); err != nil {
			return err
		}
	}
	e.setLease(l)
	return nil
}

// setLease makes l the lease in memory. Idleness counts for one lease alone.
func (e *Controller) setLease(l *lease) {
	if e.lease == nil || l == nil || e.lease.ID != l.ID {
		e.idle = idleness{}
	}
	e.lease = l
	e.publishLease(e.now())
}

// updateLease keeps a change of the lease in memory even where the disk does not
// take it: it holds until the next restart then.
func (e *Controller) updateLease(change func(*lease)) {
	next := *e.lease
	change(&next)
	if err := e.persistLease(&next); err != nil {
		e.log.Error("a lease cannot be recorded: after a restart it is what it was", zap.Error(err))
		e.setLease(&next)
	}
}

// endLease ends the lease for a reason.
func (e *Controller) endLease(why string) {
	e.log.Info("a lease ends", zap.String("mode", string(e.lease.Mode)), zap.Uint64("transition", e.lease.ID), zap.String("why", why))
	if err := e.persistLease(nil); err != nil {
		e.log.Error("a lease that has ended cannot be removed", zap.Error(err))
		e.setLease(nil)
	}
}

// leaseOf is the lease that a request asks for, nil for none. Errors: there would be
// nowhere to go back to, or nothing to tell the end by.
func (e *Controller) leaseOf(r status.Request) (*lease, error) {
	if r.Terms == (status.Terms{}) {
		return nil, nil
	}
	if err := e.state.ValidateTerms(r); err != nil {
		return nil, err
	}
	return &lease{BootID: e.bootID, ID: e.nextID, Mode: r.Mode, BackTo: e.state.WayBack(r.Mode), By: r.By, UID: r.UID, Terms: r.Terms}, nil
}

// setDesiredForRequest records what a person asks for, with the lease on it. A lease is on disk
// before the wish that it is for, and one that ends is removed after the wish that
// ends it: a daemon that dies in between leaves no mode without the end that it was
// asked with.
func (e *Controller) setDesiredForRequest(r status.Request) error {
	next, err := e.leaseOf(r)
	if err != nil {
		return err
	}
	before, wanted := e.lease, e.state.Desired
	if e.canceled { // that wish could not be taken back yet
		wanted = e.previous
	}
	if next != nil {
		if err := e.persistLease(next); err != nil {
			return fmt.Errorf("cannot record the lease: %w", err)
		}
	}
	if err := e.setDesired(status.Desired{Mode: r.Mode, Origin: r.Origin, By: r.By, Since: time.Now()}); err != nil {
		if next != nil {
			err = errors.Join(err, e.persistLease(before))
		}
		return err
	}
	if next == nil && before != nil {
		e.endLease("another mode is asked for by " + r.By)
	}
	e.previous, e.replaced = wanted, before
	return nil
}

// restoreReplacedLease puts the lease back that a request took the place of, when the request has
// changed nothing: it was canceled, or refused and for the mode that the lease leads
// to by itself.
func (e *Controller) restoreReplacedLease(r status.Record) {
	before := e.replaced
	e.replaced = nil
	refused := r.Result == status.Blocked || r.Result == status.Inhibited
	if !r.Origin.IsAutomatic() && (r.Result == status.Canceled || refused && before != nil && before.BackTo == r.To) {
		if err := e.persistLease(before); err != nil {
			e.log.Error("the lease from before is lost", zap.Error(err))
		}
	}
}

// judgeLease follows what a transition that ended means for the lease.
func (e *Controller) judgeLease(r status.Record) {
	e.restoreReplacedLease(r)
	l := e.lease
	switch {
	case l == nil:
	case r.ID == l.ID && !is(r.Final, l.Mode) && !e.policy.Reconcile.Enabled:
		// Where the daemon asks again by itself it is on the same terms.
		e.endLease("the mode was not reached: " + string(r.Result))
	case r.Origin != status.OriginLease:
	case r.Result.Reached() || is(r.Final, l.BackTo):
		e.commitDesiredOrLog(r.To)
		e.endLease("the host is back in " + string(l.BackTo))
	case r.Result == status.Canceled && l.ExpiredReason != "":
		e.endLease(r.Cause)
	case r.Result != status.Canceled:
		e.updateLease(func(l *lease) {
			l.LastFailure = fmt.Sprintf("%s: %s", r.Result, r.For(observer.Nobody).Cause)
			l.Next = e.now() + backoff(leaseRetry, leaseMaxRetry, l.Attempts)
		})
	}
}

// is reports whether the state is that of the mode, healthy or not.
func is(s observer.State, m policy.Mode) bool {
	return s == observer.Of(m) || s == observer.DegradedOf(m)
}

// commitDesired writes the wish of a lease that is over: once its guards have passed, and so
// at the point of no return. Whoever is refused at night wishes nothing.
func (e *Controller) commitDesired(r status.Request) error {
	if r.Origin != status.OriginLease || e.state.Desired.Mode == r.Mode {
		return nil
	}
	return e.setDesired(status.Desired{Mode: r.Mode, Origin: r.Origin, By: r.By, Since: time.Now()})
}

func (e *Controller) commitDesiredOrLog(mode policy.Mode) {
	if err := e.commitDesired(status.Request{Mode: mode, Origin: status.OriginLease, By: byDaemon}); err != nil {
		e.log.Error("the wish stays what it was although the host is back", zap.Error(err))
	}
}

// byDaemon is who asks when nobody does.
const byDaemon = "dubniumd"

// beginLease has the lease's time run from when its mode is there.
func (e *Controller) beginLease(now time.Duration) {
	l := e.lease
	if l == nil || l.ExpiredReason != "" || l.Reached != 0 ||
		e.state.Running != nil || !is(e.state.Observation.State, l.Mode) || e.state.Desired.Mode != l.Mode {
		return
	}
	e.updateLease(func(l *lease) { l.Reached = now })
	e.publishLease(now)
}

// checkLease begins the lease when its mode is there, finds out when it is over, and
// takes the way back then. It returns when it has to be called again, 0 for when
// something changes.
func (e *Controller) checkLease(now time.Duration) (again time.Duration) {
	if e.lease == nil {
		return 0
	}
	e.beginLease(now)
	l := e.lease
	if l.Reached == 0 {
		return 0
	}
	e.idle = e.idle.seen(now, e.policy.Timeouts.Recheck.D()+2*e.policy.Timeouts.Look.D(), e.state.Snapshot.Inference)
	if l.ExpiredReason == "" {
		why, again := l.expired(now, e.idle)
		if why == "" {
			e.publishLease(now)
			return again
		}
		e.log.Info("a lease is over", zap.String("mode", string(l.Mode)), zap.Uint64("transition", l.ID), zap.String("why", why))
		e.updateLease(func(l *lease) { l.ExpiredReason = why })
	}
	return e.takeWayBack(now)
}

// takeWayBack asks for the mode from before, as anybody would.
func (e *Controller) takeWayBack(now time.Duration) (again time.Duration) {
	l := e.lease
	switch {
	case e.state.Running != nil: // its end brings us here again
		return 0
	case is(e.state.Observation.State, l.BackTo) && e.state.Desired.Mode == l.BackTo:
		e.endLease("the host is back in " + string(l.BackTo))
		return 0
	case now < l.Next:
		e.publishLease(now)
		return l.Next
	}
	e.updateLease(func(l *lease) {
		l.Attempts++
		l.Next = now + backoff(leaseRetry, leaseMaxRetry, l.Attempts)
	})
	e.askItself(status.Request{
		Mode: l.BackTo, Origin: status.OriginLease, By: byDaemon, Authorization: status.ByPolicy,
		Why: fmt.Sprintf("the end of %s, transition %d of %s: %s", l.Mode, l.ID, l.By, l.ExpiredReason),
	})
	return 0
}

// askItself starts a transition that the daemon asks for itself.
func (e *Controller) askItself(r status.Request) {
	if !e.canceled { // else there is still a wish to be taken back
		e.previous = e.state.Desired
	}
	e.begin(r, nil)
}

// publishLease publishes the lease.
func (e *Controller) publishLease(now time.Duration) {
	l := e.lease
	if l == nil {
		e.state.Lease = nil
		return
	}
	var told status.Lease
	if e.state.Lease != nil {
		told = *e.state.Lease
	}
	next := status.Lease{
		ID: l.ID, Mode: l.Mode, BackTo: l.BackTo, By: l.By, UID: l.UID, For: l.Terms.For, UntilIdle: l.Terms.UntilIdle, Confirm: l.Terms.Confirm,
		ExpiredReason: l.ExpiredReason, LastFailure: l.LastFailure, Attempts: l.Attempts,
	}
	if l.Reached > 0 && l.Terms.For > 0 {
		next.Until = moment(told.Until, l.Reached+l.Terms.For, now)
	}
	if l.Reached > 0 && l.Terms.Confirm > 0 {
		next.ConfirmBy = moment(told.ConfirmBy, l.Reached+l.Terms.Confirm, now)
	}
	if l.Terms.UntilIdle > 0 && e.idle.since > 0 {
		next.IdleSince = moment(told.IdleSince, e.idle.since, now)
	}
	if l.ExpiredReason != "" && l.LastFailure != "" {
		next.Next = moment(told.Next, l.Next, now)
	}
	e.state.Lease = &next
}
