// Package fakenvml builds a stand-in for the NVIDIA driver's libnvidia-ml.so.1,
// so that tests run the real go-nvml on machines without a GPU. What it says is
// in a file, which lib/nvml.c describes, and may change from look to look.
package fakenvml

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Variable is the environment variable that names the file with what it says.
const Variable = "DUBNIUM_FAKE_NVML"

// Name is what the driver calls its library.
const Name = "libnvidia-ml.so.1"

//go:embed lib/nvml.c
var source []byte

// Build compiles the library into dir, without the symbols named, and returns its
// path.
func Build(ctx context.Context, dir string, without ...string) (string, error) {
	code, library := filepath.Join(dir, "nvml.c"), filepath.Join(dir, Name)
	if err := os.WriteFile(code, source, 0o644); err != nil {
		return "", fmt.Errorf("cannot build the stand-in for NVML: %w", err)
	}
	args := []string{
		"-std=gnu11", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function", "-shared", "-fPIC", "-o", library, code,
	}
	for _, symbol := range without {
		args = append(args, "-DWITHOUT_"+symbol)
	}
	if out, err := exec.CommandContext(ctx, "gcc", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("cannot build the stand-in for NVML, which needs gcc: %w\n%s", err, out)
	}
	return library, nil
}
