//go:build e2e && soak

// Package e2e holds Dubnium to its promises on a real workstation in a virtual machine. The tests of this file are about
// the test bed itself: every other test leans on what they show.
package e2e

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/e2e/bed"
)

func TestARestoredMachineIsAWorkstationInUse(t *testing.T) {
	m := bed.Restore(t)
	ctx := t.Context()

	out, code := m.Sh(ctx, `for s in $(loginctl list-sessions --no-legend | awk '{print $1}'); do
		loginctl show-session $s -p Name -p Type -p Class -p Seat -p State; echo; done`)
	require.Zero(t, code, out)
	assert.Contains(t, out, "Name=alice\nSeat=seat0\nType=wayland\nClass=user\nState=active")

	assert.NotZero(t, m.CompositorPID(ctx))
	assert.True(t, m.CompositorAnswers(ctx))
	sinks, code := m.AsUser(ctx, bed.User, "pactl list short sinks")
	assert.Zero(t, code)
	assert.Contains(t, sinks, "alsa_output")
	assert.Contains(t, m.Run(ctx, "systemctl", "is-active", "graphical.target", "greetd.service"), "active\nactive")
	assert.Equal(t, "running\n", m.Run(ctx, "systemctl", "is-system-running"))
}

func TestTheGuestKnowsTheTime(t *testing.T) {
	m := bed.Restore(t)
	guest, err := time.Parse("2006-01-02T15:04:05Z\n", m.Run(t.Context(), "date", "--utc", "+%Y-%m-%dT%H:%M:%SZ"))
	require.NoError(t, err)
	assert.WithinDuration(t, time.Now(), guest, 10*time.Second)
}

func TestEachRestoreStartsFromTheSameMachine(t *testing.T) {
	const traces = "/var/tmp/trace /run/trace"
	run := func(t *testing.T) string {
		m := bed.Restore(t)
		ctx := t.Context()
		out, code := m.Sh(ctx, "ls "+traces)
		assert.NotZero(t, code, "an earlier machine left something behind: %s", out)
		_, code = m.Sh(ctx, "touch "+traces+" && systemctl stop greetd && sync")
		require.Zero(t, code)
		return m.VM.BootID()
	}
	var first, second string
	t.Run("first", func(t *testing.T) { first = run(t) })
	t.Run("second", func(t *testing.T) { second = run(t) })
	assert.Equal(t, first, second, "both are the same boot of the same machine")
}

func TestCommandsRunAsWhoeverIsAsked(t *testing.T) {
	m := bed.Restore(t)
	ctx := t.Context()

	out, code := m.Sh(ctx, "id -un; echo to stderr >&2; exit 3")
	assert.Equal(t, 3, code)
	assert.Equal(t, "root\nto stderr\n", out)

	out, _ = m.AsUser(ctx, bed.User, "id -un; pwd; echo $XDG_RUNTIME_DIR $WAYLAND_DISPLAY; cat /proc/self/cgroup")
	assert.Contains(t, out, "alice\n/home/alice\n/run/user/1000 wayland-")
	assert.Contains(t, out, "bed-agent.service")

	out, _ = m.InSession(ctx, bed.User, "cat /proc/self/cgroup; loginctl show-session $XDG_SESSION_ID -p Active")
	assert.Regexp(t, `session-\w+\.scope`, out)
	assert.Contains(t, out, "Active=yes")

	out, _ = m.AsUser(ctx, bed.Bob, "id -un; echo ${XDG_RUNTIME_DIR-none}")
	assert.Equal(t, "bob\nnone\n", out)
	_, err := m.VM.Exec(ctx, bed.Script("true").Within(bed.Bob))
	assert.ErrorContains(t, err, "there is none", "bob is not logged in")

	o := m.Exec(ctx, bed.Command{Argv: []string{"cat"}, Stdin: strings.NewReader("typed"), Env: []string{"A=b"}})
	assert.Equal(t, "typed", o.Stdout)
	_, err = m.VM.Exec(ctx, bed.Command{Argv: []string{"/no/such/program"}})
	assert.ErrorContains(t, err, "/no/such/program")
}

// The session a process belongs to decides what polkit allows: that is what InSession is for.
func TestPolkitTellsTheDesktopFromOutside(t *testing.T) {
	m := bed.Restore(t)
	ctx := t.Context()
	const reboot = "pkcheck --action-id org.freedesktop.login1.reboot --process $$"
	out, code := m.InSession(ctx, bed.User, reboot)
	assert.Zero(t, code, "allowed to an active session: %s", out)
	out, code = m.AsUser(ctx, bed.User, reboot)
	assert.NotZero(t, code, "not allowed from outside: %s", out)
}

func TestBobLogsInOnAConsole(t *testing.T) {
	m := bed.Restore(t)
	ctx := t.Context()
	m.Run(ctx, "systemctl", "start", "tty-login@bob.service")
	m.WaitFor(ctx, "bob's session", `loginctl list-sessions --no-legend | grep -q 'bob.*tty5'`)
}

func TestFilesArriveAsTheyLeft(t *testing.T) {
	m := bed.Restore(t)
	ctx := t.Context()
	body := make([]byte, 300_000)
	_, err := rand.Read(body)
	require.NoError(t, err)

	m.PutBytes(ctx, body, "/opt/some/where/file", 0o640)
	assert.Equal(t, "640 root 300000\n", m.Run(ctx, "stat", "-c", "%a %U %s", "/opt/some/where/file"))
	assert.Equal(t, body, m.Get(ctx, "/opt/some/where/file"))

	local := filepath.Join(t.TempDir(), "local")
	require.NoError(t, os.WriteFile(local, []byte("#!/bin/sh\necho it runs\n"), 0o600))
	m.Put(ctx, local, "/usr/local/bin/thing", 0o755)
	assert.Equal(t, "it runs\n", m.Run(ctx, "thing"))
	_, err = m.VM.Get(ctx, "/no/such/file")
	assert.ErrorContains(t, err, "cannot get /no/such/file")
}

