package probe

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/dubnium/dubnium/observer"
)

// Identify returns the identity of a process: a Holder without the GPU and the nodes.
func Identify(proc string, pid int) (observer.Holder, error) {
	name, err := command(proc, pid)
	if err != nil {
		return observer.Holder{}, err
	}
	uid, err := userOf(proc, pid)
	if err != nil {
		return observer.Holder{}, err
	}
	where, err := placeIn(proc, pid)
	if gone(err) {
		return observer.Holder{}, err
	}
	return observer.Holder{
		PID: pid, Command: name, UID: uid,
		Unit: where.unit, Slices: where.slices, Session: where.session,
	}, nil
}

// identify is Identify, and reports whether the process still exists. One that exists and cannot be
// identified is in no unit, so no policy permits it.
func identify(proc string, pid int) (h observer.Holder, exists bool) {
	h, err := Identify(proc, pid)
	if err != nil {
		h = observer.Holder{PID: pid, Command: "unknown", Slices: []string{}}
	}
	return h, !gone(err)
}

// processOf converts the identity of a process.
func processOf(h observer.Holder) observer.Process {
	return observer.Process{PID: h.PID, Command: h.Command, UID: h.UID, Unit: h.Unit, Session: h.Session}
}

// placeIn reads the place of a process. On an error the place is empty: a user can nest control groups
// until the path is too long for the kernel, which then cuts it or, before Linux 6.8, fails with
// ENAMETOOLONG.
func placeIn(proc string, pid int) (place, error) {
	text, err := read(filepath.Join(proc, strconv.Itoa(pid), "cgroup"), maxCgroup)
	if err != nil {
		return place{slices: []string{}}, err
	}
	return placeOf(string(text)), nil
}

// userOf reads the real user id. The owner of /proc/PID is not it: it is root for every process that
// is not dumpable (proc(5)).
func userOf(proc string, pid int) (uint32, error) {
	text, err := status(proc, pid)
	if err != nil {
		return 0, err
	}
	uid, err := realUser(text)
	if err != nil {
		return 0, fmt.Errorf("cannot read the user of pid %d: %w", pid, err)
	}
	return uid, nil
}

func realUser(status []byte) (uint32, error) {
	ids := strings.Fields(field(status, "Uid"))
	if len(ids) == 0 {
		return 0, errors.New("no Uid line in its status")
	}
	uid, err := strconv.ParseUint(ids[0], 10, 32)
	return uint32(uid), err
}

// The number of bytes to read. In status all fields that are parsed precede the list of groups, which
// may be long. A cgroup file has a path of up to 4096 bytes for each hierarchy.
const (
	maxStatus = 4096
	maxCgroup = 1 << 16
)

func status(proc string, pid int) ([]byte, error) {
	return read(filepath.Join(proc, strconv.Itoa(pid), "status"), maxStatus)
}

// field returns the value of a line of a status file. The name of a process, the only part that users
// choose, has no line breaks: the kernel escapes them.
func field(status []byte, key string) string {
	for line := range bytes.Lines(status) {
		if name, value, found := bytes.Cut(line, []byte{':'}); found && string(name) == key {
			return string(bytes.TrimSpace(value))
		}
	}
	return ""
}
