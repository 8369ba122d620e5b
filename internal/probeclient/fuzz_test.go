package probeclient_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/probeclient"
)

// FuzzDecode: what is taken for one document is one, and no text in it gets anything to
// a terminal that is not printed.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"a":1}`), 10)
	f.Add([]byte(`{"a":1}{"a":2}`), 0)
	f.Add([]byte(`"\u001b[2J\u202e\ud800" `), 3)
	f.Add([]byte("{\"a\":\"\xff\"}\n]"), 1)
	f.Add([]byte(strings.Repeat("[", 20_000)), 1)
	f.Fuzz(func(t *testing.T, data []byte, limit int) {
		var document any
		if probeclient.Decode(data, &document) == nil {
			require.True(t, json.Valid(data), "%q", data)
		}
		limit = max(0, limit)
		clean := probeclient.Clean(string(data), limit)
		require.LessOrEqual(t, len(clean), limit)
		require.True(t, utf8.ValidString(clean))
		require.NotContains(t, strings.Map(func(r rune) rune {
			if unicode.IsPrint(r) {
				return 'x'
			}
			return '!'
		}, clean), "!")
	})
}
