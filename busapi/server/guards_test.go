package server

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/policy"
)

func TestRunGuardsJudgesWhatTheSenderWouldAskFor(t *testing.T) {
	h := newHost(t)
	h.looked()
	var list []busapi.Dict
	require.NoError(t, h.call("RunGuards", "compute", []string{}).Store(&list))
	verdicts, err := busapi.DecodeVerdicts(list)
	require.NoError(t, err)
	require.Len(t, verdicts, 2)
	require.Equal(t, policy.CheckTargetReachable, verdicts[0].Guard)
	h.controller.with(func(c *fakeController) {
		require.Equal(t, []status.Request{{Mode: policy.Compute, EndOthers: true}}, c.judged)
		require.Empty(t, c.requests)
	})
	h.authorizer.as(1000)
	twice := []string{"check_graphical_session_absent", "check_graphical_session_absent"}
	require.NoError(t, h.call("RunGuards", "desktop", twice).Store(&list))
	require.Len(t, list, 1)
	h.controller.with(func(c *fakeController) {
		require.Equal(t, status.Request{Mode: policy.Desktop, UID: 1000}, c.judged[1])
	})
	require.Empty(t, h.authorizer.questions(), "nobody is asked for a password")

	refused(t, h.call("RunGuards", "sauna", []string{}), busapi.ErrUnknownMode, `unknown mode "sauna"`)
	unknown := h.call("RunGuards", "compute", []string{"check_weather"})
	refused(t, unknown, busapi.ErrUnknownGuard, `unknown guard "check_weather"`)
	h.authorizer.as(0)
	h.controller.with(func(c *fakeController) { c.fail = errors.New("no logind") })
	require.ErrorContains(t, h.call("RunGuards", "compute", []string{}).Err, "cannot read the host: no logind")
}

func TestVerdictsAreRedacted(t *testing.T) {
	h := newHost(t)
	h.looked()
	for uid, told := range map[uint32]bool{0: true, 1001: true, 1000: false} {
		h.authorizer.as(uid)
		var list []busapi.Dict
		require.NoError(t, h.call("RunGuards", "compute", []string{"check_gpu_display_released"}).Store(&list))
		require.Equal(t, told, strings.Contains(fmt.Sprint(list), "secretgame"), "for uid %d", uid)
		require.Contains(t, fmt.Sprint(list), "0000:01:00.0", "that somebody does is no secret")
		verdicts, err := busapi.DecodeVerdicts(list)
		require.NoError(t, err)
		require.Equal(t, policy.Code(11), verdicts[0].Code, "the verdict is the same for everybody")
	}
}
