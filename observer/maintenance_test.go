package observer

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/dubnium/dubnium/policy"
)

func TestMaintenanceQuiet(t *testing.T) {
	p := policy.Default()
	p.Studio.Quiesce = []string{"fstrim.timer"}
	unit := func(state string) Unit { return Unit{LoadState: "loaded", ActiveState: state} }
	for name, c := range map[string]struct {
		units  map[string]Unit
		truth  Truth
		reason string
	}{
		"both are down": {
			map[string]Unit{"fstrim.timer": unit("inactive"), "fstrim.service": unit("failed")},
			True,
			"no maintenance unit of the policy runs",
		},
		"the timer waits": {
			map[string]Unit{"fstrim.timer": unit("active"), "fstrim.service": unit("inactive")}, False, "fstrim.timer is active",
		},
		"its service works": {
			map[string]Unit{"fstrim.timer": unit("inactive"), "fstrim.service": unit("activating")},
			False,
			"fstrim.service is activating",
		},
		"it is stopping": {
			map[string]Unit{"fstrim.timer": unit("inactive"), "fstrim.service": unit("deactivating")},
			False,
			"fstrim.service is deactivating",
		},
		"one was not read": {
			map[string]Unit{"fstrim.service": unit("inactive")}, Unknown, "fstrim.timer has not been read",
		},
		"what runs decides": {map[string]Unit{"fstrim.service": unit("active")}, False, "fstrim.service is active"},
		"neither was read":  {nil, Unknown, "fstrim.timer has not been read"},
		"others may be loud": {
			map[string]Unit{
				"fstrim.timer": unit("inactive"), "fstrim.service": unit("inactive"), "nix-gc.service": unit("active"),
			},
			True, "no maintenance unit of the policy runs",
		},
	} {
		t.Run(name, func(t *testing.T) {
			fact := Derive(p, Snapshot{Systemd: Systemd{Reading: Reading{At: readAt}, Units: c.units}})[MaintenanceQuiet]
			assert.Equal(t, c.truth, fact.Truth)
			assert.Equal(t, c.reason, fact.Reason)
		})
	}

	for truth, want := range map[Truth]State{
		True: "studio-local", False: "degraded-studio-local", Unknown: "studio-local",
	} {
		f := requiredBy(policy.StudioLocal)
		f[MaintenanceQuiet] = Fact{Truth: truth, Source: SourceSystemd, At: readAt, Reason: "fstrim.timer is active"}
		o := decide(p, f, Context{Desired: policy.StudioLocal}, readAt)
		assert.Equal(t, want, o.State)
		assert.Equal(t, truth == Unknown, o.Confidence == Medium)
		if truth == False {
			assert.Equal(
				t, []Reason{{"maintenance-runs", "a unit runs that studio-local stops: fstrim.timer is active"}}, o.Reasons,
			)
		}
		f = requiredBy(policy.Desktop)
		f[MaintenanceQuiet] = Fact{Truth: truth, Source: SourceSystemd, At: readAt}
		assert.Equal(
			t, State("desktop"), decide(p, f, Context{Desired: policy.Desktop}, readAt).State, "desktops may be loud",
		)
	}
}
