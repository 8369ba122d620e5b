package image

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/dubnium/dubnium/e2e/internal/cache"
)

//go:embed build.sh
var buildScript string

const (
	diskName   = "disk.raw"
	kernelName = "vmlinuz"
	initrdName = "initrd"
)

// Image is what a machine boots from. None of the files may be written to.
type Image struct {
	Entry                cache.Entry
	Packages             cache.Entry // the layer that the kernel comes from
	Disk, Kernel, Initrd string
}

// Ensure returns the recipe's image and makes it first when the cache has none. Call it with the recipe's lock held.
// say reports what takes long.
func Ensure(ctx context.Context, dir *cache.Dir, r Recipe, say func(string, ...any)) (Image, error) {
	programs, err := guestPrograms()
	if err != nil {
		return Image{}, err
	}
	list, err := overlay(r, programs.agent)
	if err != nil {
		return Image{}, err
	}
	rootfs, err := r.rootfsEntry()
	if err != nil {
		return Image{}, err
	}
	key, err := cache.Key(rootfs.Key, list, programs.init, bootModules, buildScript)
	if err != nil {
		return Image{}, err
	}
	entry := cache.Entry{Kind: "image-" + r.Name, Key: key}
	path, ok := dir.Find(entry)
	if !ok {
		path, err = build(ctx, dir, r, rootfs, entry, list, programs.init, say)
	}
	return Image{
		Entry: entry, Packages: rootfs,
		Disk: filepath.Join(path, diskName), Kernel: filepath.Join(path, kernelName), Initrd: filepath.Join(path, initrdName),
	}, err
}

func build(
	ctx context.Context, dir *cache.Dir, r Recipe, rootfs, entry cache.Entry, list []overlayFile, init []byte,
	say func(string, ...any),
) (string, error) {
	archive, err := ensureRootfs(ctx, dir, r, rootfs, say)
	if err != nil {
		return "", err
	}
	say("making a disk image of it")
	return dir.Make(entry, func(temp string) error {
		if err := extract(ctx, archive, temp, init); err != nil {
			return err
		}
		return makeDisk(ctx, temp, archive, list)
	})
}

func makeDisk(ctx context.Context, temp, rootfs string, list []overlayFile) error {
	archive := filepath.Join(temp, "overlay.tar")
	f, err := os.Create(archive)
	if err != nil {
		return fmt.Errorf("cannot pack our files: %w", err)
	}
	if err := errors.Join(writeOverlay(f, list), f.Close()); err != nil {
		return fmt.Errorf("cannot pack our files: %w", err)
	}
	args := []string{"sh", "-c", buildScript, "build.sh", temp, rootfs, archive, filepath.Join(temp, diskName)}
	if os.Geteuid() != 0 {
		args = append([]string{"unshare", "--user", "--map-root-user", "--map-auto"}, args...)
	}
	if err := run(ctx, args[0], args[1:]...); err != nil {
		return err
	}
	return os.Remove(archive)
}

// programs are the two programs of ours inside the machine.
type programs struct{ agent, init []byte }

// guestPrograms builds them once a process. The builds are reproducible, so that they can be part of a key.
var guestPrograms = sync.OnceValues(func() (programs, error) {
	temp, err := os.MkdirTemp("", "bed-programs-*")
	if err != nil {
		return programs{}, fmt.Errorf("cannot build the programs of the machine: %w", err)
	}
	defer os.RemoveAll(temp)
	agent, agentErr := goBuild(temp, "agent")
	init, initErr := goBuild(temp, "initramfs")
	return programs{agent: agent, init: init}, errors.Join(agentErr, initErr)
})
