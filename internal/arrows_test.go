package internal

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const module = "github.com/dubnium/dubnium/"

// allowed says who may import whom, of our own packages. docs/architecture.md
// draws the same picture.
var allowed = map[string][]string{
	"policy":             {},
	"observer":           {"policy"},
	"observer/unitgraph": {"observer"},
	"guards":             {"policy", "observer", "observer/unitgraph"},
	"plans":              {"policy", "observer", "observer/unitgraph"},
	"daemon/status":      {"policy", "observer", "observer/unitgraph", "guards"},
	"daemon/intent":      {"policy", "observer", "daemon/status"},
	"daemon/transition":  {"policy", "daemon/status"},
	"daemon/reconcile":   {"policy", "guards", "daemon/status", "daemon/intent"},
	"daemon/monitor":     {"policy", "observer"},
	"daemon/history": {
		"policy", "guards", "daemon/status", "internal/eventlog", "internal/message", "internal/ration",
	},
	"daemon/assess": {"policy", "observer", "observer/unitgraph", "guards", "plans", "daemon/status"},
	"daemon/sinks":  {"policy", "observer", "daemon/status", "daemon/intent", "internal/atomicfile"},
	"daemon/runner": {
		"policy", "observer", "guards", "plans", "daemon/status", "daemon/transition", "daemon/monitor",
		"daemon/history", "daemon/assess", "internal/stepreport", "internal/atomicfile", "internal/message",
		"internal/fault",
	},
	"daemon": {
		"policy", "observer", "guards", "plans", "daemon/status", "daemon/intent", "daemon/transition",
		"daemon/reconcile", "daemon/monitor", "daemon/history", "daemon/assess", "daemon/sinks",
		"daemon/runner", "internal/message",
	},
	"busapi": {"policy", "observer", "guards", "daemon/status"},
	"cmd/modectl": {
		"policy", "observer", "guards", "daemon/status", "busapi", "busapi/client", "cmd/modectl/render", "internal/version",
		"observer/recording", "internal/doctor", "internal/doctor/gather", "internal/errtext",
	},
	"observer/recording":   {"policy", "observer"},
	"observer/audio":       {"policy", "observer", "internal/probeclient"},
	"observer/audio/probe": {"observer", "observer/audio", "internal/probeclient"},
	"internal/doctor":      {"policy", "observer"},
	"internal/stepreport":  {"observer"},
	"daemon/sessionend":    {"policy"},
	"internal/eventlog":    {"internal/atomicfile", "internal/fault"},
	"internal/atomicfile":  {"internal/fault"},
	"internal/fault":       {},
	"internal/errtext":     {},
	"internal/message":     {"daemon/status"},
}

// pure packages decide; they reach no world to decide about.
var pure = []string{
	"policy", "observer", "observer/unitgraph", "observer/recording", "guards", "plans",
	"daemon/status", "daemon/intent", "daemon/transition", "daemon/reconcile", "internal/doctor",
}

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
				if ours, ok := strings.CutPrefix(imported, module); ok {
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

// TestTheDaemonSpeaksNoHTTP: zap's root links net/http, which nothing of ours in the
// daemon may use. vLLM is asked by a probe.
func TestTheDaemonSpeaksNoHTTP(t *testing.T) {
	arrows := goList(t, "-deps", "-f", `{{$p := .ImportPath}}{{range .Imports}}{{$p}}->{{.}}{{"\n"}}{{end}}`, module+"cmd/dubniumd")
	assert.Contains(t, arrows, "go.uber.org/zap->net/http", "the list is one of imports")
	for _, arrow := range arrows {
		if from, to, _ := strings.Cut(arrow, "->"); to == "net/http" {
			assert.NotContains(t, from, module)
		}
	}
}

// What has no goroutines has nothing for the race detector to find, so that `make
// check` tries it without.
func TestWhatIsTriedWithoutTheRaceDetectorHasNoGoroutines(t *testing.T) {
	makefile, err := os.ReadFile("../Makefile")
	require.NoError(t, err)
	_, rest, _ := strings.Cut(string(makefile), "\nPURE = ")
	list, _, found := strings.Cut(rest, "\n")
	require.True(t, found)
	packages := strings.Fields(list)
	require.Contains(t, packages, "./observer")
	for _, p := range packages {
		t.Run(p, func(t *testing.T) {
			files, err := filepath.Glob(filepath.Join("..", p, "*.go"))
			require.NoError(t, err)
			require.NotEmpty(t, files)
			for _, file := range files {
				parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
				require.NoError(t, err)
				ast.Inspect(parsed, func(n ast.Node) bool {
					switch n := n.(type) {
					case *ast.GoStmt:
						assert.Fail(t, "it starts a goroutine", file)
					case *ast.SelectorExpr: // of a WaitGroup, a test, time
						assert.NotContains(t, []string{"Go", "Parallel", "AfterFunc"}, n.Sel.Name, file)
					}
					return true
				})
			}
		})
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

// systemd's own limit of five starts in ten seconds would make somebody's sixth change
// of mode fail: each unit says what its limit is.
func TestEveryServiceHasAStartLimitOfItsOwn(t *testing.T) {
	files, err := filepath.Glob("../systemd/*.service")
	require.NoError(t, err)
	require.Greater(t, len(files), 8)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		assert.Regexp(t, `(?m)^StartLimitIntervalSec=`, string(text), file)
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
