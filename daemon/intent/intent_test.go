package intent

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

var (
	at      = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	desktop = status.Desired{Mode: policy.Desktop, Origin: status.OriginBoot, By: "dubniumd", Since: at}
	compute = status.Desired{Mode: policy.Compute, Origin: status.OriginOperator, By: "alice", Since: at}
)

// leaseOn is a lease on compute of transition 7, which led there from desktop.
func leaseOn(change func(*Lease)) *Lease {
	l := &Lease{
		ID: 7, Mode: policy.Compute, BackTo: policy.Desktop, By: "alice", UID: 1000, Terms: status.Terms{For: time.Hour},
	}
	if change != nil {
		change(l)
	}
	return l
}

func intentOf(d status.Desired, l *Lease, p *Pending) Intent {
	return Intent{Document: Document{BootID: "boot", Desired: d, Lease: l, Pending: p}}
}

func ended(id uint64, origin status.Origin, to policy.Mode, result status.Result, final observer.State) Ended {
	return Ended{
		Record: status.Record{ID: id, Origin: origin, To: to, Result: result, Final: final, Cause: "why"}, Now: 5 * time.Hour,
		At: at, By: "dubniumd",
	}
}

func TestNext(t *testing.T) {
	reached := func(l *Lease) { l.Reached = time.Hour }
	expired := func(l *Lease) { l.Reached, l.Expired = time.Hour, "it was requested for 1h0m0s" }
	terms := status.Terms{For: time.Hour}
	replaced := &Pending{ID: 7, Desired: desktop}
	for name, c := range map[string]struct {
		in    Intent
		event Event
		want  Intent
	}{
		"a request": {
			intentOf(desktop, nil, nil),
			Requested{ID: 7, Request: status.Request{Mode: policy.Compute, Origin: status.OriginOperator, By: "alice"}, At: at},
			intentOf(compute, nil, replaced),
		},
		"a request on terms": {
			intentOf(desktop, nil, nil),
			Requested{
				7,
				status.Request{Mode: policy.Compute, Origin: status.OriginOperator, By: "alice", UID: 1000, Terms: terms},
				at,
				policy.Desktop,
			},
			intentOf(compute, leaseOn(nil), replaced),
		},
		"a request that ends a lease": {
			intentOf(compute, leaseOn(reached), nil),
			Requested{ID: 8, Request: status.Request{Mode: policy.Compute, Origin: status.OriginOperator, By: "alice"}, At: at},
			intentOf(compute, nil, &Pending{ID: 8, Desired: compute, Lease: leaseOn(reached)}),
		},
		"a request that keeps the terms": {
			intentOf(compute, leaseOn(reached), nil),
			Requested{
				ID: 8, Request: status.Request{Mode: policy.Compute, Origin: status.OriginOperator, By: "bob", KeepTerms: true},
				At: at,
			},
			intentOf(compute, leaseOn(reached), &Pending{ID: 8, Desired: compute, Lease: leaseOn(reached)}),
		},
		"a request of the daemon's own": {
			intentOf(compute, leaseOn(expired), nil),
			Requested{ID: 8, Request: status.Request{Mode: policy.Desktop, Origin: status.OriginLease, By: "dubniumd"}, At: at},
			intentOf(compute, leaseOn(expired), nil),
		},
		"the way back commits": {
			intentOf(compute, leaseOn(expired), nil),
			Committed{status.Request{Mode: policy.Desktop, Origin: status.OriginLease, By: "dubniumd"}, at},
			intentOf(
				status.Desired{Mode: policy.Desktop, Origin: status.OriginLease, By: "dubniumd", Since: at}, leaseOn(expired), nil,
			),
		},
		"a person's request commits": {
			intentOf(compute, nil, replaced),
			Committed{status.Request{Mode: policy.Compute, Origin: status.OriginOperator, By: "alice"}, at.Add(time.Hour)},
			intentOf(compute, nil, replaced),
		},
		"a cancel restores": {
			intentOf(compute, leaseOn(nil), &Pending{ID: 7, Desired: desktop}),
			ended(7, status.OriginOperator, policy.Compute, status.Canceled, "desktop"),
			intentOf(desktop, nil, nil),
		},
		"a cancel restores the lease": {
			intentOf(desktop, nil, &Pending{ID: 8, Desired: compute, Lease: leaseOn(reached)}),
			ended(8, status.OriginOperator, policy.Desktop, status.Canceled, "compute"),
			intentOf(compute, leaseOn(reached), nil),
		},
		"the cancel of another transition": {
			intentOf(compute, nil, replaced),
			ended(6, status.OriginOperator, policy.StudioLocal, status.Canceled, "desktop"),
			intentOf(compute, nil, replaced),
		},
		"a refusal keeps what is desired": {
			intentOf(compute, nil, replaced),
			ended(7, status.OriginOperator, policy.Compute, status.Blocked, "desktop"),
			intentOf(compute, nil, nil),
		},
		"a refusal of what the lease leads to anyway": {
			intentOf(desktop, nil, &Pending{ID: 8, Desired: compute, Lease: leaseOn(reached)}),
			ended(8, status.OriginOperator, policy.Desktop, status.Blocked, "compute"),
			intentOf(desktop, leaseOn(reached), nil),
		},
		"a mode that was not reached has no lease": {
			intentOf(compute, leaseOn(nil), replaced),
			ended(7, status.OriginOperator, policy.Compute, status.RolledBack, "desktop"),
			intentOf(compute, nil, nil),
		},
		"a mode that is requested again keeps its lease": {
			intentOf(compute, leaseOn(nil), replaced),
			func() Ended {
				e := ended(7, status.OriginOperator, policy.Compute, status.RolledBack, "desktop")
				e.AutoReconcile = true
				return e
			}(),
			intentOf(compute, leaseOn(nil), nil),
		},
		"the host is back": {
			intentOf(compute, leaseOn(expired), nil),
			ended(8, status.OriginLease, policy.Desktop, status.Success, "desktop"),
			intentOf(status.Desired{Mode: policy.Desktop, Origin: status.OriginLease, By: "dubniumd", Since: at}, nil, nil),
		},
		"a way back that failed": {
			intentOf(compute, leaseOn(expired), nil),
			ended(8, status.OriginLease, policy.Desktop, status.Blocked, "compute"),
			intentOf(compute, leaseOn(func(l *Lease) {
				expired(l)
				l.LastFailure, l.Next = "blocked: why", 5*time.Hour+retryMin
			}), nil),
		},
		"a way back that was canceled": {
			intentOf(compute, leaseOn(expired), nil),
			ended(8, status.OriginLease, policy.Desktop, status.Canceled, "compute"),
			intentOf(compute, nil, nil),
		},
		"a confirmation": {
			intentOf(compute, leaseOn(func(l *Lease) { reached(l); l.Terms = status.Terms{Confirm: time.Minute} }), nil),
			Confirmed{"bob", at},
			intentOf(compute, nil, nil),
		},
		"a confirmation that leaves other terms": {
			intentOf(compute, leaseOn(func(l *Lease) { expired(l); l.Terms.Confirm, l.Attempts = time.Minute, 3 }), nil),
			Confirmed{"bob", at},
			intentOf(compute, leaseOn(reached), nil),
		},
		"a confirmation after a way back that failed": {
			intentOf(desktop, leaseOn(func(l *Lease) { expired(l); l.Terms = status.Terms{Confirm: time.Minute} }), nil),
			Confirmed{"bob", at},
			intentOf(status.Desired{Mode: policy.Compute, Origin: status.OriginOperator, By: "bob", Since: at}, nil, nil),
		},
		"the mode is observed": {
			intentOf(compute, leaseOn(nil), nil),
			Settled{Now: time.Hour, State: "degraded-compute"},
			intentOf(compute, leaseOn(reached), nil),
		},
		"the mode is observed while a transition runs": {
			intentOf(compute, leaseOn(nil), nil),
			Settled{Now: time.Hour, State: "compute", Running: true},
			intentOf(compute, leaseOn(nil), nil),
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, _ := Next(c.in, c.event)
			assert.Equal(t, c.want, got)
		})
	}
}

