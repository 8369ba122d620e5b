//go:build e2e && soak

package e2e

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/e2e/bed"
)

func TestWaitsEndWhenTheirConditionHolds(t *testing.T) {
	m := bed.Restore(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	m.Start(ctx, "sleep 0.5; mkdir -p /run/a/b; sleep 0.2; touch /run/a/b/c; sleep 0.5; rm /run/a/b/c")
	m.WaitFile(ctx, "/run/a/b/c")
	m.WaitGone(ctx, "/run/a/b/c")

	m.Run(ctx, "systemd-run", "--unit=brief", "--remain-after-exit", "sleep", "0.5")
	m.WaitUnit(ctx, "brief.service", "active/exited")
	p := m.Start(ctx, "sleep 0.5; systemctl stop brief.service")
	m.WaitUnit(ctx, "brief.service", "inactive")
	m.WaitProcessEnd(ctx, p.PID)

	m.Start(ctx, "sleep 0.3; touch /run/done")
	m.WaitFor(ctx, "the file", "test -e /run/done")
	m.WaitForAs(ctx, bed.User, "being alice", `test "$USER" = alice`)
}

func TestWaitsSayWhatTheySawWhenTheTimeIsOver(t *testing.T) {
	m := bed.Restore(t)
	for name, c := range map[string]struct {
		wait func(context.Context) error
		says string
	}{
		"unit": {
			func(ctx context.Context) error { return m.VM.WaitUnit(ctx, "greetd.service", "failed") },
			"last seen: active/running",
		},
		"file":    {func(ctx context.Context) error { return m.VM.WaitFile(ctx, "/run/nothing") }, "no such file"},
		"gone":    {func(ctx context.Context) error { return m.VM.WaitGone(ctx, "/run") }, "it is there"},
		"process": {func(ctx context.Context) error { return m.VM.WaitProcessEnd(ctx, 1) }, "process 1 to end"},
		"script": {
			func(ctx context.Context) error { return m.VM.WaitFor(ctx, "Godot", "echo not here; false") }, "not here",
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			began := time.Now()
			err := c.wait(ctx)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			assert.ErrorContains(t, err, c.says)
			assert.Less(t, time.Since(began), 10*time.Second)
		})
	}
}

func TestAWatchMissesNoSignal(t *testing.T) {
	m := bed.Restore(t)
	ctx := t.Context()
	w := m.Watch(ctx, "interface='org.freedesktop.systemd1.Manager'", "interface='org.dubnium.Test'")
	m.Run(
		ctx, "busctl", "emit", "/org/dubnium", "org.dubnium.Test", "Happened", "sua{sv}", "word", "42", "1", "key", "as", "1",
		"x",
	)
	s := m.Await(ctx, w, bed.Member("Happened"))
	assert.Equal(t, "/org/dubnium", s.Path)
	assert.Equal(t, "org.dubnium.Test", s.Interface)
	assert.Equal(t, []any{"word", json.Number("42"), map[string]any{"key": []any{"x"}}}, s.Args)

	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	_, err := w.Await(short, bed.Member("Never"))
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.NoError(t, w.Close(ctx))
}
