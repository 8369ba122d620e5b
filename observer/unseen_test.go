package observer

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/policy"
)

const manyFiles = "many (pid 700, uid 1001) has too many open files to read"

func TestUnseenMayHold(t *testing.T) {
	many := Unseen{
		Process: Process{PID: 700, Command: "many", UID: 1001, Unit: "session-4.scope"},
		Slices:  []string{"user.slice", "user-1001.slice"},
	}
	with := func(change func(*Unseen)) []Unseen {
		u := many
		change(&u)
		return []Unseen{u}
	}
	inUnit := func(unit string, slices ...string) []Unseen {
		return with(func(u *Unseen) { u.Unit, u.Slices, u.Truncated = unit, slices, 5 })
	}
	p := policy.Default()
	p.GPU.PermittedHolders = append(p.GPU.PermittedHolders, "user@1001.service/app.service")
	cases := map[string]struct {
		unseen []Unseen
		change func(*ProcessScan)
		truth  Truth
		reason string
	}{
		"nobody": {truth: True, reason: "no foreign process"},
		"one":    {unseen: []Unseen{many}, reason: manyFiles + ", so it may hold a display GPU"},
		"one with its kind": {
			unseen: with(func(u *Unseen) { u.Truncated = 3 }), reason: manyFiles + ", so it and 3 others may hold",
		},
		"one whose files are hidden": {
			unseen: with(func(u *Unseen) { u.Denied = true }),
			reason: "the open files of many (pid 700, uid 1001) cannot be read",
		},
		"some that are not listed": {
			change: func(h *ProcessScan) { h.MoreUnseen = 2 }, reason: "2 processes that are not listed may hold",
		},
		"one and a holder": {
			unseen: []Unseen{many}, truth: False, reason: "sway (pid 9, session-2.scope) holds 0000:01:00.0",
			change: func(h *ProcessScan) {
				h.Holders = []Holder{{GPU: "0000:01:00.0", PID: 9, Command: "sway", Unit: "session-2.scope"}}
			},
		},
		"vLLM":                   {unseen: inUnit("vllm.service", "ai.slice"), truth: True},
		"the persistence daemon": {unseen: inUnit("nvidia-persistenced.service", "system.slice"), truth: True},
		"PID 1": {
			unseen: with(func(u *Unseen) { u.PID, u.Unit, u.Slices = 1, "init.scope", nil }), truth: True,
		},
		"PID 1 among others in no unit": {
			unseen: with(func(u *Unseen) { u.PID, u.Unit, u.Slices, u.Truncated = 1, "", nil, 1 }),
		},
		"a permitted unit of a user's": {
			unseen: with(func(u *Unseen) { u.Unit = "user@1001.service/app.service" }), truth: True,
		},
		"one of many of that user's": {
			unseen: inUnit("user@1001.service/app.service", "user.slice", "user-1001.slice"),
		},
		"one where there is no display": {
			unseen: []Unseen{many}, truth: True, change: func(h *ProcessScan) { h.GPUs = []GPU{{PCI: "0000:02:00.0"}} },
		},
		"many holders of a permitted unit": {truth: True, change: permits("nvidia-persistenced.service", "system.slice")},
		"many holders of a user's, of whom one is permitted": {
			truth: False, reason: "holds 0000:01:00.0 and 7 more",
			change: permits("user@1001.service/app.service", "user.slice"),
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := compute()
			s.Processes.Holders, s.Processes.Unseen = nil, c.unseen
			if c.change != nil {
				c.change(&s.Processes)
			}
			f := Derive(p, s)[DisplayReleased]
			assert.Equal(t, c.truth, f.Truth, f.Reason)
			assert.Contains(t, f.Reason, c.reason)
			assert.Equal(
				t, c.truth == True, Classify(p, s, Context{}, readAt).State == Of(policy.Compute),
				"it decides whether compute is there",
			)
		})
	}
}

// permits makes a permitted process of a unit a holder, and seven more of the same slice or unit.
func permits(unit, slice string) func(*ProcessScan) {
	return func(h *ProcessScan) {
		h.Holders = []Holder{{GPU: "0000:01:00.0", PID: 9, Command: "app", Unit: unit, Slices: []string{slice}, Truncated: 7}}
	}
}

func TestMissingGPUReason(t *testing.T) {
	p, s := policy.Default(), compute()
	p.GPU.Display = []string{"0000:09:00.0"}
	s.Processes.Unseen = []Unseen{{Process: Process{PID: 700}}}
	assert.Empty(t, MayHold(p, s.Processes))
	assert.Contains(t, Derive(p, s)[DisplayReleased].Reason, "0000:09:00.0 of the policy is missing")
}

func TestUnseenRedaction(t *testing.T) {
	p, s := policy.Default(), compute()
	secret := Process{PID: 700, Command: "secret", UID: 1001, Unit: "secret.service", Session: "secret"}
	s.Processes.Holders = nil
	s.Processes.Unseen = []Unseen{{Process: secret, Slices: []string{"secret.slice"}, Truncated: 3}}
	s.Processes.Jobs.Unread = []Unseen{{Process: secret, Slices: []string{"secret.slice"}}}
	o := Classify(p, s, Context{}, readAt)
	require.Contains(t, o.Facts[DisplayReleased].Reason, "secret")
	whole := fmt.Sprintf("%+v", s)

	redacted, words := Redact(s, 1000)
	got := words.Observation(o)
	assert.NotContains(t, fmt.Sprintf("%+v %+v", redacted, got), "secret")
	assert.Equal(t, []Unseen{{Process: Process{UID: 1001, Redacted: true}, Truncated: 3}}, redacted.Processes.Unseen)
	assert.Contains(t, got.Facts[DisplayReleased].Reason, "a process of uid 1001 has too many open files")
	assert.Equal(t, "a process of uid 1001 cannot", words.Text(redacted.Processes.Jobs.Unread[0].String()+" cannot"))
	assert.Equal(t, whole, fmt.Sprintf("%+v", s), "what was handed out stays")

	for _, uid := range []uint32{0, 1001} {
		own, words := Redact(s, uid)
		assert.Equal(t, s.Processes, own.Processes)
		assert.Equal(t, o, words.Observation(o))
	}
}

func TestMorePCMsUnknown(t *testing.T) {
	s := quiet()
	s.Processes.MorePCMs = 3
	f := Derive(policy.Default(), s)[AudioActive]
	assert.Equal(t, Unknown, f.Truth)
	assert.Contains(t, f.Reason, "3 more sound devices")
	s.Processes.PCMs = []PCM{{Name: "card0/pcm0p/sub0", Process: Process{PID: 9, Command: "aplay"}}}
	assert.Equal(t, True, Derive(policy.Default(), s).Is(AudioActive))
	s.Processes.DAWs, s.Processes.MoreDAWs = []Process{{PID: 9, Command: "reaper"}}, 4
	assert.Contains(t, AudioEvidence(policy.Default().Audio, s), "4 more digital audio workstations run")
}
