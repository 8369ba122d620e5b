package probe

import (
	"regexp"
	"strings"
)

// place is the position of a process in the tree of units.
type place struct {
	unit    string   // the unit the system manager started it in
	slices  []string // of the system manager, outermost first
	session string   // logind id, empty outside sessions
}

var (
	userManager  = regexp.MustCompile(`^user@[0-9]+\.service$`)
	sessionScope = regexp.MustCompile(`^session-([A-Za-z0-9]+)\.scope$`)
)

// placeOf parses /proc/PID/cgroup.
//
// It uses only the part of the path that the system manager has created. Below a service or a scope
// the tree may be delegated, so its owner could name a cgroup nvidia-persistenced.service or ai.slice
// to pass for a permitted holder. So the slices and the unit end at the first service or scope, or at
// a cgroup that is neither, as a container manager creates. Under a user manager the unit inside is
// appended behind a slash, as in "user@1000.service/wayland-wm@hyprland.service". The name of a unit
// cannot contain a slash.
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

// hierarchy returns the path in the hierarchy of systemd: the unified one, or the named one on a host
// with cgroups version 1 (cgroups(7)).
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

// The limits of a unit name (systemd, UNIT_NAME_MAX), and of the number of slices in a path.
const (
	maxUnit   = 255
	maxSlices = 64
)

func isSlice(name string) bool { return len(name) <= maxUnit && strings.HasSuffix(name, ".slice") }

// isUnit reports whether name is of a unit type that has processes.
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

// unescape removes the underscore that systemd prepends to a name that could be a file of the kernel
// (systemd, cg_escape).
func unescape(name string) string { return strings.TrimPrefix(name, "_") }
