// Package sessionend requests the end of a user's graphical session: it runs the policy's
// hook as that user, in the environment of their session.
//
// It runs in dubnium-session-end@UID.service, with fewer rights than the user has.
// Nothing that it reads is trusted, and nothing has to be: a wrong socket in
// /run/user/UID affects only a process of the same user. The exit code reports a hook
// that failed or does not exist, for the record; the session is ended in any case.
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

// Run replaces this process with the policy's hook, in the environment Environ(runtime,
// environ). It returns only if that fails.
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

// Environ returns environ with the variables by which programs find their graphical
// session. Their values are the sockets below runtime (XDG_RUNTIME_DIR) that accept
// connections. A variable without such a socket is removed from environ.
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

// first returns the oldest socket that matches the pattern and accepts connections, empty
// for none. A compositor that runs in a window of another has a newer socket, and the
// socket of one that crashed does not accept connections.
func first(pattern string) string {
	paths, err := filepath.Glob(pattern)
	if err != nil {
		return "" // the name of the runtime directory is not a valid pattern
	}
	var oldest string
	var since time.Time
	for _, path := range paths {
		info, err := os.Lstat(path)
		if err != nil || info.Mode().Type() != fs.ModeSocket || !accepts(path) {
			continue
		}
		if oldest == "" || info.ModTime().Before(since) {
			oldest, since = path, info.ModTime()
		}
	}
	return oldest
}

// dialTimeout bounds the connection to a server that is too busy to accept it.
const dialTimeout = time.Second

func accepts(socket string) bool {
	conn, err := net.DialTimeout("unix", socket, dialTimeout)
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

// find returns the path of a program: from PATH, and then from the directories of NixOS
// for a user and for the system, which are not in the PATH of a unit.
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
