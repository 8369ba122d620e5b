// Package sessionend asks a person's graphical session to end: it runs the policy's
// hook as that person, in the environment that their session would give it.
//
// It runs in dubnium-session-end@UID.service, which is that person's process and can
// do less than they can. Nothing that it finds is trusted: who put a wrong socket
// into /run/user/UID has fooled a program of their own. That a hook failed, or is not
// there, is the exit code, for the record; the session is ended all the same.
package sessionend

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubnium/dubnium/policy"
)

// ErrNoHook: the policy has no hook.
var ErrNoHook = errors.New("the policy has no sessions.end_hook")

// Run replaces this process with the policy's hook, in the environment that Environ
// makes of environ. It returns only what kept it from that.
func Run(p policy.Policy, runtime string, environ []string) error {
	hook := p.Sessions.EndHook
	if len(hook) == 0 {
		return ErrNoHook
	}
	environ = Environ(runtime, environ)
	path, err := find(hook[0], environ)
	if err != nil {
		return fmt.Errorf("cannot run the hook: %w", err)
	}
	return fmt.Errorf("cannot run the hook %s: %w", path, unix.Exec(path, hook, environ))
}

// Environ returns environ with what programs of a graphical session find theirs by:
// the sockets below runtime, which is XDG_RUNTIME_DIR, that somebody answers at.
// What nobody answers at is left out, whatever environ had.
func Environ(runtime string, environ []string) []string {
	found := []struct{ name, value string }{
		{"XDG_RUNTIME_DIR", runtime},
		{"DBUS_SESSION_BUS_ADDRESS", prefixed("unix:path=", first(filepath.Join(runtime, "bus")))},
		{"WAYLAND_DISPLAY", base(first(filepath.Join(runtime, "wayland-*")))},
		{"HYPRLAND_INSTANCE_SIGNATURE", base(filepath.Dir(first(filepath.Join(runtime, "hypr/*/.socket.sock"))))},
		{"SWAYSOCK", first(filepath.Join(runtime, "sway-ipc.*.sock"))},
	}
	environ = slices.DeleteFunc(slices.Clone(environ), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return slices.ContainsFunc(found, func(f struct{ name, value string }) bool { return f.name == name })
	})
	for _, f := range found {
		if f.value != "" {
			environ = append(environ, f.name+"="+f.value)
		}
	}
	return environ
}

// first returns the oldest of the sockets of that pattern at which somebody answers,
// empty for none. A compositor that runs in a window of another came after it, and one
// that crashed has left its socket behind.
func first(pattern string) string {
	paths, err := filepath.Glob(pattern)
	if err != nil {
		return "" // the runtime directory's name is no pattern
	}
	var oldest string
	var since time.Time
	for _, path := range paths {
		info, err := os.Lstat(path)
		if err != nil || info.Mode().Type() != fs.ModeSocket || !answers(path) {
			continue
		}
		if oldest == "" || info.ModTime().Before(since) {
			oldest, since = path, info.ModTime()
		}
	}
	return oldest
}

// patience is for a server that is too busy to take a connection.
const patience = time.Second

func answers(socket string) bool {
	conn, err := net.DialTimeout("unix", socket, patience)
	if err != nil {
		return false
	}
	return conn.Close() == nil
}

func base(path string) string {
	if path == "" || path == "." {
		return ""
	}
	return filepath.Base(path)
}

func prefixed(prefix, path string) string {
	if path == "" {
		return ""
	}
	return prefix + path
}

// find returns the path of a program: in PATH, and then where NixOS has the programs
// of the system and of single users, which no unit's PATH names.
func find(name string, environ []string) (string, error) {
	if strings.ContainsRune(name, '/') {
		return name, nil
	}
	dirs := filepath.SplitList(value(environ, "PATH"))
	if user := value(environ, "USER"); user != "" {
		dirs = append(dirs, filepath.Join("/etc/profiles/per-user", user, "bin"))
	}
	for _, dir := range append(dirs, "/run/current-system/sw/bin") {
		if !filepath.IsAbs(dir) {
			continue
		}
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: %w", name, exec.ErrNotFound)
}

func value(environ []string, name string) string {
	for _, entry := range environ {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value
		}
	}
	return ""
}
