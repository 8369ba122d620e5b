package probe

import (
	"regexp"
	"strings"
)

// place is where a process stands among systemd's units.
type place struct {
	unit    string   // the unit the system manager started it in
	slices  []string // of the system manager, outermost first
	session string   // logind id, empty outside sessions
}

var (
	userManager  = regexp.MustCompile(`^user@[0-9]+\.service$`)
	sessionScope = regexp.MustCompile(`^session-([A-Za-z0-9]+)\.scope$`)
)

// placeOf reads /proc/PID/cgroup.
//
// Only what the system manager made is believed. Below a service or a scope the
// tree may be delegated, and there anybody can name a cgroup
// nvidia-persistenced.service or ai.slice to pass for a permitted holder. So the
// slices and the unit end at the first service or scope, or at what is neither, which
// a container manager made beside systemd. In a user's manager the unit inside is the
// telling one: it stands behind a slash, as in
// "user@1000.service/wayland-wm@hyprland.service", and no unit's own name has a slash
// in it.
func placeOf(text string) place {
	where := place{slices: []string{}}
	path, absolute := strings.CutPrefix(strings.TrimSuffix(hierarchy(text), " (deleted)"), "/")
	if !absolute {
		return where
	}
	parts := strings.Split(path, "/")
	for i, part := range parts {
		part = unescape(part)
		switch {
		case isSlice(part) && len(where.slices) < maxSlices:
			where.slices = append(where.slices, part)
			continue
		case isUnit(part):
			where.unit = part
			if userManager.MatchString(part) {
				where.unit += userUnit(parts[i+1:])
			}
			if found := sessionScope.FindStringSubmatch(part); found != nil {
				where.session = found[1]
			}
		}
		break
	}
	return where
}

// hierarchy picks systemd's own: the unified one, or the named one of a host
// that still has version 1 (cgroups(7)).
func hierarchy(text string) string {
	unified := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		fields := strings.SplitN(line, ":", 3)
		switch {
		case len(fields) != 3:
		case fields[1] == "name=systemd":
			return fields[2]
		case fields[0] == "0" && fields[1] == "":
			unified = fields[2]
		}
	}
	return unified
}

func userUnit(parts []string) string {
	for _, part := range parts {
		if part = unescape(part); isUnit(part) {
			return "/" + part
		}
	}
	return ""
}

// The limits of a unit's name (systemd, UNIT_NAME_MAX), and of what is believed of a
// path.
const (
	maxUnit   = 255
	maxSlices = 64
)

func isSlice(name string) bool { return len(name) <= maxUnit && strings.HasSuffix(name, ".slice") }

// isUnit knows the unit types that have processes.
func isUnit(name string) bool {
	if len(name) > maxUnit {
		return false
	}
	for _, suffix := range []string{".service", ".scope", ".socket", ".mount", ".swap"} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
}

// unescape takes off the underscore that systemd puts before a unit's name when
// it looks like a file of the kernel's (systemd, cg_escape).
func unescape(name string) string { return strings.TrimPrefix(name, "_") }
