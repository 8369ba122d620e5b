package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// extract writes the kernel from the packages' layer, and an initial RAM disk for it, into dir.
func extract(ctx context.Context, rootfs, dir string, init []byte) error {
	kernel, deps, err := readKernel(rootfs)
	if err != nil {
		return err
	}
	order := loadOrder(deps, bootModules)
	found, err := readModules(rootfs, order)
	if err != nil {
		return err
	}
	modules := make([][]byte, len(order))
	for i, file := range order {
		if modules[i], err = decompress(ctx, file, found[file]); err != nil {
			return err
		}
	}
	f, err := os.Create(filepath.Join(dir, initrdName))
	if err != nil {
		return fmt.Errorf("cannot write the initial RAM disk: %w", err)
	}
	if err := errors.Join(cpio(f, initrd(init, modules)), f.Close()); err != nil {
		return fmt.Errorf("cannot write the initial RAM disk: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, kernelName), kernel, 0o644); err != nil {
		return fmt.Errorf("cannot write the kernel: %w", err)
	}
	return nil
}

func readKernel(rootfs string) (kernel []byte, deps string, err error) {
	err = eachFile(rootfs, func(name string, body io.Reader) error {
		switch {
		case strings.HasPrefix(name, "boot/vmlinuz-"):
			kernel, err = io.ReadAll(body)
		case strings.HasSuffix(name, "/modules.dep"):
			var text []byte
			text, err = io.ReadAll(body)
			deps = string(text)
		}
		return err
	})
	if err == nil && (kernel == nil || deps == "") {
		err = fmt.Errorf("cannot find a kernel and its modules in %s", rootfs)
	}
	return kernel, deps, err
}

// readModules reads the files, named as in modules.dep.
func readModules(rootfs string, wanted []string) (map[string][]byte, error) {
	found := map[string][]byte{}
	err := eachFile(rootfs, func(name string, body io.Reader) error {
		_, file, ok := strings.Cut(name, "/kernel/")
		if file = "kernel/" + file; !ok || !slices.Contains(wanted, file) {
			return nil
		}
		var err error
		found[file], err = io.ReadAll(body)
		return err
	})
	if err == nil && len(found) != len(wanted) {
		err = fmt.Errorf("cannot find all of the modules %v in %s", wanted, rootfs)
	}
	return found, err
}

// eachFile visits the regular files of a tar archive by names without a leading "./".
func eachFile(archive string, visit func(name string, body io.Reader) error) error {
	f, err := os.Open(archive)
	if err != nil {
		return fmt.Errorf("cannot read the packages' layer: %w", err)
	}
	defer f.Close()
	tr := tar.NewReader(f)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil && h.Typeflag == tar.TypeReg {
			err = visit(strings.TrimPrefix(h.Name, "./"), tr)
		}
		if err != nil {
			return fmt.Errorf("cannot read the packages' layer: %w", err)
		}
	}
}
