package image

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/dubnium/dubnium/e2e/internal/cache"
)

const rootfsTar = "rootfs.tar"

// ensureRootfs returns the archive with the packages' layer.
func ensureRootfs(
	ctx context.Context, dir *cache.Dir, r Recipe, entry cache.Entry, say func(string, ...any),
) (string, error) {
	if path, ok := dir.Find(entry); ok {
		return filepath.Join(path, rootfsTar), nil
	}
	say("installing Debian %s with the packages of a workstation (minutes, once)", r.Suite)
	path, err := dir.Make(entry, func(temp string) error {
		args := mmdebstrapArgs(r, filepath.Join(temp, rootfsTar), mirror(ctx))
		err := run(ctx, "mmdebstrap", args...)
		if err != nil && strings.Contains(err.Error(), "NO_PUBKEY") {
			return fmt.Errorf("the keys of Debian %s are unknown here, upgrade debian-archive-keyring: %w", r.Suite, err)
		}
		return err
	})
	return filepath.Join(path, rootfsTar), err
}

// mmdebstrapArgs are the arguments for a target archive; without a mirror mmdebstrap takes Debian's own.
func mmdebstrapArgs(r Recipe, target, mirror string) []string {
	args := []string{
		"--variant=minbase", "--quiet",
		"--aptopt=APT::Install-Recommends \"false\"",
		"--dpkgopt=path-exclude=/usr/share/doc/*",
		"--dpkgopt=path-exclude=/usr/share/man/*",
		"--dpkgopt=path-exclude=/usr/share/locale/*",
		"--dpkgopt=force-unsafe-io",
		"--include=" + strings.Join(r.Packages, ","),
		"--customize-hook=chroot \"$1\" /bin/sh -euc '" + strings.ReplaceAll(setup, "'", `'\''`) + "'",
	}
	if r.Expired {
		args = append(args, "--aptopt=Acquire::Check-Valid-Until \"false\"")
	}
	args = append(args, r.Suite, target)
	if mirror != "" {
		args = append(args, mirror)
	}
	return args
}

// mirror is where this host gets its own Debian packages from, or nothing when it has none.
func mirror(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format",
		"$(ORIGIN)|$(LABEL)|$(REPO_URI)", "Created-By: Packages").Output()
	if err != nil {
		return "" // no Debian
	}
	return pickMirror(string(out))
}

func pickMirror(targets string) string {
	for line := range strings.Lines(targets) {
		if uri, ok := strings.CutPrefix(strings.TrimSpace(line), "Debian|Debian|"); ok {
			return strings.TrimSuffix(uri, "/")
		}
	}
	return ""
}

// run runs a command whose output matters only when it fails.
func run(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("cannot run %s: %w\n%s", name, err, tail(string(out), 40))
	}
	return nil
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
