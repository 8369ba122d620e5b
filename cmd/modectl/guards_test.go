package main

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/policy"
)

func TestGuardsExitAsTheFirstThatStandsInTheWay(t *testing.T) {
	passes := guards.Verdict{Guard: policy.CheckTargetReachable, OK: true, Hard: true, Reason: "it can be reached"}
	unknown := guards.Verdict{Guard: policy.CheckCPULoadSafe, Code: 22, Reason: "no PSI", Remedy: "fix that"}
	blocks := guards.Verdict{
		Guard: policy.CheckAudioIdle, Code: 10, Hard: true, Reason: "mpv plays", Remedy: "stop it", Evidence: []string{"mpv"},
	}
	for code, verdicts := range map[int][]guards.Verdict{
		0: {passes}, 10: {passes, blocks, unknown}, 22: {unknown, blocks},
	} {
		serve(t, &engine{verdicts: verdicts}, authorizer{})
		r := modectl(t.Context(), "guards", "compute")
		require.Equal(t, code, r.code)
		require.Empty(t, r.stderr)
		require.Contains(t, r.stdout, verdicts[0].Reason)

		r = modectl(t.Context(), "guards", "compute", "--json")
		require.Equal(t, code, r.code)
		var got []guards.Verdict
		require.NoError(t, json.Unmarshal([]byte(r.stdout), &got))
		require.Equal(t, verdicts, got)
	}
	serve(t, &engine{verdicts: []guards.Verdict{passes, blocks}}, authorizer{})
	r := modectl(t.Context(), "guard", "check_audio_idle", "--for", "studio-local")
	require.Equal(t, ran{10, `{"guard":"check_audio_idle","ok":false,"code":10,"hard":true,` +
		`"reason":"mpv plays","remedy":"stop it","evidence":["mpv"]}` + "\n", ""}, r)
	require.Zero(t, modectl(t.Context(), "guard", "check_target_reachable").code)
	require.Contains(t, modectl(t.Context(), "guard", "--help").stdout, "check_compute_capability_local")
}
