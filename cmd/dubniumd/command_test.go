package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestHelpTellsOfEveryCommand(t *testing.T) {
	text, err := dubniumd(t, "--help")
	require.NoError(t, err)
	for _, word := range []string{
		"  dubniumd [flags]\n", "--policy FILE",
		"  audio-priority ", "  impact ", "  quantum ", "  replay ", "  session-end ",
	} {
		assert.Contains(t, text, word)
	}
	for _, word := range []string{"--proc", "--cgroups", "completion", "\n  help "} {
		assert.NotContains(t, text, word)
	}
	for call, words := range map[string][]string{
		"replay -h":             {"dubniumd replay FILE [flags]", "--policy FILE", "--json", "exit code is 2"},
		"impact --help":         {"dubniumd impact TARGET [flags]", "--json"},
		"quantum --help":        {"  hold ", "  release "},
		"quantum hold --help":   {"dubniumd quantum hold [flags]", "--policy FILE"},
		"session-end --help":    {"--policy FILE", "--runtime DIR"},
		"audio-priority --help": {"--policy FILE"},
	} {
		text, err := dubniumd(t, strings.Fields(call)...)
		require.NoError(t, err, call)
		for _, word := range words {
			assert.Contains(t, text, word, call)
		}
		assert.NotContains(t, text, "--device", "it is for tests")
	}
}

func TestHelpFitsATerminal(t *testing.T) {
	pages := 0
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		if cmd.Name() == "" { // in the place of cobra's help
			return
		}
		pages++
		call := append(strings.Fields(cmd.CommandPath())[1:], "--help")
		text, err := dubniumd(t, call...)
		require.NoError(t, err)
		require.Contains(t, text, cmd.Short)
		for line := range strings.Lines(text) {
			assert.LessOrEqual(t, len(strings.TrimSuffix(line, "\n")), 80, "%s: %s", cmd.CommandPath(), line)
		}
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	visit(rootCommand())
	require.Equal(t, 8, pages)
}

func TestTheVersionIsTold(t *testing.T) {
	text, err := dubniumd(t, "--version")
	require.NoError(t, err)
	assert.Equal(t, "dubniumd version devel\n", text)
}

func TestWhatIsCalledWronglyIsOneLine(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		line string
	}{
		"no command":         {[]string{"impcat"}, "unknown command \"impcat\"; see `dubniumd --help`"},
		"an empty one":       {[]string{""}, "unknown command \"\"; see `dubniumd --help`"},
		"cobra's help":       {[]string{"help", "impact"}, "unknown command \"help\"; see `dubniumd --help`"},
		"cobra's completion": {[]string{"completion", "bash"}, "unknown command \"completion\"; see `dubniumd --help`"},
		"no subcommand":      {[]string{"quantum"}, "quantum needs a command: hold or release"},
		"an unknown one":     {[]string{"quantum", "hodl"}, "unknown command \"hodl\"; see `dubniumd quantum --help`"},
		"an argument":        {[]string{"--policy", "x", "y"}, "unknown command \"y\"; see `dubniumd --help`"},
		"too few":            {[]string{"impact"}, "usage: dubniumd impact TARGET [flags]"},
		"too many":           {[]string{"replay", "a", "b"}, "usage: dubniumd replay FILE [flags]"},
		"one too many": {
			[]string{"quantum", "release", "x"},
			"usage: dubniumd quantum release [flags]",
		},
		"an unknown flag": {[]string{"impact", "a", "--jsn"}, "unknown flag: --jsn; see `dubniumd impact --help`"},
		"a flag of another command": {
			[]string{"quantum", "hodl", "--policy", "x"}, "unknown flag: --policy; see `dubniumd quantum --help`",
		},
		"a flag with a wrong value": {
			[]string{"impact", "a", "--json=maybe"},
			"invalid argument \"maybe\" for --json; see `dubniumd impact --help`",
		},
		"a flag without its value": {
			[]string{"replay", "--policy"}, "flag needs an argument: --policy; see `dubniumd replay --help`",
		},
		"no recording": {
			[]string{"replay", "/nonexistent", "--json"},
			"cannot read the recording: open /nonexistent: no such file or directory",
		},
		"no policy": {
			[]string{"session-end", "--policy", "/nonexistent"},
			"cannot read the policy in force: stat /nonexistent: no such file or directory",
		},
	} {
		t.Run(name, func(t *testing.T) {
			text, err := dubniumd(t, c.args...)
			require.EqualError(t, err, c.line)
			require.Empty(t, text)
		})
	}
}

// The hidden flags are what a daemon over a simulated host is started with.
func TestWhatIsForTestsIsAcceptedAllTheSame(t *testing.T) {
	for _, args := range [][]string{
		{"--proc", "/proc", "--cgroups", "/sys/fs/cgroup", "--policy"}, {"audio-priority", "--device", "x", "--policy"},
	} {
		_, err := dubniumd(t, args...)
		require.ErrorContains(t, err, "flag needs an argument: --policy")
	}
}
