// Package stage makes what is laid over a machine of the test bed to try Dubnium
// on it: what `make install` installs, a policy, and a stand-in for vLLM.
package stage

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/dubnium/dubnium/e2e/bed"
)

//go:embed policy.toml
var policy []byte

//go:embed vllm.service
var vllm []byte

// Tree builds the tree in a new directory, which the caller removes.
func Tree(ctx context.Context) (dir string, err error) {
	root, err := run(ctx, "go", "list", "-m", "-f", "{{.Dir}}")
	if err != nil {
		return "", err
	}
	dir, err = os.MkdirTemp("", "dubnium-stage")
	if err != nil {
		return "", fmt.Errorf("cannot make a staging tree: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	standin := filepath.Join(dir, "usr/local/bin/vllm-standin")
	if _, err := run(ctx, "make", "-s", "-C", root, "install", "DESTDIR="+dir); err != nil {
		return "", err
	}
	if _, err := run(
		ctx, "go", "build", "-o", standin, "github.com/dubnium/dubnium/internal/vllmstandin/cmd/vllm-standin",
	); err != nil {
		return "", err
	}
	return dir, errors.Join(
		write(dir, "etc/dubnium/policy.toml", policy),
		write(dir, "etc/systemd/system/vllm.service", vllm))
}

func write(dir, path string, data []byte) error {
	path = filepath.Join(dir, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

func run(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("cannot run %s %s: %w\n%s", name, strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(string(out)), nil
}

// Install lays the tree over a machine, with everything enabled and nothing
// started.
func Install(ctx context.Context, vm *bed.VM, tree string) error {
	if err := vm.PutTree(ctx, tree); err != nil {
		return err
	}
	_, err := vm.Must(ctx, bed.Script(`set -e
		systemctl daemon-reload
		systemd-tmpfiles --create dubnium.conf
		systemctl reload dbus
		systemctl enable -q dubniumd.service dubnium-probe-holders.socket dubnium-probe-inference.socket vllm.service`))
	return err
}

// Serve starts the daemon and returns when it observes the desktop, and compute would
// be let pass: to read all units for the first time takes an emulated machine seconds,
// which each test would spend again.
func Serve(ctx context.Context, vm *bed.VM) error {
	if _, err := vm.Must(ctx, bed.Script("systemctl start dubniumd.service")); err != nil {
		return err
	}
	return vm.WaitFor(ctx, "the desktop to be observed",
		`[ "$(cat /run/mode-controller/current)" = desktop ] && [ ! -e /run/mode-controller/reconcile.pid ] &&
			modectl guards compute >/dev/null`)
}

// Hash is one for all files of a tree: a machine that was prepared with the tree
// can be used again while it stays the same.
func Hash(tree string) (string, error) {
	all := sha256.New()
	err := filepath.WalkDir(tree, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		read := os.ReadFile
		if entry.Type() == fs.ModeSymlink { // it may lead to nothing here
			read = func(path string) ([]byte, error) { to, err := os.Readlink(path); return []byte(to), err }
		}
		data, err := read(path)
		fmt.Fprintf(all, "%s %d\n", strings.TrimPrefix(path, tree), len(data))
		all.Write(data)
		return err
	})
	return hex.EncodeToString(all.Sum(nil)), err
}
