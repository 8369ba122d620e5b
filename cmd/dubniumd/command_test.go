package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestHelpTellsOfEveryCommand(t *testing.T) {
	text, err := dubniumd(t, "--help")
	require.NoError(t, err)
	for _, word := range []string{"  dubniumd [flags]", "  impact TARGET ", "  quantum hold ", "  replay FILE ", "--policy FILE"} {
		assert.Contains(t, text, word)
	}
	assert.NotContains(t, text, "--proc", "it is for tests")

	text, err = dubniumd(t, "replay", "-h")
	require.NoError(t, err)
	assert.Contains(t, text, "dubniumd replay FILE [flags]")
	assert.Contains(t, text, "--policy FILE")
}

func TestTheVersionIsTold(t *testing.T) {
	text, err := dubniumd(t, "--version")
	require.NoError(t, err)
	assert.Equal(t, "dubniumd version devel\n", text)
}

func TestWhatIsCalledWronglyIsOneLine(t *testing.T) {
	for line, args := range map[string][]string{
		"unknown command \"impcat\"; see `dubniumd --help`":                             {"impcat"},
		"unknown command \"quantum\"; see `dubniumd --help`":                            {"quantum"},
		"unknown command \"quantum hodl\"; see `dubniumd --help`":                       {"quantum", "hodl", "--policy", "x"},
		"unknown flag: --jsn; see `dubniumd impact TARGET --help`":                      {"impact", "a.target", "--jsn"},
		"flag needs an argument: --policy; see `dubniumd replay FILE --help`":           {"replay", "--policy"},
		"it is called as `dubniumd impact TARGET`":                                      {"impact"},
		"it is called as `dubniumd replay FILE`":                                        {"replay", "a", "b"},
		"it is called as `dubniumd`":                                                    {"--policy", "x", "y"},
		"cannot read the recording: open /nonexistent: no such file or directory":       {"replay", "/nonexistent", "--json"},
		"cannot read the policy in force: stat /nonexistent: no such file or directory": {"session-end", "--policy", "/nonexistent"},
	} {
		_, err := dubniumd(t, args...)
		require.EqualError(t, err, line)
	}
}
