package internal

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const module = "github.com/dubnium/dubnium/"

// allowed says who may import whom, of our own packages. docs/architecture.md
// draws the same picture.
var allowed = map[string][]string{
	"policy":               {},
	"observer":             {"policy"},
	"guards":               {"policy", "observer"},
	"plans":                {"policy", "observer"},
	"daemon/status":        {"policy", "observer", "guards"},
	"daemon":               {"policy", "observer", "guards", "plans", "daemon/status", "internal/atomicfile", "internal/eventlog", "internal/message", "internal/zap"},
	"busapi":               {"policy", "observer", "guards", "daemon/status"},
	"cmd/modectl":          {"policy", "observer", "guards", "daemon/status", "busapi", "busapi/client", "cmd/modectl/render", "internal/version", "observer/recording", "observer/calibration", "internal/doctor", "internal/doctor/gather"},
	"observer/recording":   {"policy", "observer"},
	"observer/calibration": {"policy", "observer"},
	"observer/audio":       {"policy", "observer", "internal/oneshot"},
	"observer/audio/probe": {"observer", "observer/audio", "internal/oneshot"},
	"internal/doctor":      {"policy", "observer"},
	"internal/eventlog":    {"internal/atomicfile", "internal/fault"},
	"internal/atomicfile":  {"internal/fault"},
	"internal/fault":       {},
	"internal/message":     {"daemon/status", "internal/zap"},
}

// pure packages decide; they reach no world to decide about.
var pure = []string{"policy", "observer", "observer/recording", "observer/calibration", "guards", "plans", "daemon/status", "internal/doctor"}

// worldly packages are what a pure one must not reach, even through others.
var worldly = []string{"os/exec", "net", "github.com/godbus/dbus/v5", "go.uber.org/zap"}

func goList(t *testing.T, args ...string) []string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-mod=readonly"}, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	return strings.Fields(string(out))
}

func TestImportArrows(t *testing.T) {
	for from, to := range allowed {
		t.Run(from, func(t *testing.T) {
			for _, imported := range goList(t, "-f", `{{join .Imports "\n"}}`, module+from) {
				if ours, is := strings.CutPrefix(imported, module); is {
					assert.Contains(t, to, ours)
				}
			}
		})
	}
}

// TestTheProgramsAreStatic: what speaks C is a program of its own, so that a
// machine without an NVIDIA GPU needs none, and a driver that hangs or crashes
// takes nobody with it.
func TestTheProgramsAreStatic(t *testing.T) {
	for _, program := range []string{"cmd/dubniumd", "cmd/modectl", "cmd/dubnium-probe"} {
		t.Run(program, func(t *testing.T) {
			for _, dependency := range goList(t, "-deps", module+program) {
				assert.NotContains(t, dependency, "github.com/NVIDIA/go-nvml")
			}
		})
	}
	assert.Contains(t, goList(t, "-deps", module+"cmd/dubnium-gpu-probe"), "github.com/NVIDIA/go-nvml/pkg/nvml")
}

// What a program imports stays in memory for as long as it runs. The root of zap
// brings all of this along (internal/zap).
func TestTheDaemonCarriesNoWebServer(t *testing.T) {
	deps := goList(t, "-deps", module+"cmd/dubniumd")
	assert.Contains(t, deps, "go.uber.org/zap/zapcore")
	for _, heavy := range []string{"net/http", "crypto/tls", "go.uber.org/zap"} {
		assert.NotContains(t, deps, heavy)
	}
}

func TestDecisionsArePure(t *testing.T) {
	for _, p := range pure {
		t.Run(p, func(t *testing.T) {
			deps := goList(t, "-deps", module+p)
			assert.Contains(t, deps, "time", "the list is one of dependencies")
			for _, w := range worldly {
				assert.NotContains(t, deps, w)
			}
		})
	}
}

// What trusts an audio server belongs into a process that is used once
// (docs/decisions/0007-audio.md).
func TestOnlyTheProbeReadsAudioServers(t *testing.T) {
	const reader = "github.com/jfreymuth/pulse/proto"
	assert.Contains(t, goList(t, "-deps", module+"cmd/dubnium-probe"), reader)
	for _, program := range []string{"cmd/dubniumd", "cmd/modectl"} {
		assert.NotContains(t, goList(t, "-deps", module+program), reader, program)
	}
}
