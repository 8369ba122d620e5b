package bed

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/e2e/internal/guest"
	"github.com/dubnium/dubnium/e2e/internal/wire"
)

func TestTheFlavourIsSwayUnlessNamed(t *testing.T) {
	for name, want := range map[string]string{"": "sway", "sway": "sway", "hyprland": "hyprland"} {
		t.Setenv("E2E_FLAVOUR", name)
		f, err := FlavourFromEnv()
		require.NoError(t, err)
		assert.Equal(t, want, f.Name)
	}
	t.Setenv("E2E_FLAVOUR", "kde")
	_, err := FlavourFromEnv()
	assert.ErrorContains(t, err, `unknown E2E_FLAVOUR "kde"`)
}

func TestArtifactsLieUnderTheTestsName(t *testing.T) {
	t.Setenv("E2E_ARTIFACTS", "/somewhere")
	for test, want := range map[string]string{
		"TestOne":         "/somewhere/TestOne",
		"TestOne/sub_one": "/somewhere/TestOne/sub_one",
		`TestOne/a:b|c`:   "/somewhere/TestOne/a_b_c",
		"TestOne/../..":   "/somewhere/TestOne/_/_",
	} {
		dir, err := artifactsDir(test)
		require.NoError(t, err)
		assert.Equal(t, want, dir)
	}
}

func TestATreeIsPackedAsRoots(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "usr/bin"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "usr/bin/tool"), []byte("x"), 0o755))
	require.NoError(t, os.Symlink("tool", filepath.Join(dir, "usr/bin/link")))
	var buf bytes.Buffer
	require.NoError(t, pack(&buf, dir))
	var names []string
	for tr := tar.NewReader(&buf); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		assert.Zero(t, h.Uid+h.Gid, h.Name)
		names = append(names, h.Name)
	}
	assert.Equal(t, []string{"usr", "usr/bin", "usr/bin/link", "usr/bin/tool"}, names)
	assert.Error(t, pack(io.Discard, filepath.Join(dir, "nothing")))
}

func TestAWatchHandsSignalsOutInOrder(t *testing.T) {
	w := &Watch{changed: make(chan struct{}), stream: &guest.Stream{}}
	var lines bytes.Buffer
	for i, member := range []string{"A", "B", "A", "C"} {
		require.NoError(t, json.NewEncoder(&lines).Encode(Signal{Member: member, Args: []any{i}}))
	}
	text := lines.Bytes()
	w.take(wire.Frame{Body: text[:30]}) // frames do not end where lines do
	time.AfterFunc(10*time.Millisecond, func() { w.take(wire.Frame{Body: text[30:]}) })

	for _, want := range []struct{ member, arg string }{{"A", "0"}, {"A", "2"}, {"C", "3"}} {
		s, err := w.Await(t.Context(), Member(want.member))
		require.NoError(t, err)
		assert.Equal(t, json.Number(want.arg), s.Args[0])
	}
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err := w.Await(short, Member("B"))
	assert.ErrorIs(t, err, context.DeadlineExceeded, "B was passed over")
	assert.ErrorContains(t, err, "[A B A C]")
	assert.Len(t, w.Seen(), 4)
}
