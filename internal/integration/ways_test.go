//go:build integration

package integration

import (
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/policy"
)

// way brings the circumstances of a call about, and returns the call.
type way func(*testing.T, *trial) asked

// hour is for what must not end during a test.
var hour = dbus.MakeVariant(uint32(3600))

// requests are the methods that need the same for a mode.
func requests(mode policy.Mode) []way {
	return []way{
		func(*testing.T, *trial) asked { return ask("RequestMode", 0, busapi.Dict{}, string(mode)) },
		func(_ *testing.T, x *trial) asked {
			options := busapi.Dict{}
			if mode != x.from { // which is the one that is desired
				options[busapi.OptionTarget] = dbus.MakeVariant(string(mode))
			}
			return ask("Reconcile", 0, options)
		},
	}
}

func reconcile(*testing.T, *trial) asked { return ask("Reconcile", 0, busapi.Dict{}) }

// withoutWait is for the mode that is there: otherwise it would be entered.
func withoutWait(_ *testing.T, x *trial) asked {
	return ask("RequestMode", busapi.FlagNoWait, busapi.Dict{}, string(x.from))
}

func forces(modes ...policy.Mode) (ways []way) {
	for _, mode := range modes {
		ways = append(ways, func(*testing.T, *trial) asked {
			return ask("ForceMode", 0, busapi.Dict{}, string(mode), []string{string(policy.CheckCPULoadSafe)})
		})
	}
	return ways
}

func onTerms(mode policy.Mode) way {
	return func(*testing.T, *trial) asked {
		return ask("RequestMode", 0, busapi.Dict{busapi.OptionFor: hour}, string(mode))
	}
}

// The two users of a trial.
func self(x *trial) *person  { return x.self }
func other(x *trial) *person { return x.other }

// does has one of them make a call with all passwords that it needs.
func (x *trial) does(t *testing.T, p *person, a asked) []any {
	t.Helper()
	if p == x.self {
		x.calls++
	}
	return p.must(t, a)
}

// leasedTo has the mode asked for on terms by somebody.
func leasedTo(whom func(*trial) *person, then way) way {
	return func(t *testing.T, x *trial) asked {
		x.lease = x.does(
			t, whom(x), ask("RequestMode", 0, busapi.Dict{busapi.OptionFor: hour, busapi.OptionConfirm: hour}, string(x.from)),
		)[0].(uint64)
		x.finished(t, x.lease)
		x.watch.until(t, "the mode is on terms", func(v status.View) bool {
			return v.Lease != nil && !v.Lease.Until.IsZero()
		})
		return then(t, x)
	}
}

func confirm(_ *testing.T, x *trial) asked { return ask("ConfirmMode", 0, busapi.Dict{}, x.lease) }

// announcedBy has somebody's transition wait for an inhibitor: to compute or, from
// there, to desktop.
func announcedBy(whom func(*trial) *person, then way) way {
	return func(t *testing.T, x *trial) asked {
		to := policy.Compute
		if x.from == to {
			to = policy.Desktop
		}
		x.transition = x.does(t, whom(x), ask("RequestMode", 0, busapi.Dict{}, string(to)))[0].(uint64)
		x.watch.await(t, "it is announced", func(e status.Event) bool {
			return e.Prepare != nil && e.Prepare.Begin && e.Prepare.ID == x.transition
		})
		return then(t, x)
	}
}

func cancel(_ *testing.T, x *trial) asked {
	return ask("CancelTransition", 0, busapi.Dict{}, x.transition)
}

func postpone(_ *testing.T, x *trial) asked {
	return ask("PostponeTransition", 0, busapi.Dict{}, x.transition, uint32(60))
}

// away has the caller's own graphical session end before.
func away(then way) way {
	return func(t *testing.T, x *trial) asked {
		x.logOut(t, x.session, x.self.uid)
		x.undo = append(x.undo, func() { x.logIn(t) })
		return then(t, x)
	}
}

func inhibit(how string) way {
	return func(*testing.T, *trial) asked {
		return ask("Inhibit", 0, busapi.Dict{}, "", "a test", "to see who may", how)
	}
}

func heldBy(whom func(*trial) *person, then way) way {
	return func(t *testing.T, x *trial) asked {
		x.cookie = x.does(t, whom(x), inhibit("block")(t, x))[0].(uint32)
		return then(t, x)
	}
}

func release(_ *testing.T, x *trial) asked {
	return ask("ReleaseInhibitor", 0, busapi.Dict{}, x.cookie)
}

// reads are the methods for everybody, but for CanRequest.
func reads() (ways []way) {
	for _, a := range []asked{
		ask("Observe", 0, busapi.Dict{}),
		ask("Explain", 0, busapi.Dict{}, ""),
		ask("RunGuards", 0, busapi.Dict{}, string(policy.Compute), []string{}),
		ask("Plan", 0, busapi.Dict{}, string(policy.Compute)),
		ask("GetPolicy", 0, busapi.Dict{}),
		ask("History", 0, busapi.Dict{}),
		ask("GetTransition", 0, busapi.Dict{}, uint64(1)),
	} {
		ways = append(ways, func(_ *testing.T, x *trial) asked {
			x.looks++ // most of them are rationed as looks
			return a
		})
	}
	return ways
}
