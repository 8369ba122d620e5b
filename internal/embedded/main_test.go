package embedded_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/dubnium/dubnium/internal/embedded"
)

// programs are built once, dubnium-gpu-probe among them.
var programs embedded.Programs

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "dubnium-programs")
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot make a directory:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	if programs, err = embedded.Build(context.Background(), dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	probe := exec.Command(
		"go", "build", "-o", filepath.Join(dir, "dubnium-gpu-probe"), "github.com/dubnium/dubnium/cmd/dubnium-gpu-probe",
	)
	probe.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := probe.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "cannot build the GPU probe, which needs gcc: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}