func TestATreeOf15MegabytesArrivesQuickly(t *testing.T) {
	tree := t.TempDir()
	for _, dir := range []string{"usr/bin", "usr/lib/systemd/system", "tmp"} {
		require.NoError(t, os.MkdirAll(filepath.Join(tree, dir), 0o755))
	}
	self, err := os.Executable() // a program's worth of realistic bytes
	require.NoError(t, err)
	program, err := os.ReadFile(self)
	require.NoError(t, err)
	const size = 5 << 20
	program = append(program, make([]byte, max(0, size-len(program)))...)[:size]
	for i := range 3 {
		require.NoError(t, os.WriteFile(filepath.Join(tree, "usr/bin", fmt.Sprint("program", i)), program, 0o755))
	}
	require.NoError(t, os.WriteFile(filepath.Join(tree, "usr/lib/systemd/system/a.service"), []byte("[Unit]\n"), 0o644))
	require.NoError(t, os.Symlink("program0", filepath.Join(tree, "usr/bin/link")))

	m := bed.Restore(t)
	ctx := t.Context()
	began := time.Now()
	m.PutTree(ctx, tree)
	t.Logf("15 MiB in %.2f s", time.Since(began).Seconds())

	assert.Equal(t, string(program), string(m.Get(ctx, "/usr/bin/program2")))
	assert.Equal(t, "755 root root\n", m.Run(ctx, "stat", "-c", "%a %U %G", "/usr/bin/program0"))
	assert.Equal(t, "program0\n", m.Run(ctx, "readlink", "/usr/bin/link"))
	assert.Equal(t, "1777\n", m.Run(ctx, "stat", "-c", "%a", "/tmp"), "directories that exist keep their mode")
}

func TestProcessesAreFollowedWhileTheyRun(t *testing.T) {
	m := bed.Restore(t)
	ctx := t.Context()
	p := m.Start(ctx, "trap 'echo got it; exit 7' TERM; echo ready; while :; do sleep 0.1; done")
	require.NoError(t, p.AwaitOutput(ctx, "ready"))
	assert.Equal(t, "sh\n", m.Run(ctx, "ps", "-o", "comm=", "-p", fmt.Sprint(p.PID)))
	m.Run(ctx, "kill", fmt.Sprint(p.PID))
	code, err := p.Wait(ctx)
	require.NoError(t, err)
	assert.Equal(t, 7, code)
	assert.Equal(t, "ready\ngot it\n", p.Output().Stdout)

	p = m.Start(ctx, "sleep 1000 & sleep 1000")
	require.NoError(t, p.Kill(ctx))
	m.WaitFor(ctx, "the children to be killed too", "! pgrep -x sleep")

	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, err = m.VM.Exec(short, bed.Script("sleep 1000"))
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	m.WaitFor(ctx, "what was given up to be killed", "! pgrep -x sleep")
}

func TestArtifactsOfAFailedTestAreCollected(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("E2E_ARTIFACTS", dir)
	failing := &failingTest{T: t}
	m := bed.Restore(failing)
	ctx := t.Context()
	m.Run(ctx, "systemd-cat", "--identifier=witness", "echo", "this is what happened")
	m.Sh(ctx, "mkdir -p /run/mode-controller && echo desktop >/run/mode-controller/current")
	failing.finish()

	collected := filepath.Join(dir, t.Name())
	for file, want := range map[string]string{
		"journal.txt":   "this is what happened",
		"units.txt":     "greetd.service",
		"sessions.txt":  "Name=alice",
		"processes.txt": m.VM.Flavour.Compositor,
		"audio.txt":     "alsa_output",
		"dubnium.txt":   "=== /run/mode-controller/current\ndesktop",
		"bus.jsonl":     `"type":`,
	} {
		text, err := os.ReadFile(filepath.Join(collected, file))
		if assert.NoError(t, err) {
			assert.Contains(t, string(text), want, file)
		}
	}
	_, err := m.VM.Exec(ctx, bed.Script("true"))
	assert.Error(t, err, "the machine ends with its test")
}

// failingTest looks to the bed like a test that has failed. Its cleanups run when it is told to finish.
type failingTest struct {
	*testing.T
	cleanups []func()
}

func (f *failingTest) Failed() bool      { return true }
func (f *failingTest) Cleanup(do func()) { f.cleanups = append(f.cleanups, do) }

func (f *failingTest) finish() {
	for i := len(f.cleanups) - 1; i >= 0; i-- {
		f.cleanups[i]()
	}
}

func TestAGuestThatDiesFailsWhoeverWaitsForIt(t *testing.T) {
	m := bed.Restore(t)
	ctx := t.Context()
	p := m.Start(ctx, "sleep 1000")
	m.Sh(ctx, "sync")
	_, err := m.VM.Exec(ctx, bed.Script("systemctl poweroff --force --force"))
	assert.Error(t, err)
	_, err = p.Wait(ctx)
	assert.ErrorContains(t, err, "the machine is gone")
	assert.False(t, errors.Is(err, context.DeadlineExceeded))
}