func TestALeaseExpiresAndIsTriedAgain(t *testing.T) {
	check := func(in Intent, now time.Duration) (Intent, Effects) {
		return Next(in, Checked{Now: now, State: "compute", By: "dubniumd"})
	}
	in := intentOf(compute, leaseOn(nil), nil)
	in, effects := check(in, time.Hour)
	assert.Equal(t, 2*time.Hour, effects.Check)
	in, effects = check(in, 2*time.Hour-1)
	assert.Nil(t, effects.WayBack)
	in, effects = check(in, 2*time.Hour)
	require.NotNil(t, effects.WayBack)
	assert.Equal(t, policy.Desktop, effects.WayBack.Mode)
	assert.Equal(t, status.OriginLease, effects.WayBack.Origin)
	assert.Equal(t, 1, in.Lease.Attempts)
	in, effects = check(in, 2*time.Hour+retryMin-1)
	assert.Nil(t, effects.WayBack, "it was tried just now")
	assert.Equal(t, 2*time.Hour+retryMin, effects.Check)
	in, effects = check(in, 2*time.Hour+retryMin)
	assert.NotNil(t, effects.WayBack)
	assert.Equal(t, 2, in.Lease.Attempts)
}

// TestACancelGivesBackWhatWasThere: whatever was requested and whatever came between, a
// canceled request leaves the intent as it was before.
func TestACancelGivesBackWhatWasThere(t *testing.T) {
	modes := []policy.Mode{policy.Desktop, policy.StudioLocal, policy.Compute}
	rapid.Check(t, func(t *rapid.T) {
		in := intentOf(status.Desired{Mode: rapid.SampledFrom(modes).Draw(t, "mode"), By: "root"}, nil, nil)
		if rapid.Bool().Draw(t, "leased") {
			in.Lease = &Lease{
				ID: 3, Mode: in.Desired.Mode, BackTo: policy.Desktop, Terms: status.Terms{For: time.Hour}, Reached: time.Hour,
			}
		}
		r := status.Request{Mode: rapid.SampledFrom(modes).Draw(t, "requested"), Origin: status.OriginOperator, By: "alice"}
		if rapid.Bool().Draw(t, "terms") {
			r.Terms.Confirm = time.Minute
		}
		r.KeepTerms = rapid.Bool().Draw(t, "keeps")
		now, _ := Next(in, Requested{ID: 9, Request: r, At: at, WayBack: policy.Desktop})
		for range rapid.IntRange(0, 3).Draw(t, "checks") {
			state := observer.Of(rapid.SampledFrom(modes).Draw(t, "state"))
			now, _ = Next(now, Checked{Now: 90 * time.Minute, State: state, Running: true, By: "dubniumd"})
		}
		now, _ = Next(now, ended(9, status.OriginOperator, r.Mode, status.Canceled, observer.Of(in.Desired.Mode)))
		require.Equal(t, in.Desired, now.Desired)
		require.Nil(t, now.Pending)
		require.Equal(t, leaseID(in.Lease), leaseID(now.Lease))
	})
}
