package server

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/policy"
)

func TestCanRequestSaysWhatWouldBeLet(t *testing.T) {
	const (
		desktop = "org.dubnium.mode1.request-desktop"
		studio  = "org.dubnium.mode1.request-studio-local"
	)
	masked := guards.Verdict{
		Guard: policy.CheckTargetReachable, Code: 13, Hard: true, Reason: "it is masked", Remedy: "unmask it",
	}
	cases := map[string]struct {
		uid        uint32
		granted    []string
		challenges []string
		blocked    bool
		answer     string
		text       string
	}{
		"root":    {0, nil, nil, false, "yes", ""},
		"granted": {1000, []string{desktop, studio}, nil, false, "yes", ""},
		"after a password": {
			1000, []string{studio}, []string{desktop}, false, "challenge", desktop + " needs authentication",
		},
		"denied":                           {1000, []string{desktop}, nil, false, "no", studio + " was not granted"},
		"one denied, one after a password": {1000, nil, []string{studio}, false, "no", desktop + " was not granted"},
		"blocked":                          {0, nil, nil, true, "no", "it is masked"},
		"blocked, and denied":              {1000, nil, nil, true, "no", "it is masked"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.inMode(policy.Compute) // the way to the overlay needs two rights
			h.authorizer.as(c.uid, c.granted...)
			h.authorizer.with(func(a *fakeAuthorizer) { a.challenges = c.challenges })
			h.controller.with(func(f *fakeController) {
				f.planned = &status.Preview{Guards: []guards.Verdict{{Guard: policy.CheckNoInhibitor, OK: true}}}
				if c.blocked {
					f.planned.Guards = append(f.planned.Guards, masked)
				}
			})
			var answer string
			var details busapi.Dict
			require.NoError(t, h.call("CanRequest", "studio-local").Store(&answer, &details))
			require.Equal(t, c.answer, answer)
			text, _ := details["text"].Value().(string)
			require.Equal(t, c.text, text)
			if c.blocked {
				require.Equal(t, []any{"check_target_reachable", int32(13), "unmask it"},
					[]any{details["guard"].Value(), details["code"].Value(), details["remedy"].Value()})
				require.Empty(t, h.authorizer.questions())
			} else {
				require.NotContains(t, details, "guard")
			}
			require.Empty(t, h.controller.asked(), "nothing is asked for")
			require.NotContains(t, fmt.Sprint(h.authorizer.questions()), "?", "nobody is asked for a password")
		})
	}
}

func TestCanRequestDuringATransitionIsNo(t *testing.T) {
	h := newHost(t)
	h.controller.with(func(c *fakeController) { c.fail = fmt.Errorf("%w: 3 to compute", status.ErrBusy) })
	var answer string
	var details busapi.Dict
	require.NoError(t, h.call("CanRequest", "desktop").Store(&answer, &details))
	require.Equal(t, "no", answer)
	require.Equal(t, "another transition is running: 3 to compute", details["text"].Value())
	refused(t, h.call("CanRequest", "sauna"), busapi.ErrUnknownMode, "sauna")
}
