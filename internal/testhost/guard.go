package testhost

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// What belongs to the machine itself.
var (
	realSockets = []string{"/run/dbus/system_bus_socket", "/var/run/dbus/system_bus_socket"}
	realState   = []string{"/run/mode-controller", "/var/lib/mode-controller"}
)

// RefuseRealBus fails when the address is the machine's own system bus, which
// the empty one stands for, or when a path lies in its mode controller's state.
// A test calls it before it lets anything loose.
func RefuseRealBus(address string, paths ...string) error {
	if address == "" {
		return fmt.Errorf("cannot run here: no bus address means the machine's own system bus")
	}
	for part := range strings.SplitSeq(address, ";") {
		if socket, ok := busSocket(part); ok && isOneOf(socket, realSockets) {
			return fmt.Errorf("cannot run here: %s is the machine's own system bus", part)
		}
	}
	for _, path := range paths {
		for dir := resolve(path); ; dir = filepath.Dir(dir) {
			if isOneOf(dir, realState) {
				return fmt.Errorf("cannot run here: %s is the machine's own state", path)
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return nil
}

func busSocket(address string) (string, bool) {
	options, ok := strings.CutPrefix(address, "unix:")
	if !ok {
		return "", false
	}
	for option := range strings.SplitSeq(options, ",") {
		if path, ok := strings.CutPrefix(option, "path="); ok {
			return path, true
		}
	}
	return "", false
}

// isOneOf compares files, not spellings, where the files exist.
func isOneOf(path string, others []string) bool {
	info, err := os.Stat(path)
	for _, other := range others {
		if resolve(path) == resolve(other) {
			return true
		}
		if o, otherErr := os.Stat(other); err == nil && otherErr == nil && os.SameFile(info, o) {
			return true
		}
	}
	return false
}

// resolve follows the links of the part of a path that exists.
func resolve(path string) string {
	path, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	if parent := filepath.Dir(path); parent != path {
		return filepath.Join(resolve(parent), filepath.Base(path))
	}
	return path
}
