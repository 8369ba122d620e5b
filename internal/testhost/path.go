package testhost

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/godbus/dbus/v5"
)

// escapeLabel spells a name as one element of an object path, as systemd's
// bus_label_escape does: letters and digits stay, a leading digit does not.
func escapeLabel(name string) string {
	if name == "" {
		return "_"
	}
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		letter := c|0x20 >= 'a' && c|0x20 <= 'z'
		if letter || i > 0 && c >= '0' && c <= '9' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "_%02x", c)
		}
	}
	return b.String()
}

func unescapeLabel(label string) string {
	if label == "_" {
		return ""
	}
	var b strings.Builder
	for i := 0; i < len(label); i++ {
		if label[i] == '_' && i+2 < len(label) {
			if c, err := strconv.ParseUint(label[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(c))
				i += 2
				continue
			}
		}
		b.WriteByte(label[i])
	}
	return b.String()
}

const (
	systemdPath = "/org/freedesktop/systemd1"
	loginPath   = "/org/freedesktop/login1"
	noPath      = dbus.ObjectPath("/")
)

// UnitPath is a unit's object path.
func UnitPath(name string) dbus.ObjectPath {
	return dbus.ObjectPath(systemdPath + "/unit/" + escapeLabel(name))
}

// SessionPath is a session's object path.
func SessionPath(id string) dbus.ObjectPath {
	return dbus.ObjectPath(loginPath + "/session/" + escapeLabel(id))
}

func jobPath(id uint32) dbus.ObjectPath {
	if id == 0 {
		return noPath
	}
	return dbus.ObjectPath(fmt.Sprintf("%s/job/%d", systemdPath, id))
}

func userPath(uid uint32) dbus.ObjectPath {
	return dbus.ObjectPath(fmt.Sprintf("%s/user/_%d", loginPath, uid))
}

func seatPath(seat string) dbus.ObjectPath {
	if seat == "" {
		return noPath
	}
	return dbus.ObjectPath(loginPath + "/seat/" + escapeLabel(seat))
}

// leaf is the unescaped last element of a path below a prefix.
func leaf(path dbus.ObjectPath, prefix string) (string, bool) {
	label, ok := strings.CutPrefix(string(path), prefix+"/")
	if !ok || strings.Contains(label, "/") {
		return "", false
	}
	return unescapeLabel(label), true
}
