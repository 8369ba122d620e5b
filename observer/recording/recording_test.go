package recording

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// TestReplayCorpus: every moment of every recording is what
// it was when it was recorded. A change of the rules that is meant is made by
// recording again (UPDATE_GOLDEN=1 go test ./internal/embedded).
func TestReplayCorpus(t *testing.T) {
	files, err := filepath.Glob("../testdata/recordings/*.jsonl")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(files), 2)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			f, err := os.Open(file)
			require.NoError(t, err)
			defer f.Close()
			h, entries, cut, err := Read(f)
			require.NoError(t, err)
			require.False(t, cut)
			require.Greater(t, len(entries), 3)
			p, err := policy.Parse(file, []byte(h.Policy))
			require.NoError(t, err)
			assert.Empty(t, Replay(p, entries))
		})
	}
}

var at = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// entry is a desktop with or without somebody to use it.
func entry(p policy.Policy, display string) Entry {
	known := observer.Reading{At: at}
	u := func(state string) observer.Unit { return observer.Unit{LoadState: "loaded", ActiveState: state} }
	s := observer.Snapshot{
		Systemd: observer.Systemd{Reading: known, State: "running", Units: map[string]observer.Unit{
			p.Units.DesktopTarget: u("active"), p.Units.ComputeTarget: u("inactive"), p.Units.DisplayManager: u(display),
			"vllm.service": u("inactive"), p.Units.StudioPolicy: u("inactive"), p.Units.AudioPriority: u("inactive"),
		}},
		Logind: observer.Logind{Reading: known}, Processes: observer.ProcessScan{Reading: known},
	}
	return NewEntry(observer.Classify(p, s, observer.Context{Desired: policy.Desktop}, at), s)
}

func recorded(t *testing.T, entries ...Entry) string {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, "", at)
	require.NoError(t, err)
	for _, e := range entries {
		_, err := w.Add(e)
		require.NoError(t, err)
	}
	return b.String()
}

func TestAddOnlyChanges(t *testing.T) {
	p := policy.Default()
	up, down := entry(p, "active"), entry(p, "failed")
	again := up
	again.At = at.Add(time.Hour)
	_, entries, cut, err := Read(strings.NewReader(recorded(t, up, again, down, up)))
	require.NoError(t, err)
	require.False(t, cut)
	require.Len(t, entries, 3)
	assert.Equal(t, observer.State("degraded-desktop"), entries[1].State)
	assert.Equal(t, []string{"no-session-or-greeter"}, entries[1].Reasons)
	assert.Empty(t, Replay(p, entries))
}

func TestReplayOtherPolicy(t *testing.T) {
	p := policy.Default()
	entries := []Entry{entry(p, "active"), entry(p, "failed")}
	p.Units.DesktopTarget = "other.target"
	differences := Replay(p, entries)
	require.Len(t, differences, 2)
	assert.Equal(t, observer.State("desktop"), differences[0].Recorded.State)
	assert.Equal(t, observer.StateUnknown, differences[0].Replayed.State)
	assert.Contains(t, differences[0].Details[0].Text, "other.target has not been read")
}

func TestReadTorn(t *testing.T) {
	p := policy.Default()
	whole := recorded(t, entry(p, "active"), entry(p, "failed"))
	_, entries, cut, err := Read(strings.NewReader(whole[:len(whole)-20]))
	require.NoError(t, err)
	require.True(t, cut)
	require.Len(t, entries, 1)
	for text, complaint := range map[string]string{
		"": "it is empty", "hello\n": "not a recording of Dubnium", `{"format":"other"}`: "not a recording of Dubnium",
		`{"format":"dubnium-recording","version":2}`:                                         "it has version 2",
		strings.Replace(whole, `{"at"`, `{at`, 1):                                            "line 2",
		`{"format":"dubnium-recording","version":1}` + "\n" + strings.Repeat("x", maxLine+1): "token too long",
	} {
		_, _, _, err := Read(strings.NewReader(text))
		require.ErrorContains(t, err, complaint)
	}
}
