// Package atomicfile replaces files atomically: a reader, and the disk after a loss of
// power, has either the old content or the new one.
//
// The libraries for this (renameio, natefinch/atomic) sync the file but not its directory,
// and the journal requires that the rename is on disk before the host is changed.
package atomicfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dubnium/dubnium/internal/fault"
)

// Write replaces the file at path with data. If it returns nil, the content and the name
// are on disk. After an error the file has the old content or the new one.
func Write(path string, data []byte, mode fs.FileMode) (err error) {
	defer wrap(&err, "write", path)
	if err := at(path, "save"); err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = temp.Write(data)
	err = errors.Join(err, temp.Chmod(mode), temp.Sync(), temp.Close())
	if err == nil {
		err = at(path, "rename")
	}
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	return errors.Join(at(path, "saved"), SyncDir(filepath.Dir(path)))
}

// at is a fault point.
func at(path, what string) error { return fault.At(context.Background(), path, what) }

// Remove removes the file at path. If it returns nil, that is on disk. A missing file is
// not an error.
func Remove(path string) (err error) {
	defer wrap(&err, "remove", path)
	if err := at(path, "remove"); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return errors.Join(at(path, "removed"), SyncDir(filepath.Dir(path)))
}

// SyncDir syncs the directory at path, so that its names are on disk.
func SyncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func wrap(err *error, verb, path string) {
	if *err != nil {
		*err = fmt.Errorf("cannot %s %s: %w", verb, path, *err)
	}
}
