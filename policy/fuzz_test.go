package policy

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
	"github.com/stretchr/testify/require"
)

// seed adds every broken policy, and two that can be used.
func seed(f *testing.F) {
	f.Helper()
	broken, err := filepath.Glob("testdata/broken/*")
	require.NoError(f, err)
	for _, file := range append(broken, "../docs/policy.example.toml") {
		data, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add(data)
	}
	f.Add([]byte(Default().JSON()))
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
		for _, again := range []string{text, p.JSON(), shown(Document{Policy: p})} {
			got, err := Parse("again", []byte(again))
			require.NoError(t, err)
			require.Equal(t, p, got)
		}
	})
}

// FuzzLanguages: what a file in JSON says is judged the same when TOML says it.
func FuzzLanguages(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		root, broken := parseJSON(data)
		if len(broken) > 0 {
			return
		}
		generic, has := plain(root)
		whole, ok := generic.(map[string]any)
		if !has || !ok {
			return
		}
		text, err := toml.Marshal(whole)
		if err != nil {
			return // TOML cannot say it
		}
		inJSON, jsonErr := Parse("p", data)
		inTOML, tomlErr := Parse("p", text)
		require.Equal(t, inJSON, inTOML)
		require.Equal(t, faultsOf(jsonErr), faultsOf(tomlErr), string(text))
	})
}

// plain is a tree as go-toml takes it; false when it holds what TOML has not.
func plain(n *node) (v any, has bool) {
	switch value := n.value.(type) {
	case nothing:
		return nil, false
	case list:
		elements := []any{}
		for _, e := range value {
			element, has := plain(e)
			if !has {
				return nil, false
			}
			elements = append(elements, element)
		}
		return elements, true
	case *table:
		entries := map[string]any{}
		for _, name := range value.names {
			entry, has := plain(value.nodes[name])
			if !has {
				return nil, false
			}
			entries[name] = entry
		}
		return entries, true
	}
	return n.value, true
}

// faultsOf are the findings without their places, in an order of their own.
func faultsOf(err error) []string {
	var all []string
	for _, f := range Findings(err) {
		all = append(all, fmt.Sprintf("%s: %s", f.Key, f.Text))
	}
	slices.Sort(all)
	return all
}
