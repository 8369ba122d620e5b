package status

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

func secretOf(uid uint32, text string) observer.Secret {
	return observer.Secret{UID: uid, Text: text, Instead: "somebody"}
}

func TestARecordKeepsTheSecretsThatItTells(t *testing.T) {
	alices, bobs, unknown := secretOf(1000, "vim (pid 1)"), secretOf(1001, "game (pid 2)"), secretOf(observer.Nobody, "x (pid 3)")
	r := Record{To: policy.Compute, Cause: "vim (pid 1) and game (pid 2) hold it", Steps: []Step{{Error: "x (pid 3)"}}}
	r.Keep([]observer.Secret{alices, secretOf(1002, "never told"), bobs, unknown})
	assert.Equal(t, []observer.Secret{alices, bobs, unknown}, r.Private)

	// It is on disk with them, and read again.
	data, err := json.Marshal(r)
	require.NoError(t, err)
	var read Record
	require.NoError(t, json.Unmarshal(data, &read))
	for uid, want := range map[uint32][2]string{
		0:               {"vim (pid 1) and game (pid 2) hold it", "x (pid 3)"},
		1000:            {"vim (pid 1) and somebody hold it", "somebody"},
		1001:            {"somebody and game (pid 2) hold it", "somebody"},
		observer.Nobody: {"somebody and somebody hold it", "somebody"},
	} {
		got := read.For(uid)
		assert.Equal(t, want, [2]string{got.Cause, got.Steps[0].Error}, "for uid %d", uid)
		assert.Equal(t, uid == 0, got.Private != nil, "the secrets are root's")
	}
	assert.Contains(t, read.Steps[0].Error, "x (pid 3)", "what was handed out stays")
}

// Wherever a record has words, a secret does not get past For.
func TestNoTextOfARecordTellsASecret(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		told := func(label string) string {
			return rapid.SampledFrom([]string{"", "secret (pid 2)", "held by secret (pid 2), secret (pid 2) too"}).Draw(t, label)
		}
		r := Record{
			To: policy.Compute, Cause: told("cause"), Steps: []Step{
				{ID: "a", Error: told("first")}, {UndoError: told("second"), Notes: []string{told("note"), told("another")}},
			},
			Guards: []guards.Verdict{
				{Reason: told("reason"), Remedy: told("remedy"), Evidence: []string{told("evidence"), told("more")}},
			},
		}
		r.Keep([]observer.Secret{secretOf(1001, "secret (pid 2)")})
		for _, uid := range []uint32{1, 1000, observer.Nobody} {
			data, err := json.Marshal(r.For(uid))
			require.NoError(t, err)
			require.NotContains(t, string(data), "secret")
		}
		require.Equal(t, r, r.For(0))
	})
}
