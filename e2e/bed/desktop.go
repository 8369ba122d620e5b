package bed

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const (
	// audioReady succeeds when PipeWire has a sink of its own and not only its placeholder.
	audioReady = `test -e "$XDG_RUNTIME_DIR/pulse/native" && pactl list short sinks | grep -v auto_null | grep -q .`
	// settled succeeds when systemd has nothing left to do.
	settled = `case $(systemctl is-system-running) in running|degraded) ;; *) exit 1 ;; esac
		test -z "$(systemctl list-jobs --no-legend)"`
)

// WaitDesktop waits until the compositor answers its IPC and the sound has somewhere to go.
func (v *VM) WaitDesktop(ctx context.Context) error {
	if err := v.WaitCompositor(ctx); err != nil {
		return err
	}
	return v.WaitForAs(ctx, User, "an audio sink", audioReady)
}

// WaitCompositor waits until the compositor answers its IPC.
func (v *VM) WaitCompositor(ctx context.Context) error {
	return v.WaitForAs(ctx, User, "the compositor", v.Flavour.answers)
}

// CompositorAnswers says whether the compositor answers its IPC within a few seconds.
func (v *VM) CompositorAnswers(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	out, err := v.Exec(ctx, Command{Argv: []string{"timeout", "10", "/bin/sh", "-c", v.Flavour.answers}, User: User})
	return err == nil && out.Code == 0, err
}

// CompositorPID is the pid of the user's compositor, 0 when none runs.
func (v *VM) CompositorPID(ctx context.Context) (int, error) {
	out, err := v.Exec(ctx, Command{Argv: []string{"pgrep", "-u", User, "-x", v.Flavour.Compositor}})
	if err != nil || out.Code == 1 {
		return 0, err
	}
	pids := strings.Fields(out.Stdout)
	if out.Code != 0 || len(pids) != 1 {
		return 0, fmt.Errorf("cannot tell the compositor's pid: pgrep ended with %d: %s", out.Code, out.Both)
	}
	return strconv.Atoi(pids[0])
}
