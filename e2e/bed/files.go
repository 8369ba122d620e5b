package bed

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dubnium/dubnium/e2e/internal/wire"
)

// Put writes a file in the guest, whole or not at all, with missing directories. It belongs to root.
func (v *VM) Put(ctx context.Context, body io.Reader, remote string, mode fs.FileMode) error {
	req := wire.Request{Put: &wire.Put{Path: remote, Mode: uint32(mode.Perm())}}
	if err := v.push(ctx, req, body); err != nil {
		return fmt.Errorf("cannot put %s into the guest: %w", remote, err)
	}
	return nil
}

// PutTree lays a directory's contents over the guest's root directory. All becomes root's; modes are kept, but not
// those of directories that exist already.
func (v *VM) PutTree(ctx context.Context, dir string) error {
	r, w := io.Pipe()
	go func() { w.CloseWithError(pack(w, dir)) }()
	defer r.Close()
	err := v.push(ctx, wire.Request{Untar: &wire.Untar{Dir: "/"}}, r)
	if err != nil {
		return fmt.Errorf("cannot put the tree %s into the guest: %w", dir, err)
	}
	return nil
}

func (v *VM) push(ctx context.Context, req wire.Request, body io.Reader) error {
	s, err := v.agent.Open(ctx, req, nil)
	if err != nil {
		return err
	}
	if err := s.Send(ctx, body); err != nil {
		return errors.Join(err, s.Cancel(ctx))
	}
	_, err = s.Wait(ctx)
	return err
}

// Get reads a file of the guest.
func (v *VM) Get(ctx context.Context, remote string) ([]byte, error) {
	var body bytes.Buffer
	s, err := v.agent.Open(ctx, wire.Request{Get: &wire.Get{Path: remote}}, func(f wire.Frame) { body.Write(f.Body) })
	if err != nil {
		return nil, err
	}
	if _, err := s.Wait(ctx); err != nil {
		return nil, err
	}
	return body.Bytes(), nil
}

// pack writes the directory as a tar archive. It is not compressed: the link is several times faster than unpacking under
// emulation.
func pack(w io.Writer, dir string) error {
	tw := tar.NewWriter(w)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		return packOne(tw, dir, path, d)
	})
	return errors.Join(err, tw.Close())
}

func packOne(tw *tar.Writer, dir, path string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	var link string
	if d.Type() == fs.ModeSymlink {
		if link, err = os.Readlink(path); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	if h.Name, err = filepath.Rel(dir, path); err != nil {
		return err
	}
	h.Uid, h.Gid, h.Uname, h.Gname = 0, 0, "root", "root"
	if err := tw.WriteHeader(h); err != nil || !d.Type().IsRegular() {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(tw, f)
	return err
}
