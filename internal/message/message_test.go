package message

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/daemon/status"
)

var idLine = regexp.MustCompile(`(?m)^-- (.*)$`)

func TestEveryKindIsExplainedOnce(t *testing.T) {
	catalog, err := os.ReadFile("../../systemd/catalog/dubnium.catalog")
	require.NoError(t, err)
	docs, err := os.ReadFile("../../docs/history.md")
	require.NoError(t, err)
	var explained []string
	for _, m := range idLine.FindAllStringSubmatch(string(catalog), -1) {
		explained = append(explained, m[1])
	}
	var all []string
	for _, id := range All() {
		all = append(all, string(id))
		assert.Regexp(t, `^[0-9a-f]{32}$`, id)
		assert.Contains(t, string(docs), "`"+string(id)+"`")
	}
	assert.ElementsMatch(t, all, explained)
	slices.Sort(all)
	assert.Len(t, slices.Compact(all), len(All()), "no two are the same")
}

func TestEveryResultHasItsKind(t *testing.T) {
	for _, r := range status.Results() {
		assert.NotEmpty(t, Finished(r), r)
	}
	assert.Len(t, finished, len(status.Results()))
}

// All has to have what the file declares.
func TestAllAreAll(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "message.go", nil, 0)
	require.NoError(t, err)
	declared := 0
	ast.Inspect(file, func(n ast.Node) bool {
		lit, ok := n.(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			return true
		}
		if text, err := strconv.Unquote(lit.Value); err == nil && len(text) == 32 {
			declared++
			assert.Contains(t, All(), ID(text))
		}
		return true
	})
	assert.Equal(t, len(All()), declared)
}
