package cache

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// lockFile takes an flock: it ends with its holder, however that ends. The file holds the holder's pid, for people.
func lockFile(ctx context.Context, path string, waiting func(holder string)) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cannot open the lock: %w", err)
	}
	fd := int(f.Fd())
	if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) != nil {
		holder, _ := os.ReadFile(path) // a courtesy
		waiting(strings.TrimSpace(string(holder)))
		taken := make(chan error, 1)
		go func() { taken <- flock(fd) }()
		select {
		case err := <-taken:
			if err != nil {
				f.Close()
				return nil, fmt.Errorf("cannot take the lock %s: %w", path, err)
			}
		case <-ctx.Done():
			// The blocked call cannot be interrupted; when it succeeds after all, nobody wants the lock any more.
			go func() { <-taken; f.Close() }()
			return nil, fmt.Errorf("cannot take the lock %s: %w", path, ctx.Err())
		}
	}
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return func() { f.Close() }, nil
}

func flock(fd int) error {
	for {
		if err := unix.Flock(fd, unix.LOCK_EX); err != unix.EINTR {
			return err
		}
	}
}

// stale picks what is over the number of generations, the least recently used first. The entry just made counts too.
func stale(older []fs.FileInfo) map[string]bool {
	slices.SortFunc(
		older, func(a, b fs.FileInfo) int { return cmp.Compare(b.ModTime().UnixNano(), a.ModTime().UnixNano()) },
	)
	doomed := map[string]bool{}
	for i, info := range older {
		if i >= generations-1 {
			doomed[info.Name()] = true
		}
	}
	return doomed
}
