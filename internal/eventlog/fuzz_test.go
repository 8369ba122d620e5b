package eventlog_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/eventlog"
)

// linesOf reads a file in the plain way: the lines that have an end and are not too
// long, the latest first.
func linesOf(content []byte) (lines []string) {
	for line := range bytes.Lines(content) {
		if bytes.HasSuffix(line, []byte("\n")) && len(line) <= eventlog.MaxLine {
			lines = append(lines, strings.TrimSuffix(string(line), "\n"))
		}
	}
	slices.Reverse(lines)
	return lines
}

// FuzzBackward: whatever is in the files, each line is read once and as it is, and a
// line that is added is read before all of them.
func FuzzBackward(f *testing.F) {
	f.Add([]byte("one\ntwo\n"), []byte("older\n"), 1)
	f.Add([]byte("one\ntorn"), []byte("also torn"), 1)
	f.Add([]byte("\n\n\x00\xff\n"), []byte{}, 1)
	f.Add([]byte("around the size that is read at once\n"), []byte("x\n"), 2000)
	f.Add(append(bytes.Repeat([]byte("x"), 200_000), "\nlong\n"...), []byte("x\n"), 6)
	f.Fuzz(func(t *testing.T, now, older []byte, times int) {
		now = bytes.Repeat(now, min(max(times, 1), 1+2*eventlog.MaxLine/(1+len(now))))
		path := filepath.Join(t.TempDir(), "events")
		require.NoError(t, os.WriteFile(path, now, 0o600))
		require.NoError(t, os.WriteFile(path+".1", older, 0o600))
		log, cut := eventlog.Open(
			path, eventlog.Limits{MaxBytes: 64 << 20, Keep: 2}, func(int) []byte { return []byte("lost") },
		)
		whole := now[:bytes.LastIndexByte(now, '\n')+1]
		require.Equal(t, len(now)-len(whole), cut)
		require.NoError(t, log.Append([]byte("added"), true))
		want := append([]string{"added"}, append(linesOf(whole), linesOf(older)...)...)
		var got []string
		require.NoError(t, log.Backward(func(text []byte) bool {
			got = append(got, string(text))
			return true
		}))
		require.True(t, slices.Equal(want, got), "%d lines instead of %d", len(got), len(want))
	})
}
