package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestOnlyWhatIsNotWrittenOfTheProgramIsGivenBack(t *testing.T) {
	const path = "/usr/libexec/dubnium/dubniumd"
	first, last, found := readOnly([]byte("00400000-006ea000 r-xp 00001000 fe:01 1234                       /usr/libexec/dubnium/dubniumd\n"), path)
	require.True(t, found)
	assert.EqualValues(t, 0x400000, first)
	assert.EqualValues(t, 0x6ea000, last)
	for _, line := range []string{
		"009fc000-00a13000 rw-p 005fc000 fe:01 1234                       /usr/libexec/dubnium/dubniumd\n",
		"00a13000-02a4a000 ---p 005fc000 fe:01 1234                       /usr/libexec/dubnium/dubniumd\n",
		"7f41ef5d0000-7f41ef900000 r--p 00000000 fe:01 77                 /usr/lib/libc.so.6\n",
		"2fd9b2800000-2fd9b3000000 r--p 00000000 00:00 0 \n",
		"\n",
	} {
		_, _, found := readOnly([]byte(line), path)
		assert.False(t, found, line)
	}
}

// It goes on as it was: no page of what has been computed is lost.
func TestWhatIsGivenBackIsReadAgain(t *testing.T) {
	before, err := dubniumd(t, "--help")
	require.NoError(t, err)
	require.NoError(t, giveBack())
	after, err := dubniumd(t, "--help")
	require.NoError(t, err)
	assert.Equal(t, before, after)
}
