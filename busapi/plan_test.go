package busapi

import (
	"reflect"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
)

func TestPreviewsSurviveTheWire(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var want status.Preview
		fill(t, reflect.ValueOf(&want).Elem())
		want.Guards = nil
		if verdicts := rapid.SliceOfN(genVerdict, 0, 2).Draw(t, "guards"); len(verdicts) > 0 {
			want.Guards = verdicts
		}
		got, err := DecodePreview(travelDict(t, EncodePreview(want)))
		require.NoError(t, err)
		require.Equal(t, want, got)
	})
}

func TestAPreviewOfAnotherTypeIsAnError(t *testing.T) {
	for key, wrong := range map[string]any{
		"from": 7, "reached": "yes", "guards": "none", "steps": "none", "stops": []string{"a.service"}, "expected": true,
	} {
		d := EncodePreview(status.Preview{Guards: []guards.Verdict{{}}})
		d[key] = dbus.MakeVariant(wrong)
		_, err := DecodePreview(d)
		require.ErrorContains(t, err, "cannot decode the plan", key)
		require.ErrorContains(t, err, key)
	}
}

func TestWhatIsAFingerprint(t *testing.T) {
	require.NoError(t, Fingerprint("0123456789abcdef0123456789abcdef"))
	for _, text := range []string{
		"", "0123", strings.Repeat("0", 33), strings.Repeat("A", 32), strings.Repeat("g", 32),
		"0123456789abcdef0123456789abcde\x1b",
	} {
		require.ErrorContains(t, Fingerprint(text), "is not the fingerprint of a plan")
	}
}
