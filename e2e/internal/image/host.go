package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// tools are the host's programs that the bed runs, and the Debian packages that bring them.
var tools = map[string]string{
	"qemu-system-x86_64": "qemu-system-x86",
	"qemu-img":           "qemu-utils",
	"mmdebstrap":         "mmdebstrap",
	"mkfs.ext4":          "e2fsprogs",
	"xz":                 "xz-utils",
	"tar":                "tar",
	"gcc":                "gcc libc6-dev", // for the programs under test that need cgo
}

// Require sees to it that the tools are there: root on Debian installs what is missing, everybody else gets one error
// that names it all. Never does a missing tool mean that tests are skipped.
func Require(ctx context.Context, say func(string, ...any)) error {
	missing := missingTools(onPath)
	if len(missing) == 0 {
		return nil
	}
	var packages []string
	for _, tool := range missing {
		packages = append(packages, strings.Fields(tools[tool])...)
	}
	if _, err := exec.LookPath("apt-get"); err != nil || os.Geteuid() != 0 {
		return fmt.Errorf("the test bed needs %s: install the packages %s (on Debian: apt-get install %s)",
			strings.Join(missing, ", "), strings.Join(packages, ", "), strings.Join(packages, " "))
	}
	say("installing %s", strings.Join(packages, ", "))
	if err := run(ctx, "apt-get", "update"); err != nil {
		return err
	}
	args := []string{"-o", "DPkg::Lock::Timeout=120", "install", "--yes", "--no-install-recommends"}
	if err := run(ctx, "apt-get", append(args, packages...)...); err != nil {
		return err
	}
	if missing := missingTools(onPath); len(missing) > 0 {
		return fmt.Errorf("the test bed still lacks %s after installing %s",
			strings.Join(missing, ", "), strings.Join(packages, ", "))
	}
	return nil
}

// onPath also looks where ordinary users of Debian do not.
func onPath(tool string) bool {
	if _, err := exec.LookPath(tool); err == nil {
		return true
	}
	_, err := os.Stat(filepath.Join("/usr/sbin", tool))
	return err == nil
}

func missingTools(have func(string) bool) []string {
	var missing []string
	for tool := range tools {
		if !have(tool) {
			missing = append(missing, tool)
		}
	}
	slices.Sort(missing)
	return missing
}

const module = "github.com/dubnium/dubnium"

// goBuild builds one of our guest programs. It is static and the same for everybody who has the same sources.
func goBuild(dir, name string) ([]byte, error) {
	root, err := SourceRoot()
	if err != nil {
		return nil, err
	}
	target := filepath.Join(dir, name)
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", target, module+"/e2e/"+name)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("cannot build e2e/%s: %w\n%s", name, err, out)
	}
	body, err := os.ReadFile(target)
	if err != nil {
		return nil, fmt.Errorf("cannot build e2e/%s: %w", name, err)
	}
	return body, nil
}

// SourceRoot is the folder of the module that we are run from.
func SourceRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("cannot find the sources: %w", err)
	}
	for {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.Contains(string(text), "module "+module+"\n") {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("cannot find the sources: run this inside a checkout of " + module)
		}
		dir = filepath.Dir(dir)
	}
}
