package main

import (
	"bufio"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const searchPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func rootEnv() []string { return []string{searchPath, "HOME=/root", "USER=root", "LANG=C.UTF-8"} }

// account is a user of the guest.
type account struct {
	name, home string
	uid, gid   int
	groups     []uint32
}

func lookup(name string) (account, error) {
	fail := func(err error) (account, error) { return account{}, fmt.Errorf("cannot act as %s: %w", name, err) }
	u, err := user.Lookup(name)
	if err != nil {
		return fail(err)
	}
	ids, err := u.GroupIds()
	if err != nil {
		return fail(err)
	}
	a := account{name: name, home: u.HomeDir}
	if a.uid, err = strconv.Atoi(u.Uid); err != nil {
		return fail(err)
	}
	if a.gid, err = strconv.Atoi(u.Gid); err != nil {
		return fail(err)
	}
	for _, id := range ids {
		n, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			return fail(err)
		}
		a.groups = append(a.groups, uint32(n))
	}
	return a, nil
}

func (a account) credential() *syscall.Credential {
	return &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid), Groups: a.groups}
}

// env is what a shell in the user's desktop has, found afresh at each call: sockets change with each compositor.
func (a account) env() []string {
	env := []string{searchPath, "HOME=" + a.home, "USER=" + a.name, "LOGNAME=" + a.name, "SHELL=/bin/sh", "LANG=C.UTF-8"}
	run := fmt.Sprintf("/run/user/%d", a.uid)
	if _, err := os.Stat(run); err != nil {
		return env // not logged in
	}
	env = append(env, "XDG_RUNTIME_DIR="+run, "DBUS_SESSION_BUS_ADDRESS=unix:path="+run+"/bus")
	if s := newest(run + "/wayland-*[0-9]"); s != "" {
		env = append(env, "WAYLAND_DISPLAY="+filepath.Base(s))
	}
	if s := newest(run + "/sway-ipc.*.sock"); s != "" {
		env = append(env, "SWAYSOCK="+s)
	}
	if s := newest(run + "/hypr/*/.socket.sock"); s != "" {
		env = append(env, "HYPRLAND_INSTANCE_SIGNATURE="+filepath.Base(filepath.Dir(s)))
	}
	return env
}

// newest prefers the latest of the sockets: one that was killed leaves its own behind.
func newest(pattern string) string {
	var best string
	var when time.Time
	names, _ := filepath.Glob(pattern) // the patterns are well-formed
	for _, name := range names {
		if info, err := os.Stat(name); err == nil && info.ModTime().After(when) {
			best, when = name, info.ModTime()
		}
	}
	return best
}

// session is a login session of logind.
type session struct {
	id, seat, kind, scope string
	uid                   int
}

func (s session) cgroup() string {
	return fmt.Sprintf("/sys/fs/cgroup/user.slice/user-%d.slice/%s", s.uid, s.scope)
}

// session returns the user's active login session, else any. It reads logind's state files, as sd_session_get_state
// does, and so works while the bus is down.
func (a account) session() (session, error) {
	files, _ := filepath.Glob("/run/systemd/sessions/*") // the pattern is well-formed
	var found *session
	for _, file := range files {
		v, err := readVariables(file)
		if err != nil || v["UID"] != strconv.Itoa(a.uid) || v["CLASS"] != "user" || v["SCOPE"] == "" {
			continue // also logind's .ref pipes, which are not state files
		}
		if found == nil || v["ACTIVE"] == "1" {
			found = &session{id: filepath.Base(file), seat: v["SEAT"], kind: v["TYPE"], scope: v["SCOPE"], uid: a.uid}
		}
	}
	if found == nil {
		return session{}, fmt.Errorf("cannot enter a session of %s: there is none", a.name)
	}
	return *found, nil
}

// readVariables reads NAME=value lines. Anything but a regular file is an error: reading a pipe would block.
func readVariables(path string) (map[string]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("cannot read %s: not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	vars := map[string]string{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if name, value, ok := strings.Cut(lines.Text(), "="); ok {
			vars[name] = value
		}
	}
	return vars, lines.Err()
}
