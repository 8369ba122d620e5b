package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubnium/dubnium/e2e/internal/wire"
)

func setClock(now time.Time) error {
	ts := unix.NsecToTimespec(now.UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		return fmt.Errorf("cannot set the clock: %w", err)
	}
	return nil
}

func putFile(req wire.Put, body io.Reader) error {
	if err := os.MkdirAll(filepath.Dir(req.Path), 0o755); err != nil {
		return fmt.Errorf("cannot put %s: %w", req.Path, err)
	}
	if err := writeFile(req.Path, fs.FileMode(req.Mode), body); err != nil {
		return fmt.Errorf("cannot put %s: %w", req.Path, err)
	}
	return nil
}

// writeFile replaces the file by renaming, because a program that runs cannot be overwritten.
func writeFile(path string, mode fs.FileMode, body io.Reader) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".bed-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if _, err := io.Copy(f, body); err != nil {
		f.Close()
		return err
	}
	if err := errors.Join(f.Chmod(mode), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func getFile(path string, out io.Writer) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("cannot get %s: %w", path, err)
	}
	defer f.Close()
	if _, err := io.CopyBuffer(out, f, make([]byte, wire.MaxBody)); err != nil {
		return fmt.Errorf("cannot get %s: %w", path, err)
	}
	return nil
}

func untar(req wire.Untar, body io.Reader) error {
	archive := tar.NewReader(body)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("cannot unpack into %s: %w", req.Dir, err)
		}
		path := filepath.Join(req.Dir, filepath.Clean("/"+h.Name))
		if err := unpack(path, h, archive); err != nil {
			return fmt.Errorf("cannot unpack %s: %w", path, err)
		}
	}
}

// unpack keeps directories that are there already as they are: a staging tree knows nothing of the mode of /tmp.
func unpack(path string, h *tar.Header, body io.Reader) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() && h.Typeflag == tar.TypeDir {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	mode := h.FileInfo().Mode()
	switch h.Typeflag {
	case tar.TypeDir:
		if err := os.Mkdir(path, mode.Perm()); err != nil {
			return err
		}
		return errors.Join(os.Chown(path, h.Uid, h.Gid), os.Chmod(path, mode))
	case tar.TypeReg:
		if err := writeFile(path, mode, body); err != nil {
			return err
		}
		return errors.Join(os.Chown(path, h.Uid, h.Gid), os.Chmod(path, mode)) // chown drops set-id bits
	case tar.TypeSymlink:
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return os.Symlink(h.Linkname, path)
	}
	return fmt.Errorf("entries of type %q are not supported", h.Typeflag)
}
