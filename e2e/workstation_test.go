//go:build e2e

// Package e2e holds Dubnium's promises on real systems: systemd, logind, greetd, a
// compositor, PipeWire and polkit in a virtual machine. Every check here looks
// at the machine with its own tools, not with Dubnium's.
package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/e2e/bed"
	"github.com/dubnium/dubnium/e2e/stage"
)

// workstation is a machine with Dubnium installed on it.
type workstation struct {
	*bed.Machine
	t   *testing.T
	ctx context.Context
}

// staged is what is laid over each machine; it is built once for a run.
var staged = sync.OnceValues(func() (string, error) { return stage.Tree(context.Background()) })

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := staged(); err == nil {
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// restore brings up a workstation with alice logged in, and installs Dubnium. The
// daemon is not running yet.
func restore(t *testing.T) *workstation {
	t.Helper()
	return prepared(t, "installed", func(ctx context.Context, vm *bed.VM, tree string) error {
		return stage.Install(ctx, vm, tree)
	})
}

// onDesktop is restore with the daemon running and the desktop observed.
func onDesktop(t *testing.T) *workstation {
	t.Helper()
	return prepared(t, "serving", func(ctx context.Context, vm *bed.VM, tree string) error {
		if err := stage.Install(ctx, vm, tree); err != nil {
			return err
		}
		return stage.Serve(ctx, vm)
	})
}

func prepared(t *testing.T, how string, do func(context.Context, *bed.VM, string) error) *workstation {
	t.Helper()
	tree, err := staged()
	require.NoError(t, err)
	hash, err := stage.Hash(tree)
	require.NoError(t, err)
	m := bed.RestorePrepared(t, bed.Preparation{
		Key: []string{how, hash},
		Do:  func(ctx context.Context, vm *bed.VM) error { return do(ctx, vm, tree) },
	})
	// From here on: to wait for the machine may take as long as another run of it.
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	return &workstation{Machine: m, t: t, ctx: ctx}
}

// within is the same machine in a subtest, which leaves it on the desktop.
func (w *workstation) within(t *testing.T) *workstation {
	return &workstation{Machine: w.Machine, t: t, ctx: w.ctx}
}

// patiently gives a test with many isolates more time than others need, from now
// on: a machine without acceleration reads its own units for seconds.
func (w *workstation) patiently() {
	ctx, cancel := context.WithTimeout(w.t.Context(), 15*time.Minute)
	w.t.Cleanup(cancel)
	w.ctx = ctx
}

// govern adds sections to the policy and has the daemon read it.
func (w *workstation) govern(sections string) {
	w.t.Helper()
	w.sh(
		"cat >> /etc/dubnium/policy.toml <<'EOF'\n" +
			sections + "\nEOF\nmodectl policy check /etc/dubnium/policy.toml && systemctl reload dubniumd.service",
	)
}

// install writes a service that only waits.
func (w *workstation) install(unit string) {
	w.t.Helper()
	w.sh(
		"printf '[Service]\\nType=exec\\nExecStart=/usr/bin/sleep infinity\\n' > /etc/systemd/system/" +
			unit + " && systemctl daemon-reload",
	)
}

// seeded is a seed that is told; E2E_SEED repeats a run that failed.
func seeded(t *testing.T) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if given := os.Getenv("E2E_SEED"); given != "" {
		var err error
		seed, err = strconv.ParseUint(given, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("E2E_SEED=%d", seed)
	return seed
}

// part is a step of a longer story: what comes after it needs it to have gone well.
func (w *workstation) part(name string, do func(w *workstation)) {
	w.t.Helper()
	if !w.t.Run(name, func(t *testing.T) { do(w.within(t)) }) {
		w.t.FailNow()
	}
}

// sh runs a script as root that has to succeed.
func (w *workstation) sh(script string) string {
	w.t.Helper()
	out, code := w.Sh(w.ctx, script)
	require.Zero(w.t, code, "%s\n%s", script, out)
	return strings.TrimSpace(out)
}

// journal is what journalctl finds. It reads again when a file was just being
// extended, which journalctl takes for a truncated one and leaves out.
func (w *workstation) journal(query string) string {
	w.t.Helper()
	return w.sh(
		"while journalctl -q --no-pager " + query +
			" >/run/journal.out 2>/run/journal.err; grep -q 'is truncated' /run/journal.err; do :; done\ncat /run/journal.out",
	)
}

// journalHas waits until journalctl finds an entry with a text: journald writes
// after the service has gone on.
func (w *workstation) journalHas(query, text string) {
	w.t.Helper()
	w.WaitFor(
		w.ctx, text+" in the journal", fmt.Sprintf("journalctl -q --no-pager %s | grep -F -- '%s' >/dev/null", query, text),
	)
}

// modectl runs modectl as root.
func (w *workstation) modectl(args string) (out string, code int) {
	w.t.Helper()
	started := time.Now()
	out, code = w.Sh(w.ctx, "modectl "+args)
	w.t.Logf("modectl %s: %d after %.1f s", args, code, time.Since(started).Seconds())
	return out, code
}

// reach requests a mode, which has to be reached.
func (w *workstation) reach(mode string) {
	w.t.Helper()
	if mode == "compute" {
		w.audioKnown()
	}
	out, code := w.modectl("request " + mode)
	require.Zero(w.t, code, out)
}

// becomes waits until the published state is the one given.
func (w *workstation) becomes(state string) {
	w.t.Helper()
	w.WaitFor(w.ctx, "the state "+state, `[ "$(cat /run/mode-controller/current)" = `+state+` ]`)
}

func (w *workstation) current() string {
	w.t.Helper()
	return w.sh("modectl current")
}

// signals is what `modectl current --json` says of one fact: true, false or nil.
func (w *workstation) signal(name string) any {
	w.t.Helper()
	var current struct {
		Signals map[string]any `json:"signals"`
	}
	require.NoError(w.t, json.Unmarshal([]byte(w.sh("modectl current --json --refresh")), &current))
	value, there := current.Signals[name]
	require.True(w.t, there, name)
	return value
}

// last is the record of the last transition, as the file has it.
func (w *workstation) last() (r struct {
	ID                  uint64
	Result, Final, From string
	To, Cause           string
},
) {
	w.t.Helper()
	require.NoError(w.t, json.Unmarshal(w.Get(w.ctx, "/run/mode-controller/last-transition.json"), &r))
	return r
}

// displayHolders lists, by the machine's own /proc, who has a DRM node open: the
// kernel's side of a session (PID 1, logind) and the stand-in aside.
func (w *workstation) displayHolders() string {
	w.t.Helper()
	return w.sh(`find /proc/[0-9]*/fd -lname '/dev/dri/*' -printf '%h\n' 2>/dev/null | sort -u | cut -d/ -f3 | grep -vx 1 |
		while read pid; do cat /proc/$pid/comm; done | grep -vxE 'systemd-logind|vllm-standin' | sort -u || true`)
}

// active says what systemd says of a unit.
func (w *workstation) active(unit string) string {
	w.t.Helper()
	out, _ := w.Sh(w.ctx, "systemctl is-active "+unit)
	return strings.TrimSpace(out)
}

// requireDesktop checks with the machine's own tools that alice can work.
func (w *workstation) requireDesktop() {
	w.t.Helper()
	w.WaitCompositor(w.ctx)
	w.audioKnown()
	require.Equal(w.t, "active", w.active("desktop.target"))
	require.Equal(w.t, "inactive", w.active("compute.target"))
	require.NotEqual(w.t, "active", w.active("vllm.service"))
}

// audioKnown waits until it can be told whether somebody who has just logged in
// plays anything: compute is refused before that.
func (w *workstation) audioKnown() {
	w.t.Helper()
	w.WaitFor(w.ctx, "the audio to be known", `modectl guard check_audio_idle >/dev/null; [ $? -ne 20 ]`)
}

// requireCompute checks with the machine's own tools that it serves and nobody
// sits at it.
func (w *workstation) requireCompute() {
	w.t.Helper()
	require.Zero(w.t, w.CompositorPID(w.ctx), "no compositor")
	require.Empty(w.t, w.displayHolders(), "nobody holds the display GPU")
	require.Equal(w.t, "inactive", w.active("greetd.service"))
	require.Equal(w.t, "inactive", w.active("graphical.target"))
	require.Equal(w.t, "active", w.active("compute.target"))
	require.Equal(w.t, "active", w.active("vllm.service"))
	require.Contains(w.t, w.sh(`bash -c "exec 3<>/dev/tcp/127.0.0.1/8000; printf 'GET /health HTTP/1.0\r\n\r\n' >&3; head -n 1 <&3"`),
		" 200 ", "vLLM is healthy")
	require.Empty(w.t, w.sh(
		"ls /run/systemd/sessions | grep -v ref | while read s; do grep -lE '^TYPE=(wayland|x11)' /run/systemd/sessions/$s || true; done",
	),
		"no graphical session")
}

// next is a condition for Await: the next signal.
func next(bed.Signal) bool { return true }
