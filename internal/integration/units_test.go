//go:build integration

package integration

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// instance stands for what a template is started for: systemd-analyze judges no
// template.
const instance = "1000"

// ourPrograms are where the units have our programs. systemd-analyze verify misses
// those that are not installed.
var ourPrograms = regexp.MustCompile(`=/usr/(libexec/dubnium|bin)/[a-z-]+`)

// unitDir copies the units into a directory, the templates as an instance of each.
func unitDir(t *testing.T) (files []string) {
	t.Helper()
	dir := t.TempDir()
	sources, err := filepath.Glob("../../systemd/*.*")
	require.NoError(t, err)
	for _, source := range sources {
		text, err := os.ReadFile(source)
		require.NoError(t, err)
		file := filepath.Join(dir, strings.Replace(filepath.Base(source), "@.", "@"+instance+".", 1))
		require.NoError(t, os.WriteFile(file, ourPrograms.ReplaceAll(text, []byte("=/usr/bin/true")), 0o644))
		files = append(files, file)
	}
	require.Greater(t, len(files), 15)
	return files
}

// analyze runs systemd-analyze and returns what it prints and what it complains of.
func analyze(t *testing.T, args ...string) (out, complaints string, err error) {
	t.Helper()
	cmd := exec.CommandContext(bounded(t), "systemd-analyze", append([]string{"--no-pager"}, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	said, err := cmd.Output()
	// Without notify-reload, which is of systemd 253, dubniumd starts nowhere.
	return string(said), regexp.MustCompile(`(?m)^.*ignoring: notify-reload\n`).ReplaceAllString(stderr.String(), ""), err
}

// TestSystemdUnderstandsTheUnits: a directive that is misspelt is one that is not there.
func TestSystemdUnderstandsTheUnits(t *testing.T) {
	files := unitDir(t)
	_, complaints, err := analyze(t, append([]string{"verify", "--man=no"}, files...)...)
	assert.NoError(t, err)
	assert.Empty(t, complaints)

	broken := filepath.Join(filepath.Dir(files[0]), "broken.service")
	require.NoError(t, os.WriteFile(broken, []byte("[Service]\nExecStart=/usr/bin/true\nMemoryMaximum=1M\n"), 0o644))
	_, complaints, _ = analyze(t, "verify", "--man=no", broken)
	assert.Contains(t, complaints, "MemoryMaximum")
}

// mark is how much a unit may be exposed, by the score of systemd-analyze security.
func mark(unit string) float64 {
	switch {
	case unit == "dubniumd.service":
		return 1.0
	case strings.HasPrefix(unit, "dubnium-probe-"):
		return 1.5
	case unit == "dubnium-session-end@.service": // it runs a program of its user's
		return 2.5
	}
	return 2.0
}

// exposure is what systemd-analyze security says of a unit: its score, and the names
// of what it finds open.
type exposure struct {
	score string
	open  []string
}

var overall = regexp.MustCompile(`exposure level for \S+: (\S+)`)

func exposureOf(t *testing.T, file string) (e exposure) {
	t.Helper()
	out, complaints, err := analyze(t, "security", "--offline=true", file)
	require.NoError(t, err)
	require.Empty(t, complaints)
	score := overall.FindStringSubmatch(out)
	require.NotNil(t, score, out)
	e.score = score[1]
	out, _, err = analyze(t, "security", "--offline=true", "--json=short", file)
	require.NoError(t, err)
	var checks []struct {
		Name     string  `json:"name"`
		Exposure *string `json:"exposure"`
	}
	require.NoError(t, json.Unmarshal([]byte(out), &checks))
	for _, c := range checks {
		if c.Exposure != nil {
			e.open = append(e.open, c.Name)
		}
	}
	slices.Sort(e.open)
	return e
}

// TestTheSandboxesAreAsTightAsTheDocsSay: each keeps to its mark, and docs/security.md
// tells what it leaves open.
func TestTheSandboxesAreAsTightAsTheDocsSay(t *testing.T) {
	told := toldExposures(t)
	for _, file := range unitDir(t) {
		unit := strings.Replace(filepath.Base(file), "@"+instance, "@", 1)
		if !strings.HasSuffix(unit, ".service") {
			continue
		}
		t.Run(unit, func(t *testing.T) {
			e := exposureOf(t, file)
			score, err := strconv.ParseFloat(e.score, 64)
			require.NoError(t, err)
			assert.LessOrEqual(t, score, mark(unit), "%v", e.open)
			assert.Equal(t, told[unit], e)
		})
		delete(told, unit)
	}
	assert.Empty(t, slices.Collect(maps.Keys(told)), "units that are not there")
}

// quoted is a name in the docs.
var quoted = regexp.MustCompile("`([^`]+)`")

// toldExposures reads the table of docs/security.md: unit, score, what is open beyond
// the first row's, which is every unit's.
func toldExposures(t *testing.T) map[string]exposure {
	t.Helper()
	text, err := os.ReadFile("../../docs/security.md")
	require.NoError(t, err)
	_, section, found := strings.Cut(string(text), "\n## What the sandboxes leave open\n")
	require.True(t, found)
	told := map[string]exposure{}
	var all []string
	for line := range strings.Lines(section) {
		cells := strings.Split(line, " | ")
		if len(cells) != 4 {
			continue
		}
		unit, score := strings.Trim(cells[0], "| `"), cells[1]
		var open []string
		for _, name := range quoted.FindAllStringSubmatch(cells[2], -1) {
			open = append(open, strings.ReplaceAll(name[1], `\|`, "|"))
		}
		switch {
		case unit == "every unit":
			all = open
		case strings.HasSuffix(unit, ".service"):
			open = append(open, all...)
			slices.Sort(open)
			told[unit] = exposure{score, open}
		}
	}
	require.NotEmpty(t, all)
	return told
}
