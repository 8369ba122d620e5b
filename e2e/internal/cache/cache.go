// Package cache keeps what is slow to make - root file systems, disk images, saved machine states - in the user's cache
// directory, under names that contain a hash of all that went into them.
//
// An entry is a directory. It is made under a temporary name and renamed into place, so that an entry which exists is
// complete, whoever died while making it. Named locks keep processes from making the same thing twice, and from running
// two machines at once; they end with their holders.
package cache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Dir is the cache directory.
type Dir struct {
	path string
}

const (
	tempPrefix = "tmp-"
	runName    = "run"
	// generations is how many entries of one kind are kept: two checkouts may take turns.
	generations = 3
)

// Open returns the cache directory of the user, or the one that E2E_CACHE names.
func Open() (*Dir, error) {
	path := os.Getenv("E2E_CACHE")
	if path == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("cannot find the cache directory: %w", err)
		}
		path = filepath.Join(base, "dubnium", "e2e")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("cannot find the cache directory: %w", err)
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return nil, fmt.Errorf("cannot make the cache directory: %w", err)
	}
	return &Dir{path: path}, nil
}

// Path is where the cache lies.
func (d *Dir) Path() string { return d.path }

// Key returns a short hash of the parts, which must marshal as JSON.
func Key(parts ...any) (string, error) {
	h := sha256.New()
	if err := json.NewEncoder(h).Encode(parts); err != nil {
		return "", fmt.Errorf("cannot make a cache key: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}

// Entry names something in the cache. Entries of one Kind replace one another.
type Entry struct {
	Kind string // "state-sway"
	Key  string
}

func (e Entry) String() string { return e.Kind + "-" + e.Key }

// Find returns the entry's directory when it exists, and marks it as used.
func (d *Dir) Find(e Entry) (path string, ok bool) {
	path = filepath.Join(d.path, e.String())
	now := time.Now()
	return path, os.Chtimes(path, now, now) == nil
}

// Make has build fill a directory and publishes it as the entry, in place of one that is there already. Older entries
// of the kind are pruned. Call it with a lock held that makers of the kind share.
func (d *Dir) Make(e Entry, build func(dir string) error) (path string, err error) {
	path = filepath.Join(d.path, e.String())
	temp, err := os.MkdirTemp(d.path, tempPrefix+e.String()+"-*")
	if err != nil {
		return "", fmt.Errorf("cannot make %s: %w", e, err)
	}
	defer os.RemoveAll(temp) // after the rename there is nothing left to remove
	if err := build(temp); err != nil {
		return "", fmt.Errorf("cannot make %s: %w", e, err)
	}
	if err := errors.Join(os.Chmod(temp, 0o755), os.RemoveAll(path), os.Rename(temp, path)); err != nil {
		return "", fmt.Errorf("cannot publish %s: %w", e, err)
	}
	return path, d.pruneKind(e)
}

// Drop removes an entry that turned out to be useless. Call it with the lock of its kind held.
func (d *Dir) Drop(e Entry) error {
	if err := os.RemoveAll(filepath.Join(d.path, e.String())); err != nil {
		return fmt.Errorf("cannot remove %s: %w", e, err)
	}
	return nil
}

// RunDir returns an empty directory for the holder of the machine's lock: what lies there belongs to nobody who lives.
func (d *Dir) RunDir() (string, error) {
	path := filepath.Join(d.path, runName)
	if err := errors.Join(os.RemoveAll(path), os.Mkdir(path, 0o700)); err != nil {
		return "", fmt.Errorf("cannot make a directory for the machine: %w", err)
	}
	return path, nil
}

// Prune removes every entry and leftover but the locks. Call it with all locks held.
func (d *Dir) Prune() error {
	return d.remove(func(entry fs.DirEntry) bool { return entry.IsDir() })
}

// pruneKind removes what others have left half made, and the kind's entries that were not used for longest.
func (d *Dir) pruneKind(e Entry) error {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return fmt.Errorf("cannot prune the cache: %w", err)
	}
	var older []fs.FileInfo
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), e.Kind+"-") && entry.Name() != e.String() {
			info, err := entry.Info()
			if err != nil {
				return fmt.Errorf("cannot prune the cache: %w", err)
			}
			older = append(older, info)
		}
	}
	doomed := stale(older)
	return d.remove(func(entry fs.DirEntry) bool {
		return strings.HasPrefix(entry.Name(), tempPrefix+e.Kind+"-") || doomed[entry.Name()]
	})
}

func (d *Dir) remove(which func(fs.DirEntry) bool) error {
	entries, err := os.ReadDir(d.path)
	for _, entry := range entries {
		if which(entry) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(d.path, entry.Name())))
		}
	}
	if err != nil {
		return fmt.Errorf("cannot prune the cache: %w", err)
	}
	return nil
}

// Lock waits for the lock of that name. It calls waiting, once, when somebody else holds it.
func (d *Dir) Lock(ctx context.Context, name string, waiting func(holder string)) (unlock func(), err error) {
	return lockFile(ctx, filepath.Join(d.path, name+".lock"), waiting)
}
