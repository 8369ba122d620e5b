package sessionend

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/policy"
)

// runtimeDir is a short one: a socket's path has 107 characters at most.
func runtimeDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "run")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(dir)) })
	return dir
}

// listens puts a socket there that somebody answers at, since then.
func listens(t *testing.T, path string, since time.Time) net.Listener {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	require.NoError(t, err)
	l.SetUnlinkOnClose(false)
	t.Cleanup(func() { _ = l.Close() }) // it may have gone
	require.NoError(t, os.Chtimes(path, since, since))
	return l
}

// crashed leaves a socket behind that nobody answers at.
func crashed(t *testing.T, path string, since time.Time) {
	t.Helper()
	require.NoError(t, listens(t, path, since).Close())
}

var morning = time.Date(2026, 1, 1, 8, 0, 0, 0, time.UTC)

func TestTheEnvironmentIsThatOfTheSession(t *testing.T) {
	dir := runtimeDir(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	listens(t, at("bus"), morning)
	crashed(t, at("wayland-0"), morning)
	listens(t, at("wayland-1"), morning.Add(time.Hour))
	listens(t, at("wayland-2"), morning.Add(2*time.Hour)) // in a window of the other
	require.NoError(t, os.WriteFile(at("wayland-1.lock"), nil, 0o600))
	crashed(t, at("hypr/old_1/.socket.sock"), morning)
	listens(t, at("hypr/new_2/.socket.sock"), morning.Add(time.Hour))
	listens(t, at("sway-ipc.1000.77.sock"), morning)

	got := Environ(dir, []string{"HOME=/home/alice", "WAYLAND_DISPLAY=wayland-9", "PATH=/bin"})
	assert.ElementsMatch(t, []string{
		"HOME=/home/alice", "PATH=/bin", "XDG_RUNTIME_DIR=" + dir, "DBUS_SESSION_BUS_ADDRESS=unix:path=" + at("bus"),
		"WAYLAND_DISPLAY=wayland-1", "HYPRLAND_INSTANCE_SIGNATURE=new_2", "SWAYSOCK=" + at("sway-ipc.1000.77.sock"),
	}, got)
}

func TestWhatIsNotThereIsNotInTheEnvironment(t *testing.T) {
	dir := runtimeDir(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "wayland-0"), nil, 0o600))
	require.NoError(t, os.Symlink("/dev/null", filepath.Join(dir, "bus")))
	crashed(t, filepath.Join(dir, "sway-ipc.1000.1.sock"), morning)
	environ := []string{
		"SWAYSOCK=/tmp/theirs", "DBUS_SESSION_BUS_ADDRESS=unix:path=/tmp/theirs", "HYPRLAND_INSTANCE_SIGNATURE=x",
	}
	assert.Equal(t, []string{"XDG_RUNTIME_DIR=" + dir}, Environ(dir, environ))
	assert.Equal(t, []string{"XDG_RUNTIME_DIR=/nowhere"}, Environ("/nowhere", nil))
}

func TestAHookThatIsNotThereIsAnError(t *testing.T) {
	p := policy.Default()
	require.ErrorIs(t, Run(p, "/nowhere", nil), ErrNoHook)
	p.Sessions.EndHook = []string{"no-such-hook"}
	require.ErrorIs(t, Run(p, "/nowhere", []string{"PATH=/usr/bin:bin:/bin"}), exec.ErrNotFound)
	p.Sessions.EndHook = []string{"/no/such/hook"}
	require.ErrorIs(t, Run(p, "/nowhere", nil), os.ErrNotExist)
}

func TestAProgramIsLookedForInAbsoluteDirectoriesOnly(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "hook"), []byte("#!/bin/sh\n"), 0o755))
	path, err := find("hook", []string{"PATH=:.:" + dir})
	require.NoError(t, err)
	assert.Equal(t, filepath.Join(dir, "hook"), path)
	t.Chdir(dir)
	_, err = find("hook", []string{"PATH=.:bin"})
	require.ErrorIs(t, err, exec.ErrNotFound)
}

// TestTheHookTakesThePlaceOfTheProgram: its exit code and its output are the unit's.
func TestTheHookTakesThePlaceOfTheProgram(t *testing.T) {
	if os.Getenv("IN_THE_UNIT") != "" {
		p := policy.Default()
		p.Sessions.EndHook = []string{"sh", "-c", `echo "$1 $XDG_RUNTIME_DIR"; exit 7`, "sh", "an argument"}
		t.Fatal(Run(p, os.Getenv("IN_THE_UNIT"), os.Environ()))
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), "IN_THE_UNIT=/run/user/1000")
	out, err := cmd.Output()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	assert.Equal(t, 7, exit.ExitCode())
	assert.Equal(t, "an argument /run/user/1000", strings.TrimSpace(string(out)))
}
