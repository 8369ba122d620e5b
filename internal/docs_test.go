package internal

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	backticked = regexp.MustCompile("`([^`\n]+)`")
	testName   = regexp.MustCompile(`^(?:Test|Fuzz)[A-Z]\w*$`)
	goFile     = regexp.MustCompile(`^[\w./-]+\.go$`)
	ourPath    = regexp.MustCompile(`^(?:policy|observer|guards|plans|daemon|busapi|cmd|internal|docs|systemd)/[\w./-]+$`)
	testFunc   = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
)

// TestDocsNameWhatExists: every test, file and package that a document names exists, so
// that a rename cannot leave the documents behind.
func TestDocsNameWhatExists(t *testing.T) {
	tests, files := goSources(t)
	names, paths := 0, 0
	for _, page := range documents(t) {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, m := range backticked.FindAllStringSubmatch(string(text), -1) {
			switch word := m[1]; {
			case testName.MatchString(word):
				names++
				assert.True(t, tests[word], "%s names %s, and no such test exists", page, word)
			case goFile.MatchString(word):
				paths++
				exists := slices.ContainsFunc(files, func(f string) bool { return f == word || path.Base(f) == word })
				assert.True(t, exists, "%s names %s, and no such file exists", page, word)
			case ourPath.MatchString(word):
				_, err := os.Stat(filepath.Join("..", word))
				assert.NoError(t, err, page)
			}
		}
	}
	require.Greater(t, names, 40)
	require.Greater(t, paths, 10)
}

// TestDocsFitTheScreen: a line of prose has at most 120 columns. A row of a table cannot
// be wrapped.
func TestDocsFitTheScreen(t *testing.T) {
	for _, page := range documents(t) {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for i, line := range strings.Split(string(text), "\n") {
			if !strings.HasPrefix(line, "|") {
				assert.LessOrEqual(t, len([]rune(line)), 120, "%s:%d", page, i+1)
			}
		}
	}
}

// documents are the pages that people write. docs/dbus-api.md is generated.
func documents(t *testing.T) []string {
	t.Helper()
	pages := []string{"../README.md", "../CONTRIBUTING.md"}
	for _, pattern := range []string{"../docs/*.md", "../docs/decisions/*.md"} {
		found, err := filepath.Glob(pattern)
		require.NoError(t, err)
		require.NotEmpty(t, found)
		pages = append(pages, found...)
	}
	return slices.DeleteFunc(pages, func(p string) bool { return filepath.Base(p) == "dbus-api.md" })
}

// goSources returns the names of all tests and the paths of all Go files, from the root
// of the repository.
func goSources(t *testing.T) (tests map[string]bool, files []string) {
	t.Helper()
	tests = map[string]bool{}
	require.NoError(t, filepath.WalkDir("..", func(file string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(file, ".go") {
			return err
		}
		files = append(files, strings.TrimPrefix(filepath.ToSlash(file), "../"))
		text, err := os.ReadFile(file)
		for _, m := range testFunc.FindAllStringSubmatch(string(text), -1) {
			tests[m[1]] = true
		}
		return err
	}))
	return tests, files
}
