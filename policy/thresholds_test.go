package policy

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestJobsAreToldFromWhatRunsAllDay(t *testing.T) {
	cases := map[string]struct {
		name, line string
		job        Pattern
		remote     bool
	}{
		"a compiler":              {"cc1plus", "/usr/lib/gcc/cc1plus -quiet a.cc", "cc1plus", false},
		"LLVM's, of some version": {"clang-19", "/nix/store/x/bin/clang-19 -cc1 -triple x", "clang* -cc1 *", false},
		"its language server":     {"clangd", "/usr/bin/clangd --background-index", "", false},
		"a rebuild": {
			"nixos-rebuild", "/bin/bash /run/current-system/bin/nixos-rebuild switch", "nixos-rebuild", false,
		},
		"the switch itself": {
			"switch-to-confi", "/nix/store/x/switch-to-configuration switch", "*switch-to-configuration *", false,
		},
		"the switch, by perl": {
			"perl", "/nix/store/p/perl /nix/store/x/switch-to-configuration switch", "*switch-to-configuration *", false,
		},
		"nix that builds":             {"nix", "/run/current-system/sw/bin/nix build .#iso", "nix build*", false},
		"nix that does something":     {"nix", "nix repl", "", false},
		"a copy":                      {"rsync", "rsync -a /a /b", "rsync", false},
		"a server that waits":         {"rsync", "/usr/bin/rsync --daemon --no-detach", "", false},
		"tmux, if over ssh":           {"tmux: server", "tmux new -s work", "tmux: server", true},
		"a shell":                     {"bash", "-bash", "", false},
		"one that has wiped its line": {"make", "", "make", false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got, remote, found := Default().Guards.JobPattern(c.name, c.line)
			assert.Equal(t, c.job, got)
			assert.Equal(t, c.remote, remote)
			assert.Equal(t, c.job != "", found)
		})
	}
}

func TestAStarStandsForAnything(t *testing.T) {
	for pattern, texts := range map[Pattern]map[string]bool{
		"a*b": {"ab": true, "axxb": true, "ab ": false, "a": false, "b": false},
		"a*a": {"a": false, "aa": true},
		"*":   {"": true, "x": true},
		"a":   {"a": true, "aa": false, "": false},
		"a**": {"a": true, "ab": true},
	} {
		for text, want := range texts {
			assert.Equal(t, want, pattern.Matches(text, ""), "%s on %q", pattern, text)
		}
	}
}

func TestThresholdsOutOfRangeAreRefused(t *testing.T) {
	for file, want := range map[string]string{
		"[guards]\nmax_load_per_core = -1.0":           "guards.max_load_per_core: must be from 0 to 1000",
		"[guards]\nmax_load_per_core = nan":            "guards.max_load_per_core: must be a finite number",
		"[guards]\nmax_cpu_pressure = 101":             "guards.max_cpu_pressure: must be from 0 to 100",
		"[guards.min_memory_mib]\ncompute = -1":        "guards.min_memory_mib.compute: must be from 0 to 2147483647",
		"[guards]\njobs = [\"\"]":                      "guards.jobs[0]: expected a pattern of 1 to 200 printable characters",
		"[guards]\nnot_jobs = [\"* *\"]":               "guards.not_jobs[0]: \"* *\" matches every process",
		"[guards]\ndrain = \"maybe\"":                  "guards.drain: unknown drain rule \"maybe\": expected one of wait",
		"[guards]\nmodel_store = \"models\"":           "guards.model_store: expected an absolute path without",
		"[guards]\nstudio_local = [\"check_weather\"]": "unknown guard \"check_weather\": expected one of",
		"[placement]\nai = \"moon\"":                   "unknown place \"moon\": expected one of local, remote",
	} {
		_, err := Parse("p.toml", []byte(file))
		require.Error(t, err, file)
		assert.Contains(t, err.Error(), want)
	}
	p, err := Parse("p.toml", []byte("[guards]\nmax_load_per_core = 2\nmodel_store = \"/srv/models\"\n"))
	require.NoError(t, err)
	assert.InDelta(t, 2, p.Guards.MaxLoadPerCore, 0, "a whole number is a number")
	assert.Equal(t, []string{"/var/lib/mode-controller", "/srv/models"}, p.Directories())
}

// TestChosenGuardsAreEvaluated: a guard that the policy may choose and that no plan has
// would be accepted and never evaluated.
func TestChosenGuardsAreEvaluated(t *testing.T) {
	p := Default()
	for _, id := range optionalGuards {
		p.Guards.StudioLocal = []GuardID{id}
		guards, _ := p.GuardsTo(StudioLocal)
		assert.Contains(t, guards, id)
	}
}
