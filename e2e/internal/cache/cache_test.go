package cache

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func open(t *testing.T) *Dir {
	t.Setenv("E2E_CACHE", t.TempDir())
	d, err := Open()
	require.NoError(t, err)
	return d
}

func write(name string) func(dir string) error {
	return func(dir string) error { return os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o644) }
}

func TestKeysDifferWhenAnythingDiffers(t *testing.T) {
	keys := map[string]bool{}
	for _, parts := range [][]any{{"a", "b"}, {"ab"}, {"a"}, {[]string{"a", "b"}}, {"a", "b", 1}, {}} {
		key, err := Key(parts...)
		require.NoError(t, err)
		assert.Len(t, key, 16)
		keys[key] = true
	}
	assert.Len(t, keys, 6)
	again, err := Key("a", "b")
	require.NoError(t, err)
	assert.True(t, keys[again])
}

func TestAnEntryIsThereWholeOrNotAtAll(t *testing.T) {
	d, e := open(t), Entry{Kind: "state-x", Key: "1"}
	_, err := d.Make(e, func(dir string) error {
		require.NoError(t, write("half")(dir))
		return errors.New("no luck")
	})
	assert.ErrorContains(t, err, "no luck")
	_, ok := d.Find(e)
	assert.False(t, ok)
	entries, err := os.ReadDir(d.Path())
	require.NoError(t, err)
	assert.Empty(t, entries, "nothing is left behind")

	path, err := d.Make(e, write("whole"))
	require.NoError(t, err)
	found, ok := d.Find(e)
	assert.True(t, ok)
	assert.Equal(t, path, found)
	assert.FileExists(t, filepath.Join(found, "whole"))

	_, err = d.Make(e, write("again"))
	require.NoError(t, err)
	assert.NoFileExists(t, filepath.Join(found, "whole"), "a new entry takes the place of the old one")
}

func TestTheEntriesUsedLastAreKept(t *testing.T) {
	d := open(t)
	entry := func(key string) Entry { return Entry{Kind: "state-x", Key: key} }
	for i, key := range []string{"1", "2", "3"} {
		path, err := d.Make(entry(key), write("f"))
		require.NoError(t, err)
		old := time.Now().Add(time.Duration(i-10) * time.Hour)
		require.NoError(t, os.Chtimes(path, old, old))
	}
	_, err := d.Make(Entry{Kind: "state-y", Key: "0"}, write("f"))
	require.NoError(t, err)
	_, ok := d.Find(entry("1")) // used again: now the more recent one
	require.True(t, ok)
	leftover := filepath.Join(d.Path(), "tmp-state-x-9-killed")
	require.NoError(t, os.Mkdir(leftover, 0o700))

	_, err = d.Make(entry("4"), write("f"))
	require.NoError(t, err)
	for key, want := range map[string]bool{"1": true, "2": false, "3": true, "4": true} {
		_, ok := d.Find(entry(key))
		assert.Equal(t, want, ok, key)
	}
	assert.NoDirExists(t, leftover)
	_, ok = d.Find(Entry{Kind: "state-y", Key: "0"})
	assert.True(t, ok, "another kind is not touched")
}

func TestALockHasOneHolder(t *testing.T) {
	d := open(t)
	nobody := func(string) { t.Error("nobody holds it") }
	unlock, err := d.Lock(t.Context(), "machine", nobody)
	require.NoError(t, err)
	other, err := d.Lock(t.Context(), "image", nobody)
	require.NoError(t, err)
	other()

	ctx, cancel := context.WithCancel(t.Context())
	_, err = d.Lock(ctx, "machine", func(string) { cancel() })
	assert.ErrorIs(t, err, context.Canceled)

	next := make(chan func())
	waiting := make(chan string, 1)
	go func() {
		unlock, err := d.Lock(t.Context(), "machine", func(holder string) { waiting <- holder })
		assert.NoError(t, err)
		next <- unlock
	}()
	assert.NotEmpty(t, <-waiting)
	unlock()
	(<-next)()
}

func TestPruneLeavesTheLocks(t *testing.T) {
	d := open(t)
	unlock, err := d.Lock(t.Context(), "machine", func(string) {})
	require.NoError(t, err)
	defer unlock()
	_, err = d.Make(Entry{Kind: "x", Key: "1"}, write("f"))
	require.NoError(t, err)
	_, err = d.RunDir()
	require.NoError(t, err)
	require.NoError(t, d.Prune())
	entries, err := os.ReadDir(d.Path())
	require.NoError(t, err)
	require.Len(t, entries, 1)
	assert.Equal(t, "machine.lock", entries[0].Name())
}
