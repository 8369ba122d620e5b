package status

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/observer"
)

func TestScriptsReadWhatTheHostIs(t *testing.T) {
	o := observer.Observation{
		State: "desktop", Inferred: "desktop", Confidence: observer.High, At: time.Unix(0, 0).UTC(),
		Facts: observer.Facts{
			observer.DesktopTarget: {Truth: observer.True}, observer.VLLMActive: {Reason: "no answer"},
			observer.AIProfile: {Truth: observer.True, Word: "fast"},
		},
	}
	data, err := json.Marshal(CurrentOf(o, time.Time{}))
	require.NoError(t, err)
	var got map[string]any
	require.NoError(t, json.Unmarshal(data, &got))
	signals, unknown := got["signals"].(map[string]any), got["unknown"].(map[string]any)
	require.Len(t, signals, len(observer.Signals()))
	require.Equal(
		t, []any{true, nil, "fast"},
		[]any{signals["desktop_target_active"], signals["vllm_active"], signals["ai_profile"]},
	)
	require.Equal(t, "no answer", unknown["vllm_active"])
	require.Equal(t, "not read yet", unknown["greeter_active"])
	require.NotContains(t, unknown, "desktop_target_active")
	delete(got, "signals")
	delete(got, "unknown")
	require.Equal(t, map[string]any{
		"observed_state": "desktop", "confidence": "high", "degraded": false, "timestamp": "1970-01-01T00:00:00Z",
		"conflicts": []any{}, "reasons": []any{},
	}, got)
}
