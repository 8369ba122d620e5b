package policy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// seed adds every broken policy, and two valid ones.
func seed(f *testing.F) {
	f.Helper()
	broken, err := filepath.Glob("testdata/broken/*")
	require.NoError(f, err)
	for _, file := range append(broken, "../docs/policy.example.toml") {
		data, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add(data)
	}
	text, err := Default().TOML()
	require.NoError(f, err)
	f.Add([]byte(text))
}

// FuzzParse: whatever a file holds, it is refused with places that it has, or is a
// policy that reads back from every form as itself.
func FuzzParse(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Parse("fuzz", data)
		if err != nil {
			lines := strings.Count(string(data), "\n") + 1
			for _, found := range Findings(err) {
				require.True(t, found.Line > 0 && found.Line <= lines && found.Column > 0, found)
			}
			return
		}
		text, err := p.TOML()
		require.NoError(t, err)
		for _, again := range []string{text, shown(Document{Policy: p})} {
			got, err := Parse("again", []byte(again))
			require.NoError(t, err)
			require.Equal(t, p, got)
		}
	})
}
